"""``deltagclip tensorboard``: what is wrong is said before TensorBoard is started."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NoReturn

import pytest
from invocation import Invoke


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is started, and nothing remembered elsewhere."""

    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "runs: there is no such folder.\n  Name a folder with runs"),
        ("tinny", "tinny: neither an experiment in runs nor a folder.\n  experiments: none"),
        (".", ".: there are no runs.\n  A run is a folder with trial.yaml"),
        (". --group (", "--group (: not a regular expression"),
    ],
)
def test_what_cannot_be_shown_is_a_message(words: str, message: str, deltagclip: Invoke) -> None:
    done = deltagclip("tensorboard", *words.split())
    assert done.exit_code == 2
    assert message in done.stderr


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_is_none_is_refused(port: str, deltagclip: Invoke) -> None:
    done = deltagclip("tensorboard", "--port", port)
    assert done.exit_code == 2
    assert "--port" in done.stderr
