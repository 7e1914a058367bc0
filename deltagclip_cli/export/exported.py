"""A run as it is exported, whatever to: a name that is the same for ever, and tidy rows."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from deltagclip_cli.results.read.run import Run
from deltagclip_cli.results.tidy import TidyRow, Value, metric_rows_of, result_row

_FORM = 1  # to be raised where the same run is exported in another way: all are then sent anew
_NAMES = ("experiment", "conditions", "optimizer", "settings", "seed")
_STANDING = ("identity", "folder", "state", "reason", "begun_at", "ended_at")
_AXES = ("epoch", "step", "seconds", "time")
_NO_METRICS = {*_NAMES, *_STANDING, *_AXES}


@dataclass(frozen=True)
class Point:
    """Metrics of one moment of a run."""

    step: int
    time: float  # in seconds: since 1970, or since the run began where nobody knows more
    metrics: Mapping[str, float]  # those that are finite; ``epoch`` is one of them


@dataclass(frozen=True)
class ExportedRun:
    """One run, as it was read at one moment."""

    run: Run
    result: TidyRow
    points: tuple[Point, ...]  # in the order of their steps, each step once

    @classmethod
    def of(cls, run: Run) -> ExportedRun:
        """Read what there is to export of a run."""
        return cls(run, result_row(run), tuple(_points(rows_of(run))))

    @cached_property
    def id(self) -> str:
        """The identity of its trial; of other people's runs, a SHA-256 of where they lie."""
        return id_of(self.run)

    @property
    def experiment(self) -> str:
        """The name of its experiment, which trackers have as a project."""
        return self.run.group.experiment

    @property
    def group(self) -> str:
        """The name of its setting, which it has in common with runs of other seeds."""
        conditions = str(self.result["conditions"] or "")
        return " · ".join(filter(None, [self.run.group.name, conditions]))

    @property
    def name(self) -> str:
        """The name of its setting and its seed."""
        return f"{self.group} · seed {self.run.seed_or_folder}"

    @property
    def config(self) -> dict[str, Value]:
        """Its settings and its circumstances, by the names of the columns of tidy rows."""
        metrics = {*self.run.curves, *(f"metric/{name}" for name in self.run.curves)}
        names = [name for name in self.result if name not in metrics | {*_STANDING, *_AXES}]
        return {name: value for name in names if (value := self.result[name]) is not None}

    @property
    def standing(self) -> dict[str, Value]:
        """Its state and why, its identity, its folder and its times, as far as they are known."""
        return {name: v for name in _STANDING if (v := self.result.get(name)) is not None}

    @property
    def begun_at(self) -> float | None:
        """The time of its first start, in seconds since 1970; None if nobody knows it."""
        begun = self.result["begun_at"]
        return begun if isinstance(begun, float) else None

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 of all that is exported: a destination that has it has the whole run."""
        points = [[each.step, each.time, each.metrics] for each in self.points]
        content = [_FORM, self.group, self.config, self.standing, points]
        return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()


def id_of(run: Run) -> str:
    """Return what a run is known by in every destination, whenever and wherever it is exported."""
    if run.trial is not None:
        return run.trial.identity
    return hashlib.sha256(bytes(run.folder.resolve())).hexdigest()


def rows_of(run: Run) -> Iterator[TidyRow]:
    """Yield the records of a run; none where they cannot be read, of which a reading has told."""
    with suppress(OSError):
        yield from metric_rows_of(run)


def once(runs: Iterable[Run]) -> tuple[list[Run], list[str]]:
    """Return each run once, and a sentence on each that is there twice, such as in a copy."""
    found: dict[tuple[str, str], Run] = {}
    problems = []
    for run in runs:
        first = found.setdefault((run.group.experiment, id_of(run)), run)
        if first is not run:
            problems.append(
                f"{run.folder}: the same trial as {first.folder}, which is exported instead."
            )
    return list(found.values()), problems


def _points(rows: Iterable[TidyRow]) -> Iterator[Point]:
    """Yield the points of some rows: those of one step together, in the order of the steps.

    Trackers have one value of a metric at a step, which is a whole number from 0. Where a program
    has counted otherwise, such as in tenths of an epoch, its points are numbered instead.
    """
    points = [_point(row) for row in rows]
    places = [(step, name) for step, _, metrics in points for name in metrics if name != "epoch"]
    is_counted = all(step >= 0 and float(step).is_integer() for step, *_ in points)
    if not is_counted or len({*places}) < len(places):
        points = [(number, time, metrics) for number, (_, time, metrics) in enumerate(points)]
    steps: dict[int, tuple[float, dict[str, float]]] = {}
    for step, time, metrics in points:
        steps[int(step)] = (time, {**steps.get(int(step), (0.0, {}))[1], **metrics})
    for step in sorted(steps):
        yield Point(step, *steps[step])


def _point(row: TidyRow) -> tuple[float, float, dict[str, float]]:
    """Return the step, the time and the metrics of a row."""
    time = _number(row["time"]) or _number(row["seconds"]) or 0.0
    measured = {n: v for n in row if n not in _NO_METRICS if (v := _number(row[n])) is not None}
    if (epoch := _number(row["epoch"])) is not None:
        measured["epoch"] = epoch
    return _number(row["step"]) or 0.0, time, measured


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None
