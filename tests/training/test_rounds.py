"""Trainings that are counted in steps, evaluated every so many of them, and averaged."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from training_cases import (
    ADAM,
    MOMENTUM,
    SGD,
    VAE,
    StopAt,
    assert_same_numbers,
    checkpoint,
    epochs,
    never,
    numbers,
    records,
    result,
    same,
    train,
    train_in_pieces,
    trial_of,
)

from deltagclip_cli.core import UsageError
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import HeldFolder, create
from deltagclip_cli.spec.trial import Course, Trial
from deltagclip_cli.training.assembly import Parts, assemble
from deltagclip_cli.training.meter import AveragedWeights
from deltagclip_cli.training.sinks import Beginning, Sink, make_recording
from deltagclip_cli.training.trainer import Ending, Trainer

AUGMENTED = {"augment": ["flip", {"name": "random_resized_crop", "scale": [0.5, 1.0]}]}
NORMS = {"model": "resnet18", "data": {"train": 6, "test": 3, "batch_size": 2}}
IN_STEPS = {"epochs": None, "steps": 10}  # of four in a pass


def finished(trial: Trial, runs: Path, **options: Any) -> RunFolder:
    assert train(trial, runs, **options) is Ending.FINISHED
    return RunFolder.of(runs, trial)


def places(folder: RunFolder) -> list[tuple[float, int]]:
    return [(each["epoch"], each["step"]) for each in records(folder) if "test/loss" in each]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"steps": 10}, [(1, 4), (2, 8), (2.5, 10)]),
        ({"steps": 3}, [(0.75, 3)]),
        ({"steps": 8}, [(1, 4), (2, 8)]),
        ({"steps": 10, "evaluate_every": 3}, [(0.75, 3), (1.5, 6), (2.25, 9), (2.5, 10)]),
        ({"steps": 10, "evaluate_every": 5}, [(1.25, 5), (2.5, 10)]),
        ({"steps": 10, "evaluate_every": 8}, [(2, 8), (2.5, 10)]),
        ({"steps": 10, "evaluate_every": 99}, [(2.5, 10)]),
        ({"epochs": 2, "evaluate_every": 3}, [(0.75, 3), (1.5, 6), (2, 8)]),
    ],
)
def test_it_stops_after_the_last_step_and_is_evaluated_on_the_way(
    settings: dict[str, Any], expected: list[tuple[float, int]], runs: Path
) -> None:
    folder = finished(trial_of(SGD, **{"epochs": None, **settings}), runs)
    assert places(folder) == expected
    found = json.loads(folder.result_file.read_text())
    assert (found["epochs"], found["steps"]) == expected[-1]
    best = found["best"]["test/loss"]
    assert (best["epoch"], best["step"]) in expected
    assert checkpoint(folder)["step"] == expected[-1][1]


@pytest.mark.parametrize(
    ("optimizer", "settings", "other"),
    [
        (ADAM, {"data": AUGMENTED}, {"steps": 12}),
        (MOMENTUM | {"lr": 1e-4}, VAE, {"steps": 12, "evaluate_every": 5}),
    ],
    ids=["augmented", "with noise"],
)
def test_the_weights_are_those_of_as_many_epochs_whenever_it_is_evaluated(
    optimizer: dict[str, Any], settings: dict[str, Any], other: dict[str, Any], runs: Path
) -> None:
    """An evaluation in mid-pass draws nothing from what the training draws."""
    of_epochs = finished(trial_of(optimizer, **{**settings, "epochs": 3}), runs)
    of_steps = finished(trial_of(optimizer, **{**settings, "epochs": None, **other}), runs)
    ours, theirs = checkpoint(of_steps), checkpoint(of_epochs)
    assert same(ours["model"], theirs["model"])
    assert same(ours["optimizer"], theirs["optimizer"])
    assert epochs(of_steps, "test/loss")[-1] == epochs(of_epochs, "test/loss")[-1]


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "in passes": (ADAM, {**IN_STEPS, "data": AUGMENTED}),
    "in mid-pass": (ADAM, {**IN_STEPS, "evaluate_every": 3, "data": AUGMENTED, "log_every": 2}),
    "over passes": (MOMENTUM, {**IN_STEPS, "evaluate_every": 7, "schedule": "cosine"}),
    "a schedule of epochs": (
        SGD,
        {"evaluate_every": 3, "schedule": {"name": "multistep", "milestones": [1], "factor": 0.5}},
    ),
    "a loss that is waited for": (
        SGD,
        {
            **IN_STEPS,
            "evaluate_every": 2,
            "schedule": {"name": "reducelronplateau", "patience": 0, "threshold": 0.5},
        },
    ),
    "noise": ({**MOMENTUM, "lr": 1e-4}, {**VAE, **IN_STEPS, "evaluate_every": 3}),
    "averaged": (ADAM, {**IN_STEPS, "evaluate_every": 3, "ema": 0.5, "data": AUGMENTED}),
    "averaged, fp64": (ADAM, {**IN_STEPS, "ema": 0.5, "precision": "fp64"}),
    "averaged, bf16": (ADAM, {**IN_STEPS, "ema": 0.5, "precision": "bf16"}),
    "averaged twice": (
        {"name": "own_optimizers.py:ScheduleFree", "lr": 0.1},
        {**IN_STEPS, "evaluate_every": 3, "ema": 0.5},
    ),
}


FAST = ("over passes", "averaged")


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        pytest.param(*case, id=name, marks=[] if name in FAST else [pytest.mark.slow])
        for name, case in CASES.items()
    ],
)
def test_stopped_after_every_step_it_ends_with_the_same_bits(
    optimizer: dict[str, Any], settings: dict[str, Any], tmp_path: Path
) -> None:
    trial = trial_of(optimizer, **settings)
    whole = finished(trial, tmp_path / "whole")
    assert train_in_pieces(trial, tmp_path / "pieces") == checkpoint(whole)["step"]
    assert_same_numbers(RunFolder.of(tmp_path / "pieces", trial), whole)


@pytest.mark.slow
def test_batch_norms_of_averaged_weights_go_on_with_the_same_bits(tmp_path: Path) -> None:
    trial = trial_of(ADAM, **NORMS, epochs=None, steps=4, evaluate_every=3, ema=0.5)
    whole = finished(trial, tmp_path / "whole")
    train_in_pieces(trial, tmp_path / "pieces", 2)
    assert_same_numbers(RunFolder.of(tmp_path / "pieces", trial), whole)


def test_killed_before_its_result_was_written_it_trains_nothing_again(runs: Path) -> None:
    trial = trial_of(ADAM, **IN_STEPS, evaluate_every=3, ema=0.5)
    folder = finished(trial, runs)
    before, state = result(folder), checkpoint(folder)
    folder.result_file.unlink()
    assert_same_numbers(finished(trial, runs, stop=StopAt(1)), folder)
    assert result(folder) == before
    assert same(checkpoint(folder)["average"], state["average"])


def test_killed_after_an_evaluation_it_goes_on_from_the_checkpoint_before(tmp_path: Path) -> None:
    """The record of an evaluation that no checkpoint counts on is measured again."""
    checkpoints = {"epochs": 2}  # every second evaluation
    trial = trial_of(ADAM, **IN_STEPS, evaluate_every=3, ema=0.5, checkpoint=checkpoints)
    whole = finished(trial, tmp_path / "whole")

    class Killed(Sink):
        def epoch(self, record: Any) -> None:
            if record["step"] == 9:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(trial, tmp_path / "killed", sinks=[Killed()])
    folder = RunFolder.of(tmp_path / "killed", trial)
    assert checkpoint(folder)["step"] == 6
    assert [step for _, step in places(folder)] == [3, 6, 9]
    assert_same_numbers(finished(trial, tmp_path / "killed"), whole)


class Watched(Sink):
    """Keeps what the weights were after each step."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.weights: list[list[torch.Tensor]] = []

    def batch(self, step: int, samples: int) -> None:
        self.weights.append([p.detach().clone() for p in self.parts.model.parameters()])


def trained(trial: Trial, runs: Path, *sinks: Any) -> tuple[Trainer, list[Any]]:
    parts = assemble(trial, Path("nowhere"), torch.device("cpu"))
    folder = RunFolder.of(runs, trial)
    create(folder, trial)
    made = [each(parts) for each in sinks]
    recording = make_recording(HeldFolder(folder), made, lambda state: None)
    trainer = Trainer(trial, parts, recording, never)
    recording.begin(Beginning(trial, "cpu", trainer.course))
    trainer.train()
    recording.end(None)
    return trainer, made


def test_averaged_weights_are_means_whose_past_fades(runs: Path) -> None:
    trainer, (watched,) = trained(trial_of(ADAM, **IN_STEPS, ema=0.75), runs, Watched)
    expected = [each.double() for each in watched.weights[0]]
    for weights in watched.weights[1:]:
        expected = [0.75 * e + 0.25 * w.double() for e, w in zip(expected, weights, strict=True)]
    assert trainer.average is not None
    for ours, theirs in zip(trainer.average.module.parameters(), expected, strict=True):
        torch.testing.assert_close(ours.detach().double(), theirs, rtol=1e-5, atol=1e-7)


def test_averaged_weights_are_evaluated_beside_the_others_which_stay_as_they_are(
    runs: Path,
) -> None:
    plain = finished(trial_of(ADAM, epochs=3), runs)
    both = finished(trial_of(ADAM, epochs=3, ema=0.9), runs)
    added = {"test_ema/loss", "test_ema/accuracy"}
    for ours, theirs in zip(numbers(both), numbers(plain), strict=True):
        assert ours.keys() - theirs.keys() == added
        assert {k: v for k, v in ours.items() if k not in added} == theirs
    assert same(checkpoint(both)["model"], checkpoint(plain)["model"])
    assert result(both)["best"].keys() >= added
    losses = [record["test_ema/loss"] for record in numbers(both)]
    assert losses != epochs(both, "test/loss")
    assert losses == sorted(losses, reverse=True)


@pytest.mark.slow
def test_batch_norms_are_measured_at_averaged_weights_for_their_evaluation(runs: Path) -> None:
    trial = trial_of(ADAM, **NORMS, epochs=1, ema=0.5)
    trainer, _ = trained(trial, runs)
    average = trainer.average
    assert average is not None
    buffers = deepcopy(dict(average.module.named_buffers()))
    measured = trainer.evaluate()
    assert same(buffers, dict(average.module.named_buffers()))
    assert same(buffers, dict(trainer.parts.model.named_buffers()))
    with torch.no_grad():  # at these statistics, which are those of other weights
        not_renewed = trainer._evaluate(average.module)["test/loss"]
    assert measured["test_ema/loss"] != not_renewed


def test_a_schedule_goes_by_steps_where_the_training_does(runs: Path) -> None:
    trial = trial_of(SGD, **IN_STEPS, evaluate_every=1, schedule={"name": "cosine", "warmup": 2})
    assert trial.schedule is not None and trial.schedule.unit == "step"
    rates = epochs(finished(trial, runs), "optim/lr")
    peak = max(rates)
    assert rates[:3] == pytest.approx([peak / 3, 2 * peak / 3, peak])
    falling = [0.5 * peak * (1 + math.cos(math.pi * n / 8)) for n in range(8)]
    assert rates[2:] == pytest.approx(falling)


def test_a_schedule_of_epochs_goes_by_passes(runs: Path) -> None:
    schedule = {"name": "multistep", "milestones": [1, 2], "factor": 0.1, "unit": "epoch"}
    trial = trial_of(SGD, **IN_STEPS, evaluate_every=1, schedule=schedule)
    rates = epochs(finished(trial, runs), "optim/lr")
    first = rates[0]
    assert rates == pytest.approx([first] * 4 + [first / 10] * 4 + [first / 100] * 2)


def test_a_schedule_that_waits_for_losses_is_told_of_every_evaluation(runs: Path) -> None:
    schedule = {"name": "reducelronplateau", "patience": 0, "threshold": 10.0, "factor": 0.5}
    trial = trial_of(SGD, **IN_STEPS, evaluate_every=2, schedule=schedule)
    assert trial.schedule is not None and trial.schedule.unit == "epoch"
    rates = epochs(finished(trial, runs), "optim/lr")
    assert rates == pytest.approx([rates[0] * 0.5**n for n in range(5)])


def test_a_loss_that_is_not_finite_is_told_of_with_its_step_and_pass(runs: Path) -> None:
    trial = trial_of({"name": "sgd", "lr": 1e30}, **IN_STEPS, evaluate_every=3)
    assert train(trial, runs) is Ending.DIVERGED
    found = json.loads(RunFolder.of(runs, trial).result_file.read_text())
    at = found["diverged"]
    assert at["where"] == "training"
    assert 1 < at["step"] <= found["steps"]
    assert at["epoch"] == (at["step"] - 1) // 4 + 1


def test_lines_tell_of_steps(runs: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    finished(trial_of(SGD, **IN_STEPS, evaluate_every=5), runs)
    assert "step 5/10  train/loss" in caplog.text
    assert "step 10/10  train/loss" in caplog.text
    assert "epoch " not in caplog.text


def test_a_model_that_cannot_be_copied_is_refused_where_it_would_be(runs: Path) -> None:
    class Single(torch.nn.Linear):
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("there is only one of me")

    with pytest.raises(UsageError, match="ema: Single cannot be copied: there is only one of me"):
        AveragedWeights(Single(1, 1), 0.9)


def test_a_course_knows_its_passes_and_rounds() -> None:
    course = Course(steps=10, in_pass=4, in_round=3)
    assert [course.round_start(step) for step in range(10)] == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9]
    assert [course.round_end(step) for step in range(10)] == [3, 3, 3, 6, 6, 6, 9, 9, 9, 10]
    assert [course.pass_of(step) for step in range(1, 11)] == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]
    assert [course.rounds(step) for step in (1, 3, 4, 10)] == [1, 1, 2, 4]
    assert [course.passes(step) for step in (4, 6, 8)] == [1, 1.5, 2]
    assert type(course.passes(8)) is int
