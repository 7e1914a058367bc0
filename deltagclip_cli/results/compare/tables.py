"""Tables of comparisons as they are shown, whatever they are written as."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from deltagclip_cli.core import NOTHING, REGIMES, finite, plural, short, shown_with, with_error
from deltagclip_cli.results.compare.comparison import (
    Comparison,
    Row,
    Standing,
    Versus,
    circumstances_note,
)
from deltagclip_cli.results.read.run import Outcome, Run
from deltagclip_cli.results.statistics.difference import SIGNIFICANT, Design, Difference
from deltagclip_cli.results.statistics.summary import Interval, Summary, coverage_note


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
        lines=[_value_line(row, intervals, others) for row in comparison.rows],
        notes=_value_notes(comparison, intervals),
    )


def _value_line(row: Row, intervals: bool, others: bool) -> Line:
    last = [_others(row)] if others else []
    if row.summary is None:
        return line([row.group.name, "0", *[NOTHING] * 5, *last])
    return line([*_value_cells(row, row.summary, intervals), *last], row.standing)


def _value_cells(row: Row, summary: Summary, intervals: bool) -> list[str | Cell]:
    show = shown_with(summary.standard_error, summary.mean)
    is_best = row.standing is Standing.BEST
    return [
        Cell(row.group.name, is_best=is_best),
        str(summary.n),
        replace(_mean_cell(summary, show, intervals), is_best=is_best),
        Cell(show(summary.median), interval(summary.median_interval, show)),
        Cell(show(summary.iqm), interval(summary.iqm_interval, show)),
        _seed_cell(row, summary.best, show),
        _seed_cell(row, summary.worst, show),
    ]


def _mean_cell(summary: Summary, show: Callable[[float], str], intervals: bool) -> Cell:
    if intervals:
        return Cell(show(summary.mean), interval(summary.interval, show))
    return Cell(with_error(summary.mean, summary.standard_error))


def _seed_cell(row: Row, value: float, show: Callable[[float], str]) -> Cell:
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


def _value_notes(comparison: Comparison, intervals: bool) -> list[str]:
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


@dataclass(frozen=True)
class Cell:
    """One cell.

    Args:
        text: what it says.
        detail: what belongs behind it, or below it where there is little room.
        shade: how good it is, from 0 to 1, for a colour behind it; None for no colour.
        is_best: whether it is to be printed in bold.
    """

    text: str
    detail: str = ""
    shade: float | None = None
    is_best: bool = False

    @property
    def whole(self) -> str:
        """The text and its detail."""
        return f"{self.text} {self.detail}".rstrip()


@dataclass(frozen=True)
class Line:
    """One row of cells, a cell for each column.

    Args:
        cells: the first of them names the row.
        standing: how the row is to be marked, if at all.
    """

    cells: Sequence[Cell]
    standing: Standing | None = None

    @property
    def mark(self) -> str:
        """A sign for its standing; empty if it has none."""
        return _MARKS.get(self.standing, "") if self.standing else ""


_MARKS = {Standing.BEST: "•", Standing.LIKE_BEST: "≈", Standing.UNTOLD: "?"}


@dataclass(frozen=True)
class Sheet:
    """A table.

    Args:
        title: what it is about.
        columns: their titles; the first column is text, the others are numbers.
        lines: its rows.
        notes: sentences that belong below it.
    """

    title: str
    columns: Sequence[str]
    lines: Sequence[Line]
    notes: Sequence[str] = ()


def line(cells: Iterable[str | Cell], standing: Standing | None = None) -> Line:
    """A row of cells, of which some are plain texts."""
    return Line([cell if isinstance(cell, Cell) else Cell(cell) for cell in cells], standing)


def marked(line: Line) -> list[Cell]:
    """The cells of a row, the first behind the mark of its standing."""
    first, *others = line.cells
    return [replace(first, text=f"{line.mark} {first.text}".lstrip()), *others]


def amount(value: float | None) -> str:
    """How many epochs, steps or seconds: in four digits, or all that are before the point."""
    is_large = value is not None and 1e3 <= value < 1e9
    return finite(value, "{:.0f}" if is_large else "{:.4g}")


def p_value(p: float | None) -> str:
    """A p-value; a very small one by its order."""
    return finite(p, "{:.4f}" if p is None or p >= 1e-3 else "{:.1e}")


def share(part: float | None) -> str:
    """A share in percent."""
    return finite(part, "{:.1%}")


def interval(bounds: Interval | None, show: Callable[[float], str]) -> str:
    """``[low, high]``; nothing for none."""
    return f"[{show(bounds.low)}, {show(bounds.high)}]" if bounds else ""


def cost_sheet(comparison: Comparison) -> Sheet | None:
    """The way to the target, the time of an epoch and the regimes; None if nothing is known."""
    rows, target = comparison.rows, comparison.target
    has_epochs = comparison.has_epochs
    has_regimes = any(row.regimes for row in rows)
    if not (target or has_regimes or any(row.epoch_seconds for row in rows)):
        return None
    columns = ["optimizer"]
    if target:
        columns += ["reached", *(["epochs"] if has_epochs else []), "steps", "seconds"]
    columns.append("s/epoch" if has_epochs else "s/step")
    columns += REGIMES if has_regimes else []
    lines = []
    for row in rows:
        texts = [row.group.name, *(_way(row, has_epochs) if target else [])]
        texts.append(short(row.epoch_seconds))
        texts += _shares(row) if has_regimes else []
        lines.append(line(texts, row.standing))
    title = f"{comparison.title}: cost" + (f" of {target}" if target else "")
    return Sheet(title, columns, lines, _cost_notes(comparison, has_epochs))


def _way(row: Row, has_epochs: bool) -> list[str]:
    if row.reached is None or row.reached.median is None:
        return ["0 of 0", *[NOTHING] * (3 if has_epochs else 2)]
    median = row.reached.median
    return [
        f"{row.reached.count} of {row.reached.n}",
        *([amount(median.epochs)] if has_epochs else []),
        amount(median.steps),
        amount(median.seconds),
    ]


def _shares(row: Row) -> list[str]:
    return [share(row.regimes[each]) if row.regimes else "" for each in REGIMES]


def _cost_notes(comparison: Comparison, has_epochs: bool) -> list[str]:
    notes = []
    if comparison.target:
        clock = "the epochs" if has_epochs else "the program's clock since its first file"
        notes.append(
            f"Until {comparison.target}: the median over seeds, ∞ for those that miss it; seconds"
            f" of {clock}."
        )
    if any(row.regimes for row in comparison.rows):
        notes.append("Shares of steps: plain at η, clipped at ηγ/‖g‖, floored at ηδ.")
    return notes + _note_on_floor(comparison.rows)


def _note_on_floor(rows: Sequence[Row]) -> list[str]:
    names = [row.group.name for row in rows if row.was_never_floored]
    if not names:
        return []
    return [
        f"No step was floored, so that δ was never active and it was GClip: {', '.join(names)}."
    ]


def difference_sheet(comparison: Comparison) -> Sheet | None:
    """Differences with their tests and effect sizes; None if nothing was tested."""
    tested = [(row, row.versus) for row in comparison.rows if row.versus is not None]
    baseline = comparison.baseline
    if baseline is None or not tested:
        return None
    return Sheet(
        title=(
            f"{comparison.title}: {comparison.question.metric}, difference to {baseline.group.name}"
        ),
        columns=["optimizer", "seeds", "difference", "t p", "t Holm", "rank p", "rank Holm", "g"],
        lines=[_difference_line(row, versus, baseline) for row, versus in tested],
        notes=_difference_notes(comparison, baseline, [versus.difference for _, versus in tested]),
    )


def _difference_line(row: Row, versus: Versus, baseline: Row) -> Line:
    found = versus.difference
    effect = NOTHING if found.effect_size is None else f"{found.effect_size:.2f}"
    cells: list[str | Cell] = [
        row.group.name,
        _seeds(found),
        _difference_cell(found, any(_has_diverged(each) for each in (row, baseline))),
        p_value(found.t_test_p),
        p_value(versus.t_test_p),
        p_value(found.rank_test_p),
        p_value(versus.rank_test_p),
        Cell(effect, interval(found.effect_interval, "{:.2f}".format)),
    ]
    return line(cells, row.standing)


def _has_diverged(row: Row) -> bool:
    return row.summary is not None and row.summary.diverged > 0


def _difference_cell(found: Difference, has_diverged: bool) -> Cell:
    """Nothing where a run diverged: what the others differ by would flatter one of the two."""
    if found.interval is None and has_diverged:
        return Cell(NOTHING)
    error = (found.interval.high - found.interval.low) / 4 if found.interval else None
    show = shown_with(error, max(abs(found.difference), error or 0.0))
    return Cell(show(found.difference), interval(found.interval, show))


def _seeds(found: Difference) -> str:
    if found.design is not Design.PAIRED:
        return f"{found.n_ours} and {found.n_theirs}"
    of = max(found.n_ours, found.n_theirs)
    return f"{found.pairs} pairs" if found.pairs == of else f"{found.pairs} pairs of {of}"


def _difference_notes(
    comparison: Comparison, baseline: Row, found: Sequence[Difference]
) -> list[str]:
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
    notes += [f"{each[0].upper()}{each[1:]}." for each in _cautions(found)]
    settings = sum(row.group.optimizer == baseline.group.optimizer for row in comparison.rows)
    if settings > 1:
        notes.append(
            f"The baseline is the best of {settings} settings, chosen by these very values."
        )
    return notes


def _cautions(found: Sequence[Difference]) -> list[str]:
    """What so few seeds cannot show, each once."""
    return [each for each in dict.fromkeys(each.caution for each in found) if each]
