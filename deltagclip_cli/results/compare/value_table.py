"""The values of one comparison as a table, a row for each setting."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from deltagclip_cli.core import NOTHING, plural, shown_with, with_error
from deltagclip_cli.results.compare.circumstances import circumstances_note
from deltagclip_cli.results.compare.comparison import Comparison
from deltagclip_cli.results.compare.formatting import interval
from deltagclip_cli.results.compare.rows import Row, Standing
from deltagclip_cli.results.compare.text_table import Cell, Line, Sheet, line
from deltagclip_cli.results.read.run import Outcome, Run
from deltagclip_cli.results.statistics.difference import SIGNIFICANT
from deltagclip_cli.results.statistics.summary import Summary, coverage_note


def value_sheet(comparison: Comparison, *, intervals: bool) -> Sheet:
    """Means, medians, best and worst seeds, and what has no value.

    Args:
        comparison: what is shown.
        intervals: show the mean with its 95 % interval rather than with its standard error.
    """
    question = comparison.question
    spread = "[95 %]" if intervals else "± s.e."
    columns = ["optimizer", "n", f"mean {spread}", "median", "IQM", "best", "worst"]
    others = any(map(_others, comparison.rows))
    return Sheet(
        title=f"{comparison.title}: {question.metric} {question.moment}",
        columns=[*columns, "others"] if others else columns,
        lines=[_line(row, intervals, others) for row in comparison.rows],
        notes=_notes(comparison, intervals),
    )


def _line(row: Row, intervals: bool, others: bool) -> Line:
    last = [_others(row)] if others else []
    if row.summary is None:
        return line([row.group.name, "0", *[NOTHING] * 5, *last])
    return line([*_cells(row, row.summary, intervals), *last], row.standing)


def _cells(row: Row, summary: Summary, intervals: bool) -> list[str | Cell]:
    show = shown_with(summary.standard_error, summary.mean)
    is_best = row.standing is Standing.BEST
    return [
        Cell(row.group.name, is_best=is_best),
        str(summary.n),
        replace(_mean(summary, show, intervals), is_best=is_best),
        Cell(show(summary.median), interval(summary.median_interval, show)),
        Cell(show(summary.iqm), interval(summary.iqm_interval, show)),
        _seed(row, summary.best, show),
        _seed(row, summary.worst, show),
    ]


def _mean(summary: Summary, show: Callable[[float], str], intervals: bool) -> Cell:
    if intervals:
        return Cell(show(summary.mean), interval(summary.interval, show))
    return Cell(with_error(summary.mean, summary.standard_error))


def _seed(row: Row, value: float, show: Callable[[float], str]) -> Cell:
    """A value, and the seed that has it where seeds are known."""
    if not math.isfinite(value):
        return Cell("diverged")
    run = next(row.counted[key] for key, each in row.values.items() if each == value)
    return Cell(show(value), "" if run.seed is None else f"({run.seed})")


def _others(row: Row) -> str:
    """How many runs have no value that a mean can count, and why."""
    diverged = row.summary.diverged if row.summary else 0
    counts = {**({Outcome.DIVERGED.value: diverged} if diverged else {}), **row.left_out}
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())


def _notes(comparison: Comparison, intervals: bool) -> list[str]:
    spread = (
        "intervals of the mean by Student's t, too narrow where the noise is skewed"
        if intervals
        else f"s.e.: standard error of the mean (ddof = {comparison.question.ddof})"
    )
    return [
        f"n: seeds with a value; {spread}; IQM: mean of the middle half; best and worst with their"
        " seeds.",
        *_notes_on_standings(comparison.rows),
        *_notes_on_seeds([row.summary for row in comparison.rows if row.summary is not None]),
        *_notes_on_curves(comparison),
        *circumstances_note(comparison),
    ]


def _notes_on_standings(rows: Sequence[Row]) -> list[str]:
    standings = {row.standing for row in rows}
    notes = []
    if Standing.LIKE_BEST in standings:
        notes.append(
            "• best mean, flattered by being chosen; ≈ not distinguishable from it:"
            f" p ≥ {SIGNIFICANT} by Games and Howell's test, which knows of the choice."
        )
    elif standings > {Standing.BEST}:
        notes.append("• best mean.")
    if Standing.UNTOLD in standings:
        notes.append("? too few seeds to tell it from the best: two of each are the least.")
    return notes


def _notes_on_seeds(summaries: Sequence[Summary]) -> list[str]:
    notes = []
    if any(each.n + each.diverged == 1 for each in summaries):
        notes.append("Too few seeds: of one seed, nobody knows how far another would be.")
    if any(each.diverged for each in summaries):
        notes.append(
            "A diverged run is worse than any number in medians, IQMs and the order; means leave it"
            " out."
        )
    resampled = [each for each in summaries if each.median_interval is not None]
    if resampled:
        notes.append("Medians and IQMs of ten seeds or more with 95 % intervals (BCa bootstrap).")
        cautions = dict.fromkeys(coverage_note(each.n) for each in resampled)
        notes += [f"{each[0].upper()}{each[1:]}." for each in cautions if each]
    return notes


def _notes_on_curves(comparison: Comparison) -> list[str]:
    moment = comparison.question.moment
    notes = []
    if moment.is_chosen:
        notes.append(f"The best {moment.unit} was chosen by the value that is shown: it flatters.")
    ends = sorted({end for row in comparison.rows for end in ends_of(row, comparison)})
    left_out = [run for row in comparison.rows for run in row.too_short]
    there = _shared(comparison, left_out)
    advice = "" if there is None else f"; --at {moment.unit}={there:.0f} compares all"
    if left_out:
        runs = plural(len(left_out), "run")
        notes.append(f"{runs} left out, without a value {moment}{advice}.")
    elif len(ends) > 1 and moment.at is None:
        between = f"{ends[0]:.0f} to {ends[-1]:.0f}"
        notes.append(f"The curves end at different {moment.unit}s ({between}){advice}.")
    return notes


def _shared(comparison: Comparison, left_out: Sequence[Run]) -> float | None:
    """The last epoch or step at which all runs have a value, also those that were left out."""
    metric, moment = comparison.question.metric, comparison.question.moment
    counted = [
        run
        for row in comparison.rows
        for seed, run in row.counted.items()
        if math.isfinite(row.values[seed])
    ]
    curves = [run.curves[metric] for run in (*counted, *left_out) if metric in run.curves]
    places = [curve.epochs if moment.unit == "epoch" else curve.steps for curve in curves]
    last = min((float(each[-1]) for each in places), default=-1.0)
    first = max((float(each[0]) for each in places), default=0.0)
    return last if first <= last else None


def ends_of(row: Row, comparison: Comparison) -> set[float]:
    """The epochs at which the curves that gave a finite value end."""
    metric = comparison.question.metric
    counted = [run for seed, run in row.counted.items() if math.isfinite(row.values[seed])]
    return {float(run.curves[metric].epochs[-1]) for run in counted if metric in run.curves}
