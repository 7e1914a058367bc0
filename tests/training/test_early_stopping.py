"""Trainings that end when a metric becomes no better, and do so at the same step however run."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from training_cases import (
    ADAM,
    SGD,
    assert_same_numbers,
    checkpoint,
    epochs,
    result,
    same,
    train,
    train_in_pieces,
    trial_of,
)

from deltagclip_cli.core import UsageError
from deltagclip_cli.results.read.run import Outcome
from deltagclip_cli.results.read.tree import read_trials
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import create
from deltagclip_cli.spec.search_settings import EarlyStopping
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training.patience import Patience
from deltagclip_cli.training.process import StopRequest
from deltagclip_cli.training.trainer import Ending
from deltagclip_cli.training.worker import work_together

EARLY = {"metric": "validation/loss", "patience": 2}
STUCK: dict[str, Any] = {  # whose loss on the validation split soon becomes worse
    "optimizer": {**SGD, "lr": 0.5},
    "data": {"validation": 20, "noise": 1.0},
    "epochs": 30,
    "early_stopping": EARLY,
}


def stuck(**settings: Any) -> Trial:
    return trial_of(**{**STUCK, **settings})


def finished(trial: Trial, runs: Path) -> RunFolder:
    assert train(trial, runs) is Ending.FINISHED
    return RunFolder.of(runs, trial)


def test_it_ends_when_the_metric_has_not_become_better_for_so_long(
    runs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "deltagclip_cli"):
        folder = finished(stuck(checkpoint={"epochs": 5}), runs)
    values = epochs(folder, "validation/loss")
    best = min(range(len(values)), key=values.__getitem__)
    assert len(values) == best + 3 < 30
    told = json.loads(folder.result_file.read_text())
    steps = 3 * (best + 1)  # of 80 samples in batches of 32
    assert told["ended_early"] == {
        "metric": "validation/loss",
        "evaluations": 2,
        "best": {"value": values[best], "epoch": best + 1, "step": steps},
    }
    assert told["steps"] == checkpoint(folder)["step"] == steps + 6
    assert "and became no better in 2 evaluations" in caplog.text
    assert folder.reason == f"ended early: validation/loss was best at step {steps:,}"


def test_one_that_becomes_better_to_its_end_says_nothing(runs: Path) -> None:
    folder = finished(stuck(epochs=2), runs)
    assert "ended_early" not in json.loads(folder.result_file.read_text())
    assert folder.reason == ""


@pytest.mark.parametrize(
    "settings",
    [
        {},
        pytest.param(
            {"epochs": None, "steps": 90, "evaluate_every": 2, "schedule": "cosine"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"optimizer": {**ADAM, "lr": 0.1}, "ema": 0.5, "checkpoint": {"epochs": 4}},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["in epochs", "in steps", "averaged, with few checkpoints"],
)
def test_it_ends_at_the_same_step_wherever_it_was_interrupted(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    trial = stuck(**settings)
    undisturbed = finished(trial, tmp_path / "undisturbed")
    assert "ended_early" in result(undisturbed)
    assert train_in_pieces(trial, tmp_path / "pieces", steps=5) > 2
    assert_same_numbers(RunFolder.of(tmp_path / "pieces", trial), undisturbed)


def test_one_that_was_killed_before_its_result_only_writes_that(runs: Path) -> None:
    folder = finished(stuck(), runs)
    before, state = result(folder), checkpoint(folder)
    folder.result_file.unlink()
    finished(stuck(), runs)
    assert result(folder) == before
    assert same(checkpoint(folder)["model"], state["model"])


def test_the_numbers_are_those_of_a_training_that_goes_on(runs: Path) -> None:
    folder = finished(stuck(), runs)
    whole = finished(stuck(early_stopping=None, epochs=5), runs)
    assert epochs(folder, "test/loss")[:5] == epochs(whole, "test/loss")[:5]


@pytest.mark.slow
def test_members_of_a_stack_end_each_by_itself(runs: Path) -> None:
    trials = [stuck(stack=3, seed=seed, determinism="exact") for seed in range(3)]
    folders = [RunFolder.of(runs, each) for each in trials]
    for folder, trial in zip(folders, trials, strict=True):
        create(folder, trial)
    work_together(folders, data_dir=Path("nowhere"), device="cpu", stop=StopRequest())
    steps = [result(folder)["steps"] for folder in folders]
    assert len(set(steps)) > 1
    for folder in folders:
        values = epochs(folder, "validation/loss")
        assert values.index(min(values)) == len(values) - 3


def test_comparisons_read_it_as_finished(runs: Path) -> None:
    folder = finished(stuck(), runs)
    (run,) = read_trials([folder.path]).runs
    assert (run.outcome, run.reason) == (Outcome.FINISHED, "")
    told = json.loads(folder.result_file.read_text())
    told["steps"] += 3
    told["epochs"] += 1
    folder.result_file.write_text(json.dumps(told))
    (run,) = read_trials([folder.path]).runs  # which ends before its result says
    assert run.outcome is Outcome.UNFINISHED


def test_a_metric_that_is_not_measured_ends_it_in_words() -> None:
    patience = Patience(
        EarlyStopping.model_construct(metric="validation/f1", direction="maximize", patience=1)
    )
    with pytest.raises(UsageError, match="f1, which is not measured"):
        patience.look({"train/loss": 1.0, "perf/epoch_seconds": 1.0}, 1, 1)


@pytest.mark.parametrize(
    ("direction", "values", "ends_at"),
    [
        ("minimize", [3, 2, 2, 2], 4),
        ("minimize", [3, 4, 2, 3, 1, 5, 5], 7),
        ("maximize", [0.1, 0.2, 0.2, 0.1], 4),
        ("minimize", [float("nan"), float("nan")], 2),
        ("minimize", [float("nan"), 1, float("nan"), 2], 4),
    ],
)
def test_equal_values_and_what_is_no_number_are_no_better(
    direction: str, values: list[float], ends_at: int
) -> None:
    wanted = EarlyStopping.model_construct(metric="train/loss", direction=direction, patience=2)
    patience = Patience(wanted)
    ends = []
    for number, value in enumerate(values, start=1):
        again = Patience(wanted)  # as after a restart
        again.load_state_dict(patience.state_dict())
        again.look({"train/loss": value}, number, number)
        patience = again
        ends.append(patience.is_over)
    assert ends.index(True) + 1 == ends_at
