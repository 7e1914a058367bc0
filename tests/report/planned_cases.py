"""Experiments with a plan whose trials were not trained: run folders with made-up curves."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from run_cases import lines, make_run, record

from deltagclip_cli.results.compare.analysis import Analysis, analyse
from deltagclip_cli.results.compare.request import Request
from deltagclip_cli.results.read.tree import Place
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import HeldFolder, create
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.tuning.lock import fixed_plan
from deltagclip_cli.tuning.stages import choices, fresh_trials
from deltagclip_cli.tuning.studies import Tuning

METRIC = "test/accuracy"
SPACE: dict[str, Any] = {
    "sgd": {"lr": {"log_uniform": [1e-3, 1]}, "momentum": {"uniform": [0, 0.9]}},
    "adam": {"lr": {"log_uniform": [1e-4, 1e-1]}},
    "plain": {"fixed": True},
}


def planned_tuning(runs: Path, **protocol: Any) -> Tuning:
    """Fix the plan of three optimizers, of which one has no space."""
    written = {
        "model": {"name": "mlp", "hidden": [8]},
        "data": {"name": "synthetic", "batch_size": 8, "size": 4, "train": 32, "test": 16},
        "epochs": 2,
        "seeds": [0, 1],
        "optimizers": {
            "sgd": {"name": "sgd", "lr": 0.1, "momentum": 0.5, "nesterov": True},
            "adam": {"name": "adam"},
            "plain": {"name": "sgd", "lr": 0.05},
        },
        "search": {"space": SPACE},
        "protocol": {
            "draws": 8,
            "fresh_seeds": 4,
            "metric": METRIC,
            "baseline": "plain",
            "unequal": "plain has nothing to tune",
            **protocol,
        },
    }
    tuning = Tuning.of("tiny", Experiment.model_validate(written))
    return fixed_plan(tuning, runs)[1]


def finish(runs: Path, trials: Iterable[Trial]) -> None:
    """Write what is there when trials have finished, the better the nearer lr is to 0.03."""
    for trial in trials:
        lr = float(trial.optimizer.options.get("lr", 1e-3))
        accuracy = 0.9 - 0.1 * abs(lr - 0.03) - 0.001 * (trial.seed % 3)
        whole = lines(
            *(record(each, 1 - accuracy, **{METRIC: accuracy * each / 2}) for each in (1, 2))
        )
        make_run(runs, trial, whole, "finished")


def fail(runs: Path, trials: Iterable[Trial]) -> None:
    """Write what is there when trials have failed."""
    for trial in trials:
        folder = RunFolder.of(runs, trial)
        create(folder, trial)
        HeldFolder(folder).record_failure(ValueError("made up"), "made up")


def finish_all(runs: Path, tuning: Tuning, failed: int = 0) -> None:
    """Write what is there when all of a protocol has ended, its first trials with a failure."""
    trials = tuning.drawn_trials
    fail(runs, trials[:failed])
    finish(runs, trials[failed:])
    for study in range(tuning.protocol.studies):
        for choice in choices(tuning, runs, study):
            finish(runs, fresh_trials(tuning, choice))


def answer_of(runs: Path, **request: Any) -> Analysis:
    """What the command makes of all that is there."""
    return analyse(Place((), runs).read(), Request(**{"metric": METRIC, **request}))
