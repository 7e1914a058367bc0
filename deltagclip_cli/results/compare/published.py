"""Figures that others published, beside ours: how far apart they are, and what was not run."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import NOTHING, finite, more_is_better, with_error
from deltagclip_cli.results.compare.comparison import Comparison, Row, compare_runs
from deltagclip_cli.results.compare.paper import content
from deltagclip_cli.results.compare.question import Moment, Question
from deltagclip_cli.results.compare.tables import (
    Cell,
    Column,
    Table,
    ends_of,
    make_record,
    make_table,
)
from deltagclip_cli.results.read.run import Outcome, Run

if TYPE_CHECKING:
    from deltagclip_cli.results.statistics.summary import Summary


@dataclass(frozen=True)
class Published:
    """A published mean of one setting."""

    title: str  # the setting in words
    optimizer: Mapping[str, Any]  # its options; empty if they were not told
    # a regular expression for the names of the runs in the authors' own logs, if known
    runs: str | None
    n: int  # how many seeds
    epoch: int  # after which the metric was read
    mean: float  # of the metric
    standard_error: float | None  # as published; None for a single seed

    @property
    def text(self) -> str:
        """The mean and its standard error."""
        return with_error(self.mean, self.standard_error)

    def ours(self, rows: Sequence[Row]) -> Row | None:
        """Return our setting, or the authors' own runs, of that name and with these options."""
        return next((row for row in rows if row.summary and self._is(row)), None)

    def _is(self, row: Row) -> bool:
        if not row.group.is_ours:
            return self.runs is not None and bool(re.search(self.runs, row.group.name))
        told = self.optimizer.items()
        return bool(told) and all(row.group.options.get(key) == value for key, value in told)


def published(experiment: str, metric: str) -> list[Published]:
    """Return what was published of a metric of an experiment."""
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
    """Return the metrics of which something was published of an experiment, those of test first."""
    names = dict.fromkeys(name for figure in _figures(experiment) for name in figure["metrics"])
    return sorted(names, key=lambda name: not name.startswith("test/"))


def caveats(experiment: str) -> list[str]:
    """Return what to know of the figures of an experiment, their source first."""
    names = {figure["experiment"] for figure in _figures(experiment)}
    fitting = [each["says"] for each in content()["caveats"] if names & set(each["about"])]
    return [f"Source: {content()['source']}.", *fitting] if names else []


def experiments() -> list[str]:
    """Return the experiments of which there are figures."""
    return list(dict.fromkeys(figure["experiment"] for figure in content()["figures"]))


def published_table(comparison: Comparison) -> Table | None:
    """Return what was published of a comparison, our means beside it; None if nothing was."""
    metric, at = comparison.question.metric, comparison.question.moment.at
    figures = published(comparison.experiment, metric)

    def epoch(row: Row | None) -> str:
        if row is None:
            return NOTHING
        return f"{max(ends_of(row, comparison), default=0) if at is None else at:.0f}"

    columns: list[Column[tuple[Published, Row | None]]] = [
        Column("setting", lambda pair: pair[0].title),
        Column("epoch", lambda pair: str(pair[0].epoch)),
        Column("n", lambda pair: str(pair[0].n)),
        Column("published", lambda pair: pair[0].text),
        Column("our epoch", lambda pair: epoch(pair[1])),
        Column("our n", lambda pair: _n(pair[1])),
        Column("ours", lambda pair: _mean(pair[1])),
    ]
    pairs = [(figure, figure.ours(comparison.rows)) for figure in figures]
    if not pairs:
        return None
    title, notes = f"{comparison.title}: {metric}, published", caveats(comparison.experiment)
    return make_table(title, columns, pairs, notes, [comparison.choice])


def _figures(experiment: str) -> list[Mapping[str, Any]]:
    return [
        figure
        for figure in content()["figures"]
        if experiment in (figure["experiment"], *figure.get("folders", ()))
    ]


NOT_RUN = "not run"


@dataclass(frozen=True)
class Figure:
    """A figure of the paper and the experiment that repeats it, by a planned number of runs."""

    experiment: str
    about: str
    planned: int

    @property
    def command(self) -> str:
        """The command that runs it."""
        return f"deltagclip sweep {self.experiment}"


@dataclass(frozen=True, eq=False)
class Value:
    """A published value and ours."""

    metric: str
    published: Published  # the value of one setting
    # our runs of that setting, with their values at the epoch of the published one, or at their
    # last where they were shorter; None if it was not run
    row: Row | None = None
    epoch: float | None = None  # of our values

    @property
    def summary(self) -> Summary | None:
        """Our values taken together."""
        return self.row.summary if self.row else None

    @property
    def distance(self) -> float | None:
        """Ours less the published mean, in standard errors of that difference; None if unknown."""
        if self.summary is None:
            return None
        theirs, ours = self.published.standard_error, self.summary.standard_error
        if theirs is None or ours is None or not (theirs or ours):
            return None
        return (self.summary.mean - self.published.mean) / math.hypot(theirs, ours)


def values(experiment: str, runs: Sequence[Run]) -> list[Value]:
    """Return all that was published of an experiment, beside what its runs came to."""
    mine = [run for run in runs if run.group.experiment == experiment]
    return [
        _value(metric, figure, mine)
        for metric in metrics(experiment)
        for figure in published(experiment, metric)
    ]


def _value(metric: str, figure: Published, runs: Sequence[Run]) -> Value:
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


def overview(figures: Sequence[Figure], runs: Sequence[Run]) -> Table:
    """Return each figure with how many of its runs have come to their end."""
    columns: list[Column[Figure]] = [
        Column("experiment", lambda each: Cell(each.experiment, each.about)),
        Column(
            "runs finished",
            lambda each: f"{n} of {each.planned}" if (n := _finished(each, runs)) else NOT_RUN,
        ),
        Column("command", lambda each: each.command),
    ]
    notes = [
        "deltagclip report EXPERIMENT draws the figure of one.",
        content()["chosen_on_test"]["says"],
    ]
    return make_table("The paper's figures", columns, figures, notes)


def _finished(figure: Figure, runs: Sequence[Run]) -> int:
    ended = [run for run in runs if run.outcome in (Outcome.FINISHED, Outcome.DIVERGED)]
    return sum(run.group.experiment == figure.experiment for run in ended)


COLUMNS: list[Column[Value]] = [
    Column(
        "setting", lambda each: each.published.title, lambda each: {"setting": each.published.title}
    ),
    Column("metric", lambda each: each.metric, lambda each: {"metric": each.metric}),
    Column(
        "published",
        lambda each: each.published.text,
        lambda each: {"published": _numbers(each.published, each.published.epoch)},
    ),
    Column("n", lambda each: str(each.published.n)),
    Column(
        "ours",
        lambda each: _mean(each.row) if each.row else NOT_RUN,
        lambda each: {"ours": _numbers(each.summary, each.epoch)},
    ),
    Column("our n", lambda each: _n(each.row)),
    Column(
        "difference",
        lambda each: finite(each.distance, "{:+.1f} s.e."),
        lambda each: {"difference_in_standard_errors": each.distance},
    ),
]


def _numbers(found: Published | Summary | None, epoch: float | None) -> dict[str, object] | None:
    if found is None:
        return None
    return {
        "mean": found.mean,
        "standard_error": found.standard_error,
        "n": found.n,
        "epoch": epoch,
    }


def reproduction_tables(figures: Sequence[Figure], runs: Sequence[Run]) -> Iterator[Table]:
    """Yield a table for each experiment of which numbers were published."""
    for figure in figures:
        if found := values(figure.experiment, runs):
            title = f"{figure.experiment}: published and ours"
            notes = [*_reproduction_notes(figure, found), *caveats(figure.experiment)]
            yield make_table(title, COLUMNS, found, notes)


def _mean(row: Row | None) -> str:
    summary = row.summary if row else None
    return NOTHING if summary is None else with_error(summary.mean, summary.standard_error)


def _n(row: Row | None) -> str:
    return NOTHING if row is None or row.summary is None else str(row.summary.n)


def _reproduction_notes(figure: Figure, found: Sequence[Value]) -> list[str]:
    """Return what is to be done, what a difference means, and what differs in ours."""
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
    """Return all of it for programs, in full precision."""
    return [
        {
            "experiment": each.experiment,
            "figure": each.about,
            "command": each.command,
            "planned": each.planned,
            "finished": _finished(each, runs),
            "values": [make_record(COLUMNS, value) for value in values(each.experiment, runs)],
            "caveats": caveats(each.experiment),
            "chosen_on": "test",
        }
        for each in figures
    ]
