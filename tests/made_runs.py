"""Runs that were never run, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deltagclip_cli.results.compare.analysis import Analysis, analyse
from deltagclip_cli.results.compare.request import Request
from deltagclip_cli.results.read.run import Curve, Group, Outcome, Reading, Run

METRIC = "test/accuracy"


def curve(values: Sequence[float], steps_per_epoch: int = 10, epoch_seconds: float = 2.0) -> Curve:
    """A curve with a point an epoch, from the first epoch on."""
    epochs = np.arange(1.0, len(values) + 1)
    return Curve(epochs * steps_per_epoch, epochs, epochs * epoch_seconds, np.array(values, float))


def group(
    optimizer: str,
    experiment: str = "tiny",
    conditions: Mapping[str, str] | None = None,
    options: Mapping[str, object] | None = None,
    **settings: str,
) -> Group:
    """A setting of an optimizer."""
    return Group(experiment, optimizer, settings, conditions or {}, options or {}, bool(options))


def run(
    of: Group | str,
    seed: int | str | None,
    values: Sequence[float],
    outcome: Outcome = Outcome.FINISHED,
    **others: Sequence[float],
) -> Run:
    """A run with values of the accuracy, and other curves by names with ``__`` for a slash."""
    of = group(of) if isinstance(of, str) else of
    curves = {METRIC: curve(values)} if values else {}
    curves |= {name.replace("__", "/"): curve(each) for name, each in others.items()}
    folder = Path(of.experiment, of.name, f"seed-{seed}")
    return Run(folder, of, seed, outcome, "", curves)


def last_values(of: Group | str, values: Sequence[float]) -> list[Run]:
    """A run for each last value, with the seeds 0, 1, ..."""
    return [run(of, seed, [0.0, value]) for seed, value in enumerate(values)]


def answered(runs: Sequence[Run], **request: object) -> Analysis:
    """What comes of a request, by default for the accuracy."""
    return analyse(Reading(runs, []), Request(**{"metric": METRIC, **request}))  # type: ignore[arg-type]


# The accuracy on the test set and on a validation split by lr and gamma: each has its own best one.
TUNED = {(lr, gamma): (0.5, 0.4) for lr in "1234567" for gamma in "12"} | {
    ("1", "1"): (0.9, 0.5),
    ("1", "2"): (0.7, 0.8),
}


def tuned(twin: str | None, experiment: str = "tiny") -> list[Run]:
    """A grid of an optimizer, and a rival; validated under some name, or not at all."""
    settings = {group("gclip", experiment, lr=lr, gamma=g): v for (lr, g), v in TUNED.items()}
    return [
        run(of, seed, [0.0, tested + seed / 100, 0.1], **_twin(twin, valid + seed / 100))
        for of, (tested, valid) in {**settings, group("adam", experiment): (0.75, 0.7)}.items()
        for seed in range(3)
    ]


def _twin(name: str | None, value: float) -> dict[str, Any]:
    return {name: [0.0, value / 2, value]} if name else {}
