"""The processes that workers are: what is left of one that ended before its training began."""

from __future__ import annotations

import os
import subprocess
import sys
from multiprocessing.connection import wait
from pathlib import Path

import pytest

from deltagclip_cli.launchers.nursery import Nursery

CALL = """
import time
from deltagclip_cli.launchers import nursery
nursery._LOADED = []  # torch takes seconds
nursery.Nursery().call(time.sleep, 0, should_stop=lambda: False)
"""


@pytest.fixture(scope="module")
def nursery() -> Nursery:
    return Nursery()


@pytest.mark.slow
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


@pytest.mark.parametrize("name", ["x" * 120, "r\udcff\n", "nowhere"])
def test_the_folder_for_temporary_files_may_be_any(tmp_path: Path, name: str) -> None:
    """The path of a socket has at most 107 bytes."""
    folder = tmp_path / name
    if name != "nowhere":
        folder.mkdir()
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", CALL], env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
