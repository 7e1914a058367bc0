"""Figures that others published, beside ours: how far apart they are, and what was not run."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from deltagclip_cli.core import NOTHING, finite, more_is_better, with_error
from deltagclip_cli.results.compare.comparison import Comparison, Row, compare_runs
from deltagclip_cli.results.compare.question import Moment, Question
from deltagclip_cli.results.compare.tables import Cell, Sheet, ends_of, line
from deltagclip_cli.results.read.run import Outcome, Run
from deltagclip_cli.spec.document import parse

NOT_RUN = "not run"


@dataclass(frozen=True)
class Figure:
    """A figure of the paper and the experiment that repeats it.

    Args:
        experiment: its name.
        about: what the figure shows.
        planned: how many runs it takes.
    """

    experiment: str
    about: str
    planned: int

    @property
    def command(self) -> str:
        """What runs it."""
        return f"deltagclip sweep {self.experiment}"


@dataclass(frozen=True, eq=False)
class Value:
    """A published value and ours.

    Args:
        metric: its name.
        published: the value of one setting.
        row: our runs of that setting, with their values at the epoch of the published one, or at
            their last where they were shorter; None if it was not run.
        epoch: of our values.
    """

    metric: str
    published: Published
    row: Row | None = None
    epoch: float | None = None

    @property
    def distance(self) -> float | None:
        """Ours less the published mean, in standard errors of that difference; None if unknown."""
        summary = self.row.summary if self.row else None
        errors = [self.published.standard_error, summary.standard_error if summary else None]
        known = [error for error in errors if error is not None]
        if summary is None or len(known) < 2 or not any(known):
            return None
        return (summary.mean - self.published.mean) / math.hypot(*known)


def values(experiment: str, runs: Sequence[Run]) -> list[Value]:
    """Everything that was published of an experiment, beside what its runs came to."""
    mine = [run for run in runs if run.group.experiment == experiment]
    return [
        _value_of(metric, figure, mine)
        for metric in metrics(experiment)
        for figure in published(experiment, metric)
    ]


def _value_of(metric: str, figure: Published, runs: Sequence[Run]) -> Value:
    if not runs:
        return Value(metric, figure)
    experiment, better = runs[0].group.experiment, bool(more_is_better(metric))
    for moment in (Moment.parse(f"epoch={figure.epoch}"), Moment()):
        question = Question(metric, better, moment)
        rows = [
            row
            for comparison in compare_runs(runs, {experiment: question})
            if (row := figure.ours(comparison.rows)) is not None
        ]
        if rows:  # under several conditions, those of the longest runs are nearest to the paper's
            row = max(rows, key=lambda row: _end(row, metric))
            end = float(figure.epoch) if moment.at is not None else _end(row, metric)
            return Value(metric, figure, row, end)
    return Value(metric, figure)


def _end(row: Row, metric: str) -> float:
    return max(float(r.curves[metric].epochs[-1]) for r in row.runs if metric in r.curves)


def overview(figures: Sequence[Figure], runs: Sequence[Run]) -> Sheet:
    """Each figure with how many of its runs have come to their end."""
    return Sheet(
        title="The paper's figures",
        columns=["experiment", "runs finished", "command"],
        lines=[
            line([Cell(each.experiment, each.about), _progress(each, runs), each.command])
            for each in figures
        ],
        notes=["deltagclip report EXPERIMENT draws the figure of one."],
    )


def _progress(figure: Figure, runs: Sequence[Run]) -> str:
    count = _finished(figure.experiment, runs)
    return f"{count} of {figure.planned}" if count else NOT_RUN


def _finished(experiment: str, runs: Sequence[Run]) -> int:
    ends = (Outcome.FINISHED, Outcome.DIVERGED)
    return sum(run.group.experiment == experiment and run.outcome in ends for run in runs)


def value_sheets(figures: Sequence[Figure], runs: Sequence[Run]) -> Iterator[Sheet]:
    """A sheet for each experiment of which numbers were published."""
    for each in figures:
        found = values(each.experiment, runs)
        if found:
            yield Sheet(
                title=f"{each.experiment}: published and ours",
                columns=["setting", "metric", "published", "n", "ours", "our n", "difference"],
                lines=[line(_reproduction_texts(value)) for value in found],
                notes=[*_reproduction_notes(each, found), *caveats(each.experiment)],
            )


def _reproduction_texts(value: Value) -> list[str]:
    figure = value.published
    told = [
        figure.title,
        value.metric,
        with_error(figure.mean, figure.standard_error),
        str(figure.n),
    ]
    if value.row is None or value.row.summary is None:
        return [*told, NOT_RUN, NOTHING, NOTHING]
    ours = value.row.summary
    return [
        *told,
        with_error(ours.mean, ours.standard_error),
        str(ours.n),
        finite(value.distance, "{:+.1f} s.e.") if value.distance is not None else NOTHING,
    ]


def _reproduction_notes(figure: Figure, found: Sequence[Value]) -> list[str]:
    """What is to be done, what a difference means, and what differs in ours."""
    notes = []
    if any(value.row is None for value in found):
        notes.append(f"What was not run: {figure.command}")
    if any(value.distance is not None for value in found):
        notes.append("Difference: ours less theirs, in standard errors of that difference.")
    epochs = {
        (value.published.epoch, value.epoch)
        for value in found
        if value.epoch is not None and value.epoch != value.published.epoch
    }
    notes += [f"Theirs is after epoch {their}, ours after epoch {our:g}." for their, our in epochs]
    return notes


def as_data(figures: Sequence[Figure], runs: Sequence[Run]) -> list[dict[str, Any]]:
    """All of it for programs, in full precision."""
    return [
        {
            "experiment": each.experiment,
            "figure": each.about,
            "command": each.command,
            "planned": each.planned,
            "finished": _finished(each.experiment, runs),
            "values": [_value_as_data(value) for value in values(each.experiment, runs)],
            "caveats": caveats(each.experiment),
        }
        for each in figures
    ]


def _value_as_data(value: Value) -> Mapping[str, Any]:
    figure, ours = value.published, value.row.summary if value.row else None
    return {
        "setting": figure.title,
        "metric": value.metric,
        "published": {
            "mean": figure.mean,
            "standard_error": figure.standard_error,
            "n": figure.n,
            "epoch": figure.epoch,
        },
        "ours": ours
        and {
            "mean": ours.mean,
            "standard_error": ours.standard_error,
            "n": ours.n,
            "epoch": value.epoch,
        },
        "difference_in_standard_errors": value.distance,
    }


@dataclass(frozen=True)
class Published:
    """What somebody published of one setting.

    Args:
        title: the setting in words.
        optimizer: its options; empty if they were not told.
        runs: a regular expression for the names of the runs in the authors' own logs, if known.
        n: how many seeds.
        epoch: after which the metric was read.
        mean: of the metric.
        standard_error: as published; None for a single seed.
    """

    title: str
    optimizer: Mapping[str, Any]
    runs: str | None
    n: int
    epoch: int
    mean: float
    standard_error: float | None

    def ours(self, rows: Sequence[Row]) -> Row | None:
        """Our setting, or the authors' own runs, of that name and with these options."""
        return next((row for row in rows if row.summary and self._is(row)), None)

    def _is(self, row: Row) -> bool:
        if not row.group.is_ours:
            return self.runs is not None and bool(re.search(self.runs, row.group.name))
        told = self.optimizer.items()
        return bool(told) and all(row.group.options.get(key) == value for key, value in told)


def published(experiment: str, metric: str) -> list[Published]:
    """What there is of a metric of an experiment."""
    return [
        Published(
            figure["title"],
            figure.get("optimizer", {}),
            figure.get("runs"),
            figure["n"],
            figure["epoch"],
            *figure["metrics"][metric],
        )
        for figure in _figures(experiment)
        if metric in figure["metrics"]
    ]


def metrics(experiment: str) -> list[str]:
    """The metrics of which something was published of an experiment, those of test first."""
    names = dict.fromkeys(name for figure in _figures(experiment) for name in figure["metrics"])
    return sorted(names, key=lambda name: not name.startswith("test/"))


def caveats(experiment: str) -> list[str]:
    """What to know of the figures of an experiment, their source first."""
    names = {figure["experiment"] for figure in _figures(experiment)}
    content = _content()
    fitting = [each["says"] for each in content["caveats"] if names & set(each["about"])]
    return [f"Source: {content['source']}.", *fitting] if names else []


def experiments() -> list[str]:
    """The experiments of which there are figures."""
    return list(dict.fromkeys(figure["experiment"] for figure in _content()["figures"]))


def published_sheets(comparisons: Sequence[Comparison]) -> Iterator[Sheet]:
    """A sheet for each comparison of which something was published, our means beside it."""
    for comparison in comparisons:
        metric = comparison.question.metric
        figures = published(comparison.experiment, metric)
        if figures:
            yield Sheet(
                title=f"{comparison.title}: {metric}, published",
                columns=["setting", "epoch", "n", "published", "our epoch", "our n", "ours"],
                lines=[line(_texts(figure, comparison)) for figure in figures],
                notes=caveats(comparison.experiment),
            )


def _texts(figure: Published, comparison: Comparison) -> list[str]:
    texts = [
        figure.title,
        str(figure.epoch),
        str(figure.n),
        with_error(figure.mean, figure.standard_error),
    ]
    ours = figure.ours(comparison.rows)
    if ours is None or ours.summary is None:
        return [*texts, *[NOTHING] * 3]
    at = comparison.question.moment.at
    epochs = {float(at)} if at is not None else ends_of(ours, comparison)
    return [
        *texts,
        f"{max(epochs, default=0):.0f}",
        str(ours.summary.n),
        with_error(ours.summary.mean, ours.summary.standard_error),
    ]


def _figures(experiment: str) -> list[Mapping[str, Any]]:
    return [
        figure
        for figure in _content()["figures"]
        if experiment in (figure["experiment"], *figure.get("folders", ()))
    ]


@cache
def _content() -> dict[str, Any]:
    text = files(__package__).joinpath("published.yaml").read_text("utf-8")
    content: dict[str, Any] = parse(text)
    return content
