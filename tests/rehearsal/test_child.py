"""The process in which parts are built: how it may end, and what is told of that."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny_spec import TINY, write_spec

from deltagclip_cli.core import SpecError
from deltagclip_cli.launch import rehearsal
from deltagclip_cli.launch.forkserver import ForkServer
from deltagclip_cli.launch.rehearsal import Stage
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import Trial, expand


def die(trials: Sequence[Trial], stage: Stage, folder: Path, trial: Any) -> None:
    trial.value = 1
    os.kill(os.getpid(), signal.SIGKILL)


def leave(trials: Sequence[Trial], stage: Stage, folder: Path, trial: Any) -> None:
    trial.value = 1
    os._exit(0)


def hang(trials: Sequence[Trial], stage: Stage, folder: Path, trial: Any) -> None:
    trial.value = 1
    time.sleep(60)


def check_tiny(folder: Path) -> None:
    spec = load_spec(write_spec(folder, TINY))
    trials = list(expand("tiny", spec.experiments["tiny"]))
    rehearsal.check_parts(spec, trials, lambda trial: Stage("cpu"), folder, ForkServer().call)


@pytest.mark.parametrize(
    ("end", "patience", "words"),
    [
        (die, 60.0, "was killed, or ended itself"),
        (leave, 60.0, "was killed, or ended itself"),
        (hang, 1.0, "was not done within 1 s"),
    ],
)
def test_a_process_that_builds_nothing_is_told_of_with_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: Any, patience: float, words: str
) -> None:
    monkeypatch.setattr(rehearsal, "_rehearse_apart", end)
    monkeypatch.setattr(rehearsal, "_PATIENCE_SECONDS", patience)
    with pytest.raises(SpecError) as caught:
        check_tiny(tmp_path)
    assert "spec.yaml:9:7: tiny › optimizers › delta-gclip: the process" in str(caught.value)
    assert words in str(caught.value)
