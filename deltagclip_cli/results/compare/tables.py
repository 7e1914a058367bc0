"""Tables of comparisons, and the columns that they are made of.

One list of columns says what is known of each setting. It makes the table of a terminal, of a page,
of Markdown and LaTeX; and what a column has to say to programs goes into JSON and CSV.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from deltagclip_cli.core import NOTHING, REGIMES, finite, plural, short, shown_with, with_error
from deltagclip_cli.results.compare.choosing import chosen_on
from deltagclip_cli.results.compare.comparison import (
    CHOOSING,
    Comparison,
    Row,
    Standing,
    Versus,
    circumstances_note,
)
from deltagclip_cli.results.read.run import Outcome, Run
from deltagclip_cli.results.statistics.difference import SIGNIFICANT, Design

if TYPE_CHECKING:
    from deltagclip_cli.results.compare.choosing import Selection
    from deltagclip_cli.results.statistics.summary import Interval, Summary

T = TypeVar("T")
Show = Callable[[float], str]

INSIDE = "†"
"""Marks what was read where a learning rate was still to change."""

UNLIKE_AN_END = (
    "A training whose schedule ends there comes to other values, and rankings flip as rates decay"
)

_MARKS = {Standing.BEST: "•", Standing.LIKE_BEST: "≈", Standing.UNTOLD: "?"}


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    detail: str = ""  # what belongs behind it, or below it where there is little room
    # how good it is, from 0 to 1, for a colour behind it; None for no colour
    shade: float | None = None
    is_best: bool = False  # whether it is to be printed in bold
    standing: Standing | None = None  # that of its row, if it names one

    @property
    def whole(self) -> str:
        """The text and its detail."""
        return f"{self.text} {self.detail}".rstrip()

    @property
    def mark(self) -> str:
        """A sign for its standing; empty if it has none."""
        return _MARKS.get(self.standing, "") if self.standing else ""


@dataclass(frozen=True)
class Table:
    """A table as it is shown, whatever it is written as."""

    title: str
    headings: Sequence[str]  # of its columns; the first column is text, the others are numbers
    rows: Sequence[Sequence[Cell]]  # a cell for each column; the first of them names the row
    notes: Sequence[str] = ()  # sentences that belong below it
    chosen_on: str | None = None  # the part of the data that chose; None if nothing was chosen


@dataclass(frozen=True)
class Column(Generic[T]):
    """Something that is known of every thing with a row, such as a setting."""

    heading: str  # above it
    cell: Callable[[T], str | Cell]  # what a table says of one
    # what JSON and CSV say of it, by name; None if another column says it
    data: Callable[[T], Mapping[str, object]] | None = None
    is_shown: bool = True  # whether tables have it


def make_table(
    title: str,
    columns: Iterable[Column[T]],
    things: Iterable[T],
    notes: Sequence[str] = (),
    choices: Iterable[Selection | None] = (),
) -> Table:
    """Return a table with a row for each of some things, and what was chosen for it."""
    made = [each for each in choices if each is not None]
    told = dict.fromkeys(note for each in made for note in each.notes)
    shown = [column for column in columns if column.is_shown]
    rows = [make_cells(column.cell(thing) for column in shown) for thing in things]
    headings = [column.heading for column in shown]
    return Table(title, headings, rows, [*notes, *told], chosen_on(made))


def make_record(columns: Iterable[Column[T]], thing: T) -> dict[str, Any]:
    """Return all that columns have to say of something to programs."""
    record: dict[str, Any] = {}
    for column in columns:
        if column.data is not None:
            record |= column.data(thing)
    return record


def make_cells(cells: Iterable[str | Cell]) -> list[Cell]:
    """Return a row of cells, of which some are plain texts."""
    return [cell if isinstance(cell, Cell) else Cell(cell) for cell in cells]


def interval(bounds: Interval | None, show: Show) -> str:
    """Return ``[low, high]``; nothing for none."""
    return f"[{show(bounds.low)}, {show(bounds.high)}]" if bounds else ""


def p_value(p: float | None) -> str:
    """Return a p-value; a very small one by its order."""
    return finite(p, "{:.4f}" if p is None or p >= 1e-3 else "{:.1e}")


def setting_columns(comparison: Comparison) -> list[Column[Row]]:
    """Return all that is known of each setting, in the order of JSON and CSV."""
    return [*value_columns(comparison), *cost_columns(comparison), *difference_columns(comparison)]


def _name(row: Row) -> Cell:
    return Cell(row.group.name, standing=row.standing)


def value_columns(comparison: Comparison) -> list[Column[Row]]:
    """Return the values of each setting taken together, and how many runs have none."""
    has_intervals, question = comparison.question.interval, comparison.question
    is_apart = comparison.choice is not None and question.chooser != question.metric

    def mean(summary: Summary, show: Show, row: Row) -> Cell:
        is_best = row.standing is Standing.BEST
        if has_intervals:
            return Cell(show(summary.mean), interval(summary.interval, show), is_best=is_best)
        return Cell(with_error(summary.mean, summary.standard_error), is_best=is_best)

    return [
        Column(
            "optimizer",
            lambda row: Cell(
                row.group.name, is_best=row.standing is Standing.BEST, standing=row.standing
            ),
            lambda row: {
                "optimizer": row.group.optimizer,
                "settings": row.group.settings,
                "options": row.group.options,
                "standing": row.standing,
            },
        ),
        Column(
            "n",
            lambda row: str(row.summary.n if row.summary else 0),
            lambda row: {"summary": asdict(row.summary) if row.summary else None},
        ),
        Column("mean [95 %]" if has_intervals else "mean ± s.e.", _of_summary(mean)),
        Column(
            question.chooser,
            lambda row: Cell(
                with_error(row.merit.mean, row.merit.standard_error) if row.merit else NOTHING
            ),
            lambda row: {"merit": asdict(row.merit) if row.merit else None} if is_apart else {},
            is_shown=is_apart,
        ),
        Column("median", _of_summary(lambda s, show, _: _sure(s.median, s.median_interval, show))),
        Column("IQM", _of_summary(lambda s, show, _: _sure(s.iqm, s.iqm_interval, show))),
        Column("best", _of_summary(lambda s, show, row: _seed(s.best, show, row))),
        Column("worst", _of_summary(lambda s, show, row: _seed(s.worst, show, row))),
        Column(
            "others",
            _others,
            lambda row: {"left_out": row.left_out},
            is_shown=any(map(_others, comparison.rows)),
        ),
    ]


def _of_summary(cell: Callable[[Summary, Show, Row], Cell]) -> Callable[[Row], Cell]:
    """Return what shows something of the values of a setting, in the digits that they have."""

    def shown(row: Row) -> Cell:
        if row.summary is None:
            return Cell(NOTHING)
        show = shown_with(row.summary.standard_error, row.summary.mean)
        return cell(row.summary, show, row)

    return shown


def _sure(value: float, bounds: Interval | None, show: Show) -> Cell:
    return Cell(show(value), interval(bounds, show))


def _seed(value: float, show: Show, row: Row) -> Cell:
    """Return a value, and the seed that has it where seeds are known."""
    if not math.isfinite(value):
        return Cell("diverged")
    run = next(row.counted[key] for key, each in row.values.items() if each == value)
    return Cell(show(value), "" if run.seed is None else f"({run.seed})")


def _others(row: Row) -> str:
    """Return how many runs have no value that a mean can count, and why."""
    diverged = row.summary.diverged if row.summary else 0
    counts = {**({Outcome.DIVERGED.value: diverged} if diverged else {}), **row.left_out}
    told = {reason: count for reason, count in counts.items() if reason != CHOOSING}  # by a note
    return ", ".join(f"{count} {reason}" for reason, count in told.items())


def value_table(comparison: Comparison, rows: Sequence[Row]) -> Table:
    """Return means, medians, best and worst seeds of some rows, and what has no value."""
    question = comparison.question
    title = f"{comparison.title}: {question.metric} {question.moment}"
    spread = (
        "intervals of the mean by Student's t, too narrow where the noise is skewed"
        if question.interval
        else f"s.e.: standard error of the mean (ddof = {question.ddof})"
    )
    notes = [
        f"n: seeds with a value; {spread}; IQM: mean of the middle half; best and worst with their"
        " seeds.",
        *_notes_on_standings(rows),
        *_notes_on_choosing(rows),
        *_notes_on_seeds([row.summary for row in rows if row.summary is not None]),
        *_notes_on_curves(comparison),
        *circumstances_note(comparison),
    ]
    return make_table(title, value_columns(comparison), rows, notes, [comparison.choice])


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
    if Standing.PASSED_OVER in standings:
        notes.append("Without a sign: worse, or not the chosen setting of its optimizer.")
    if Standing.UNTOLD in standings:
        notes.append("? too few seeds to tell it from the best: two of each are the least.")
    return notes


def _notes_on_choosing(rows: Sequence[Row]) -> list[str]:
    note = "Of what was chosen, fresh seeds count: the runs that chose it would flatter it."
    return [note] if any(CHOOSING in row.left_out for row in rows) else []


def _notes_on_seeds(summaries: Sequence[Summary]) -> list[str]:
    notes = []
    if any(each.n + each.diverged == 1 for each in summaries):
        notes.append("Too few seeds: of one seed, nobody knows how far another would be.")
    if any(each.diverged for each in summaries):
        notes.append(
            "A diverged run is worse than any number in medians, IQMs and the order; means leave it"
            " out."
        )
    if any(each.median_interval is not None for each in summaries):
        notes.append(
            "Medians and IQMs of ten seeds or more with 95 % intervals (BCa bootstrap), which cover"
            " them in 92 to 95 % of normal samples."
        )
    return notes


def _notes_on_curves(comparison: Comparison) -> list[str]:
    moment = comparison.question.moment
    notes = []
    if inside := _inside(comparison):
        notes.append(
            f"{plural(inside, 'value')} read inside a longer schedule, where the learning rate was"
            f" still to change. {UNLIKE_AN_END}."
        )
    found = (ends_of(row, comparison, moment.unit) for row in comparison.rows)
    ends = sorted(set().union(*found))
    left_out = [run for row in comparison.rows for run in row.too_short]
    there = _shared(comparison, left_out)
    advice = "" if there is None else f"; --at {moment.unit}={there:.0f} compares all"
    if left_out:
        runs = plural(len(left_out), "run")
        notes.append(f"{runs} left out, without a value {moment}{advice}.")
    elif len(ends) > 1 and moment.at is None:
        between = f"{ends[0]:.0f} to {ends[-1]:.0f}"
        trials = [run.trial for row in comparison.rows for run in row.runs]
        if any(trial is not None and trial.early_stopping is not None for trial in trials):
            between += ", where early_stopping ended some"
        notes.append(f"The curves end at different {moment.unit}s ({between}){advice}.")
    return notes


def _inside(comparison: Comparison) -> int:
    """Return how many values at a given epoch or step are not those of the end of a schedule."""
    metric, moment = comparison.question.metric, comparison.question.moment
    runs = (run for row in comparison.rows for run in row.counted.values())
    return sum(moment.is_inside_schedule(run, metric) for run in runs)


def _shared(comparison: Comparison, left_out: Sequence[Run]) -> float | None:
    """Return the last epoch or step at which all runs have a value, those left out as well."""
    metric, moment = comparison.question.metric, comparison.question.moment
    counted = [run for row in comparison.rows for run in _with_finite_values(row)]
    curves = [run.curves[metric] for run in (*counted, *left_out) if metric in run.curves]
    places = [curve.epochs if moment.unit == "epoch" else curve.steps for curve in curves]
    last = min((float(each[-1]) for each in places), default=-1.0)
    first = max((float(each[0]) for each in places), default=0.0)
    return last if first <= last else None


def ends_of(row: Row, comparison: Comparison, unit: str = "epoch") -> set[float]:
    """Return the epochs, or steps, at which the curves that gave a finite value end."""
    metric = comparison.question.metric
    curves = [run.curves[metric] for run in _with_finite_values(row) if metric in run.curves]
    places = [curve.epochs if unit == "epoch" else curve.steps for curve in curves]
    return {float(each[-1]) for each in places}


def _with_finite_values(row: Row) -> list[Run]:
    return [run for seed, run in row.counted.items() if math.isfinite(row.values[seed])]


def cost_columns(comparison: Comparison) -> list[Column[Row]]:
    """Return the way of each setting to the target, the time of an epoch and the regimes."""
    has_target, has_epochs = comparison.target is not None, comparison.has_epochs
    has_regimes = any(row.regimes for row in comparison.rows)
    return [
        Column("optimizer", _name),
        Column(
            "reached",
            lambda row: f"{row.reached.count} of {row.reached.n}" if row.reached else NOTHING,
            lambda row: {"reached": asdict(row.reached) if row.reached else None},
            is_shown=has_target,
        ),
        Column("epochs", _median_cost("epochs"), is_shown=has_target and has_epochs),
        Column("steps", _median_cost("steps"), is_shown=has_target),
        Column("seconds", _median_cost("seconds"), is_shown=has_target),
        Column(
            f"s/{comparison.clock}",
            lambda row: short(row.epoch_seconds),
            lambda row: {"epoch_seconds": row.epoch_seconds},
        ),
        *(
            Column(each, _share(each), lambda row: {"regimes": row.regimes}, is_shown=has_regimes)
            for each in REGIMES
        ),
    ]


def _median_cost(clock: str) -> Callable[[Row], str]:
    """Return what shows the median over seeds, in four digits or all that are before the point."""

    def shown(row: Row) -> str:
        if row.reached is None or row.reached.median is None:
            return NOTHING
        cost: float = getattr(row.reached.median, clock)
        mark = INSIDE * bool(row.reached.inside_schedule and math.isfinite(cost))
        return finite(cost, "{:.0f}" if 1e3 <= cost < 1e9 else "{:.4g}") + mark

    return shown


def _share(regime: str) -> Callable[[Row], str]:
    return lambda row: finite(row.regimes[regime], "{:.1%}") if row.regimes else ""


def cost_table(comparison: Comparison, rows: Sequence[Row]) -> Table | None:
    """Return what is known of the costs of some rows; None if nothing is."""
    target = comparison.target
    if not (target or any(row.regimes or row.epoch_seconds for row in rows)):
        return None
    notes = []
    if target:
        program = "the program's clock since its first file"
        notes.append(
            f"Until {target}: the median over seeds, ∞ for those that miss it; seconds of"
            f" {'the epochs' if comparison.has_epochs else program}."
        )
    if any(row.reached and row.reached.inside_schedule for row in rows):
        notes.append(
            f"{INSIDE} Crossed by a seed at least inside a longer schedule: the learning rate was"
            f" still to change. {UNLIKE_AN_END}; train for that length to compare times."
        )
    if any(row.regimes for row in rows):
        notes.append("Shares of steps: plain at η, clipped at ηγ/‖g‖, floored at ηδ.")
    if never := [row.group.name for row in rows if row.was_never_floored]:
        notes.append(
            f"No step was floored, so that δ was never active and it was GClip: {', '.join(never)}."
        )
    title = f"{comparison.title}: cost" + (f" of {target}" if target else "")
    return make_table(title, cost_columns(comparison), rows, notes, [comparison.choice])


def difference_columns(comparison: Comparison) -> list[Column[Row]]:
    """Return the difference of each setting to the baseline, with its tests and effect size."""
    baseline = comparison.baseline

    def difference(versus: Versus, row: Row) -> Cell:
        found = versus.difference
        if found.interval is None and any(
            each.summary and each.summary.diverged for each in (row, baseline) if each
        ):
            return Cell(NOTHING)  # what the others differ by would flatter one of the two
        error = (found.interval.high - found.interval.low) / 4 if found.interval else None
        show = shown_with(error, max(abs(found.difference), error or 0.0))
        return _sure(found.difference, found.interval, show)

    return [
        Column("optimizer", _name),
        Column("seeds", _of_versus(_seeds), _difference_data),
        Column("difference", _of_versus(difference)),
        Column("t p", _of_versus(lambda versus, _: p_value(versus.difference.t_test_p))),
        Column("t Holm", _of_versus(lambda versus, _: p_value(versus.t_test_p))),
        Column("rank p", _of_versus(lambda versus, _: p_value(versus.difference.rank_test_p))),
        Column("rank Holm", _of_versus(lambda versus, _: p_value(versus.rank_test_p))),
        Column("g", _of_versus(_effect)),
    ]


def _of_versus(cell: Callable[[Versus, Row], str | Cell]) -> Callable[[Row], str | Cell]:
    """Return what shows something of a setting against the baseline."""
    return lambda row: NOTHING if row.versus is None else cell(row.versus, row)


def _difference_data(row: Row) -> dict[str, object]:
    if row.versus is None:
        return {"versus_baseline": None}
    holm = {"t_test_p_holm": row.versus.t_test_p, "rank_test_p_holm": row.versus.rank_test_p}
    return {"versus_baseline": {**asdict(row.versus.difference), **holm}}


def _seeds(versus: Versus, _: Row) -> str:
    found = versus.difference
    if found.design is not Design.PAIRED:
        return f"{found.n_ours} and {found.n_theirs}"
    of = max(found.n_ours, found.n_theirs)
    return f"{found.pairs} pairs" if found.pairs == of else f"{found.pairs} pairs of {of}"


def _effect(versus: Versus, _: Row) -> Cell:
    found = versus.difference
    text = NOTHING if found.effect_size is None else f"{found.effect_size:.2f}"
    return Cell(text, interval(found.effect_interval, "{:.2f}".format))


def difference_table(comparison: Comparison) -> Table | None:
    """Return the settings that were tested against the baseline; None if none was."""
    tested = [row for row in comparison.rows if row.versus is not None]
    baseline = comparison.baseline
    if baseline is None or not tested:
        return None
    title = f"{comparison.title}: {comparison.question.metric}, difference to {baseline.group.name}"
    notes = _difference_notes(comparison, baseline)
    columns = difference_columns(comparison)
    return make_table(title, columns, tested, notes, [comparison.choice])


def _difference_notes(comparison: Comparison, baseline: Row) -> list[str]:
    found = [row.versus.difference for row in comparison.rows if row.versus]
    better = "More" if comparison.question.higher_is_better else "Less"
    notes = [
        f"{better} is better; intervals are of 95 % where the noise is normal, as t-tests assume;"
        " g: difference in standard deviations (Hedges); Holm: adjusted for all tests of the column"
        " before.",
        "Pairs by seed where those of one are all among the other's: paired t-test, Wilcoxon's"
        " signed ranks. Else Welch's t-test, Mann and Whitney's ranks. Ranks compare distributions,"
        " not means.",
    ]
    if any(each.design is Design.UNPAIRED and each.n_ours != each.n_theirs for each in found):
        notes.append(
            "Ranks of samples of unequal size: the larger p of Mann and Whitney's test and of"
            " Brunner and Munzel's, which allows for unequal spreads."
        )
    if any(each.design is Design.PAIRED and each.left_out for each in found):
        notes.append(
            "Pairs of some seeds differ by their own means, not by those of all seeds above."
        )
    if any(each.t_test_p is None and each.rank_test_p is not None for each in found):
        notes.append("Where a run diverged, or nothing varies, only ranks can be tested.")
    cautions = dict.fromkeys(each.caution for each in found if each.caution)
    notes += [f"{each[0].upper()}{each[1:]}." for each in cautions]
    settings = sum(row.group.optimizer == baseline.group.optimizer for row in comparison.rows)
    if settings > 1 and comparison.question.chooser == comparison.question.metric:
        notes.append(
            f"The baseline is the best of {settings} settings, chosen by these very values."
        )
    return notes
