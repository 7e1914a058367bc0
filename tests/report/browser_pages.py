"""Pages of runs that were never run, as files that a browser can open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from made_runs import METRIC, answered, group, run

from deltagclip_cli.report.page import page
from deltagclip_cli.results.compare.analysis import Analysis
from deltagclip_cli.results.compare.sensitivity import usual_heat_maps
from deltagclip_cli.results.read.run import Group, Outcome, Run

EPOCHS = 11
TARGET = f"{METRIC}=0.7"
REGIMES = {
    "optim__plain_fraction": [0.2] * EPOCHS,
    "optim__clipped_fraction": [0.5] * EPOCHS,
    "optim__floored_fraction": [0.3] * EPOCHS,
}


def rising(
    of: Group | str, seed: int, end: float, at: int = EPOCHS, **more: Sequence[float]
) -> Run:
    """A run whose accuracy rises to its end at some epoch and stays there."""
    accuracy = np.minimum(np.arange(1, EPOCHS + 1) / at, 1) * end
    return run(of, seed, list(accuracy), train__loss=list(1.5 - accuracy), **more)


def usual_runs() -> list[Run]:
    """Some that reach 70 % soon, late and never, and of some nobody knows."""
    seeds = range(3)
    return [
        *[rising("adam", seed, 0.9 + seed / 100, at=3) for seed in seeds],
        *[rising("sgd", seed, 0.75 + seed / 100) for seed in seeds],
        *[rising("clip", seed, 0.5 + seed / 100, **REGIMES) for seed in seeds],
        run("lost", 0, [0.1], Outcome.DIVERGED),
        run("late", 0, [0.1], Outcome.UNFINISHED),
    ]


def many_runs(optimizers: int, metrics: int, seeds: int = 1) -> list[Run]:
    """A run of each seed of each of some optimizers, with metrics of foreign names."""
    curves = {f"layer/{number}": list(np.arange(EPOCHS) + number) for number in range(metrics)}
    return [
        rising(f"optimizer-{number:02}", seed, 0.9 - number / 100 + seed / 200, **curves)
        for number in range(optimizers)
        for seed in range(seeds)
    ]


def grid_runs() -> list[Run]:
    """Sixty settings of one optimizer."""
    return [
        rising(group("adam", lr=f"{10.0**-row:g}", gamma=str(column)), 0, 0.9 - number / 100)
        for number, (row, column) in enumerate(np.ndindex(6, 10))
    ]


def answer_of(runs: Sequence[Run], **request: object) -> Analysis:
    """What the command makes of runs: with maps of what makes a grid."""
    found = answered(runs, **request)
    return replace(found, heat_maps=usual_heat_maps(found.comparisons))


def save(path: Path, runs: Sequence[Run], title: str = "Optimizers", **request: object) -> Path:
    """Write the page of runs."""
    text = page(title, runs, answer_of(runs, **request), ["tiny: a problem."])
    path.write_text(text, encoding="utf-8")
    return path


def save_nothing(path: Path) -> Path:
    """Write the page of runs of which none has come to the end of an epoch."""
    runs = [run("adam", 0, [], Outcome.FAILED), run("sgd", 0, [], Outcome.UNFINISHED)]
    path.write_text(page("Nothing", runs, None, ["tiny: a problem."]), encoding="utf-8")
    return path
