"""Protocols whose trials are not trained: their run folders are written with made-up values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from run_cases import result_text

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import HeldFolder, create
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.tuning.studies import Tuning

METRIC = "test/accuracy"
SPACE: dict[str, Any] = {
    "sgd": {"lr": {"log_uniform": [1e-3, 1]}, "momentum": {"uniform": [0, 0.9]}},
    "adam": {"lr": {"log_uniform": [1e-4, 1e-1]}},
    "plain": {"fixed": True},
}


def experiment_of(space: Any = None, **protocol: Any) -> Experiment:
    """Three optimizers, of which one has no space, unless another space is given."""
    unequal = {"unequal": "one has nothing to tune"} if space is None else {}
    return Experiment.model_validate(
        {
            "model": {"name": "mlp", "hidden": [8]},
            "data": {"name": "synthetic", "batch_size": 8, "size": 4, "train": 32, "test": 16},
            "epochs": 2,
            "seeds": [0, 1],
            "optimizers": {
                "sgd": {"name": "sgd", "lr": 0.1, "momentum": 0.5, "nesterov": True},
                "adam": {"name": "adam"},
                "plain": {"name": "sgd", "lr": 0.05},
            },
            "search": {"space": space or SPACE},
            "protocol": {"draws": 4, "fresh_seeds": 2, "metric": METRIC, **unequal, **protocol},
        }
    )


def tuning_of(space: Any = None, **protocol: Any) -> Tuning:
    """The tuning of such an experiment."""
    return Tuning.of("tiny", experiment_of(space, **protocol))


def finish(runs: Path, trials: Iterable[Trial], value: Callable[[Trial], float | None]) -> None:
    """Write what is there when trials have finished with these values of the metric."""
    for trial in trials:
        write(runs, trial, result_text(identity=trial.identity, last={METRIC: value(trial)}))


def diverge(runs: Path, trials: Iterable[Trial]) -> None:
    """Write what is there when trials have diverged."""
    for trial in trials:
        write(runs, trial, result_text("diverged", identity=trial.identity))


def write(runs: Path, trial: Trial, result: str) -> None:
    """Write a run folder with some result."""
    folder = RunFolder.of(runs, trial)
    create(folder, trial)
    folder.result_file.write_text(result)


def fail(runs: Path, trials: Iterable[Trial]) -> None:
    """Write what is there when trials have failed."""
    for trial in trials:
        folder = RunFolder.of(runs, trial)
        create(folder, trial)
        HeldFolder(folder).record_failure(ValueError("made up"), "made up")
