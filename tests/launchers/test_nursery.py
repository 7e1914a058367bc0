"""The processes that workers are: what is left of one that ended before its training began."""

from __future__ import annotations

from multiprocessing.connection import wait
from pathlib import Path

import pytest

from deltagclip_cli.launchers.nursery import Nursery

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nursery() -> Nursery:
    return Nursery()


def test_the_last_words_of_a_worker_are_what_it_added_to_its_log(
    nursery: Nursery, tmp_path: Path
) -> None:
    log = tmp_path / "log.txt"
    log.write_text("epoch 1/2\n")
    worker = nursery.start(["worker", str(tmp_path), "--nonsense"], log)
    wait([worker.sentinel])
    assert worker.exit_code == 2
    assert "No such option: --nonsense" in worker.last_words()
    assert "epoch" not in worker.last_words()
    log.unlink()
    assert worker.last_words() == ""
    worker.forget()
