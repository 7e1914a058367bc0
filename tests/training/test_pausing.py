"""Trainings that pause where one in so many of their evaluations is made, and go on from there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from training_cases import (
    ADAM,
    DELTA_GCLIP,
    assert_same_numbers,
    numbers,
    train,
    trial_of,
)

from deltagclip_cli.core import ExitCode
from deltagclip_cli.runs.folder import RunFolder, State
from deltagclip_cli.runs.hold import create
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training.process import StopRequest
from deltagclip_cli.training.worker import work_together

EPOCHS: dict[str, Any] = {"epochs": 9}
STEPS: dict[str, Any] = {"epochs": None, "steps": 30, "evaluate_every": 3}  # within passes


def go_on(trials: Sequence[Trial], runs: Path, part: int = 1) -> set[ExitCode]:
    folders = [RunFolder.of(runs, trial) for trial in trials]
    for folder, trial in zip(folders, trials, strict=True):
        create(folder, trial)
    codes = work_together(
        folders, data_dir=Path("nowhere"), device="cpu", part=part, stop=StopRequest()
    )
    return {*codes.values()}


@pytest.mark.parametrize("length", [EPOCHS, STEPS], ids=["epochs", "steps"])
def test_it_pauses_at_each_part_and_comes_to_the_bits_of_one_that_never_did(
    runs: Path, length: dict[str, Any]
) -> None:
    trial = trial_of(DELTA_GCLIP, **length)
    folder = RunFolder.of(runs, trial)
    for part, rounds in ((9, 1), (3, 3)):
        assert go_on([trial], runs, part) == {ExitCode.PAUSED}
        assert len(numbers(folder)) == rounds
        assert folder.state is State.INTERRUPTED
        assert folder.reason.endswith("waits for the other settings of its search")
        assert folder.checkpoint_file.exists()
    assert go_on([trial], runs) == {ExitCode.OK}
    whole = runs.parent / "whole"
    train(trial, whole)
    assert_same_numbers(folder, RunFolder.of(whole, trial))


def test_one_that_is_there_already_pauses_again(runs: Path) -> None:
    trial = trial_of(DELTA_GCLIP, **EPOCHS)
    for _ in range(2):
        assert go_on([trial], runs, 3) == {ExitCode.PAUSED}
    assert len(numbers(RunFolder.of(runs, trial))) == 3


def test_members_of_a_stack_pause_each_at_its_own_part(runs: Path) -> None:
    long, short = (trial_of(ADAM, label=f"e{n}", epochs=n, stack=2, seed=n) for n in (9, 6))
    assert go_on([long, short], runs, 3) == {ExitCode.PAUSED}
    assert [len(numbers(RunFolder.of(runs, each))) for each in (long, short)] == [3, 2]
    assert go_on([long, short], runs) == {ExitCode.OK}
    whole = runs.parent / "whole"
    assert go_on([long, short], whole) == {ExitCode.OK}
    for each in (long, short):
        assert_same_numbers(RunFolder.of(runs, each), RunFolder.of(whole, each))


def test_a_training_that_ends_before_its_part_has_ended(runs: Path) -> None:
    trial = trial_of({**DELTA_GCLIP, "lr": 1e30, "gamma": 1e30}, **EPOCHS)
    assert go_on([trial], runs, 3) == {ExitCode.FAILED}
    assert RunFolder.of(runs, trial).state is State.DIVERGED
