"""Stopped anywhere and continued: the same numbers, bit for bit, as without the stop."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training_cases import (
    ADAM,
    DELTA_GCLIP,
    MOMENTUM,
    SGD,
    VAE,
    StopAt,
    assert_same_numbers,
    checkpoint,
    epochs,
    leftovers,
    numbers,
    records,
    train,
    train_in_pieces,
    trial_of,
)

from deltagclip_cli.optim import TABLE as OPTIMIZERS
from deltagclip_cli.parts.schedules import TABLE as SCHEDULES
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training.trainer import Ending

AUGMENTED = {"augment": ["flip", {"name": "random_resized_crop", "scale": [0.5, 1.0]}]}
FEW = {"train": 6, "test": 3, "batch_size": 3}
EPOCH = {"name": "multistep", "milestones": [2], "factor": 0.5, "warmup": 1}
STEP = {"name": "cosine", "unit": "step", "warmup": 3}

Compare = Callable[..., None]


@pytest.fixture
def compare(tmp_path: Path) -> Compare:
    """Compares a trial stopped after every so many steps with itself undisturbed."""

    def run(trial: Trial, steps: int = 1) -> None:
        assert train(trial, tmp_path / "whole") is not Ending.STOPPED
        starts = train_in_pieces(trial, tmp_path / "pieces", steps)
        pieces = RunFolder.of(tmp_path / "pieces", trial)
        assert starts == math.ceil(checkpoint(pieces)["step"] / steps) > 1
        assert_same_numbers(pieces, RunFolder.of(tmp_path / "whole", trial))
        assert not leftovers(pieces.path)

    return run


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "delta_gclip": (DELTA_GCLIP, {}),
    "delta_gclip, a norm for each tensor": ({**DELTA_GCLIP, "norm_scope": "parameter"}, {}),
    "delta_gclip, a schedule of epochs": (DELTA_GCLIP, {"schedule": EPOCH}),
    "delta_gclip, a schedule of steps": (DELTA_GCLIP, {"schedule": STEP}),
    "delta_gclip, augmented": (DELTA_GCLIP, {"data": AUGMENTED}),
    "delta_gclip, bf16": (DELTA_GCLIP, {"precision": "bf16"}),
    "delta_gclip, every step recorded": (DELTA_GCLIP, {"log_every": 1}),
    "delta_gclip, all in one batch": (DELTA_GCLIP, {"data": {"batch_size": "full"}, "epochs": 12}),
    "adam": (ADAM, {}),
    "adam, a schedule of steps": (ADAM, {"schedule": STEP}),
    "adam, fp64": (ADAM, {"precision": "fp64"}),
    "adam, augmented, every second step recorded": (ADAM, {"data": AUGMENTED, "log_every": 2}),
    "adam, a variational autoencoder": (ADAM, VAE),
    "adam, batch norm": (ADAM, {"model": "resnet18", "epochs": 1, "data": FEW}),
    "sgd": (SGD, {}),
    "sgd, a schedule of steps": (SGD, {"schedule": STEP}),
    "momentum": (MOMENTUM, {}),
    "momentum, a schedule of epochs": (MOMENTUM, {"schedule": EPOCH}),
    "momentum, a schedule of steps": (MOMENTUM, {"schedule": STEP}),
    "momentum, a variational autoencoder": ({**MOMENTUM, "lr": 1e-4}, {**VAE, "schedule": STEP}),
}


@pytest.mark.parametrize(("optimizer", "settings"), CASES.values(), ids=CASES.keys())
def test_a_trial_stopped_after_every_step_ends_with_the_same_bits(
    optimizer: dict[str, Any], settings: dict[str, Any], compare: Compare
) -> None:
    compare(trial_of(optimizer, **settings))


@pytest.mark.parametrize("steps", [2, 3, 4, 5, 7])
def test_it_may_be_stopped_after_any_number_of_steps(steps: int, compare: Compare) -> None:
    compare(trial_of(ADAM, schedule=STEP, data=AUGMENTED), steps)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS.all().keys() - {"muon"}))
def test_every_optimizer_continues_with_the_same_bits(name: str, compare: Compare) -> None:
    options = {"gclip": {"gamma": 0.9}, "delta_gclip": {"gamma": 0.9, "delta": 0.8}}.get(name, {})
    compare(trial_of({"name": name, "lr": 1e-3, **options}), 3)


OPTIONS_OF_SCHEDULES: dict[str, dict[str, Any]] = {
    "constantlr": {"factor": 0.5, "total_iters": 2},
    "cosine": {},
    "cosineannealinglr": {"T_max": 3},
    "cosineannealingwarmrestarts": {"T_0": 2},
    "cycliclr": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 2},
    "exponentiallr": {"gamma": 0.5},
    "linearlr": {"total_iters": 2},
    "multistep": {"milestones": [1, 2]},
    "multisteplr": {"milestones": [1, 2]},
    "onecyclelr": {"max_lr": 0.1, "total_steps": 13},
    "polynomiallr": {"total_iters": 3},
    "reducelronplateau": {"patience": 0, "threshold": 0.5},
    "steplr": {"step_size": 1},
}


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        (name, unit)
        for name in OPTIONS_OF_SCHEDULES
        for unit in ("epoch", "step")
        if (name, unit) != ("reducelronplateau", "step")
    ],
)
def test_every_schedule_continues_with_the_same_bits(
    name: str, unit: str, compare: Compare
) -> None:
    schedule = {"name": name, "unit": unit, **OPTIONS_OF_SCHEDULES[name]}
    compare(trial_of(MOMENTUM, schedule=schedule), 3)


def test_every_schedule_is_among_those_that_are_tested() -> None:
    assert set(SCHEDULES.all()) - set(OPTIONS_OF_SCHEDULES) <= {"swalr"}


def test_a_stop_in_mid_epoch_leaves_a_checkpoint_of_that_step(runs: Path) -> None:
    trial = trial_of()
    assert train(trial, runs, stop=StopAt(6)) is Ending.STOPPED
    folder = RunFolder.of(runs, trial)
    state = checkpoint(folder)
    assert (state["epoch"], state["batch"], state["step"]) == (1, 2, 6)
    assert len(records(folder)) == 1
    assert folder.state == "interrupted"
    assert not folder.result_file.exists()


def test_a_stop_that_is_asked_for_in_the_last_step_comes_too_late(runs: Path) -> None:
    stop = StopAt(*range(12, 100))
    assert train(trial_of(), runs, stop=stop) is Ending.FINISHED
    assert stop.asked == 11


def test_checkpoints_by_the_clock_change_nothing(tmp_path: Path) -> None:
    """One after every step, and none between: the trial is stopped where only a clock saved."""
    often = trial_of(ADAM, checkpoint={"epochs": 100, "minutes": 1e-9})
    seldom = trial_of(ADAM, checkpoint={"epochs": 100, "minutes": 1e9})
    assert often.identity == seldom.identity

    class Crash(Exception):
        pass

    def crash_after(steps: int) -> Callable[[], bool]:
        stop = StopAt(steps)

        def asked() -> bool:
            if stop():
                raise Crash
            return False

        return asked

    for trial, saved in ((often, 6), (seldom, None)):
        runs = tmp_path / str(saved)
        with pytest.raises(Exception, match="Crash"):
            train(trial, runs, stop=crash_after(7))
        folder = RunFolder.of(runs, trial)
        assert folder.checkpoint_file.exists() == (saved is not None)
        if saved is not None:
            assert checkpoint(folder)["step"] == saved
        assert train(trial, runs) is Ending.FINISHED
    one, other = (RunFolder.of(tmp_path / name, often) for name in ("6", "None"))
    assert_same_numbers(one, other)


def test_a_trial_that_diverges_does_so_again_after_a_stop(tmp_path: Path) -> None:
    schedule = {"name": "multistep", "milestones": [6], "factor": 1e35, "unit": "step"}
    trial = trial_of({"name": "delta_gclip", "lr": 0.1, "gamma": 1, "delta": 1}, schedule=schedule)
    assert train(trial, tmp_path / "whole") is Ending.DIVERGED
    train_in_pieces(trial, tmp_path / "pieces")
    whole, pieces = (RunFolder.of(tmp_path / name, trial) for name in ("whole", "pieces"))
    assert pieces.state == "diverged"
    assert numbers(pieces) == numbers(whole)
    results = [json.loads(folder.result_file.read_text()) for folder in (whole, pieces)]
    assert results[0]["diverged"] == results[1]["diverged"]
    assert results[0]["regimes"] == results[1]["regimes"]


def test_the_rhythm_of_records_and_checkpoints_may_change_between_starts(tmp_path: Path) -> None:
    whole = trial_of(ADAM)
    train(whole, tmp_path / "whole")
    first = trial_of(ADAM, log_every=1, checkpoint={"epochs": 2})
    second = trial_of(ADAM, log_every=3, checkpoint={"epochs": 1})
    assert train(first, tmp_path / "pieces", stop=StopAt(6)) is Ending.STOPPED
    assert train(second, tmp_path / "pieces") is Ending.FINISHED
    pieces = RunFolder.of(tmp_path / "pieces", first)
    expected = numbers(RunFolder.of(tmp_path / "whole", whole))
    assert [record for record in numbers(pieces) if "train/loss" in record] == expected
    steps = [record["step"] for record in records(pieces) if "step/train/loss" in record]
    assert steps == [1, 2, 3, 4, 5, 6, 7, 11]


def test_seconds_and_speed_are_of_the_steps_that_were_made(runs: Path) -> None:
    trial = trial_of()
    train(trial, runs, stop=StopAt(6))
    train(trial, runs)
    speeds = epochs(RunFolder.of(runs, trial), "perf/samples_per_second")
    assert len(speeds) == 3
    assert all(speed > 0 for speed in speeds)
