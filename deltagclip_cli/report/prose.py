"""The answer in words: which optimizers are best, by how much, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from deltagclip_cli.core import listed, plural, shown_with, with_error
from deltagclip_cli.results.compare.comparison import (
    CHOOSING,
    Behind,
    Comparison,
    Row,
    Standing,
    circumstances_note,
)
from deltagclip_cli.results.compare.tables import UNLIKE_AN_END, p_value
from deltagclip_cli.results.read.run import Outcome
from deltagclip_cli.results.statistics.difference import Design


def sentences(comparison: Comparison) -> list[str]:
    """Two or three sentences on a comparison, and one on each thing that spoils it."""
    rows = [row for row in comparison.rows if row.summary is not None]
    if not rows:
        runs = [run for row in comparison.rows for run in row.runs]
        if any(run.outcome is Outcome.FINISHED for run in runs):
            return [f"No run that has come to its end has {comparison.question.metric}."]
        return ["No run has come to its end, so there is nothing to compare yet."]
    best = [row for row in rows if row.standing is Standing.BEST]
    found = ["Every run diverged."]
    if best:
        found = [_on_best(best, comparison), *_on_others(best[0], rows)]
    if comparison.choice is not None:
        found += comparison.choice.notes
    trouble = [*_on_trouble(comparison.rows), *circumstances_note(comparison)]
    return [*found, *trouble, *_on_schedules(comparison), *_on_floor(comparison.rows)]


def _on_best(best: Sequence[Row], comparison: Comparison) -> str:
    question, summary = comparison.question, best[0].summary
    assert summary is not None
    has_error = summary.standard_error is not None
    value = with_error(summary.mean, summary.standard_error)
    seeds = f"mean ± standard error of {plural(summary.n, 'seed')}" if has_error else "one seed"
    if len(comparison.rows) == 1:
        return f"{best[0].group.name} has {question.metric} {question.moment} {value} ({seeds})."
    verb = "has" if len(best) == 1 else "have"
    return f"{few(best)} {verb} the best {question.metric} {question.moment}: {value} ({seeds})."


def _on_others(best: Row, rows: Sequence[Row]) -> list[str]:
    alike, untold, worse = (
        [row for row in rows if row.standing is standing]
        for standing in (Standing.LIKE_BEST, Standing.UNTOLD, Standing.WORSE)
    )
    found = []
    if alike:
        found.append(
            f"{few(alike)} cannot be told from {best.group.name} with these seeds, which is not to"
            f" say that they are equal{_how_far(alike)}."
        )
    if untold:
        found.append(f"Of {few(untold)} there are too few seeds to tell.")
    if worse:
        found.append(_on_worse(best, worse))
    return found


def _how_far(alike: Sequence[Row]) -> str:
    """Say how large the differences of some settings from the best may be."""
    tests = [row.behind.difference for row in alike if row.behind is not None]
    known = [(test.difference, test.interval) for test in tests if test.interval is not None]
    if not known:
        return ""
    most = max(abs(difference) for difference, _ in known)
    reach = max(abs(bound) for _, interval in known for bound in (interval.low, interval.high))
    show = shown_with(reach / 4, reach)
    return (
        f": the means differ by at most {show(most)}, but 95 % intervals of the differences reach"
        f" {show(reach)}"
    )


def _on_worse(best: Row, worse: Sequence[Row]) -> str:
    """By how much the nearest of those that are worse is so, and which others are."""
    nearest, *others = worse
    verb = "is" if len(others) == 1 else "are"
    more = f"; {few(others)} {verb} further behind" if others else ""
    if nearest.behind is None or nearest.behind.difference.interval is None:
        return f"{nearest.group.name} is worse than {best.group.name}{more}."
    return f"{nearest.group.name} is worse by {_amount(nearest.behind)}{more}."


def _amount(behind: Behind) -> str:
    """Say how much worse, and how sure that is; more is worse, whatever the metric."""
    test = behind.difference
    assert test.interval is not None
    bounds = sorted(
        math.copysign(1, test.difference) * bound
        for bound in (test.interval.low, test.interval.high)
    )
    show = shown_with((bounds[1] - bounds[0]) / 4, abs(test.difference))
    pairs = (
        f"{plural(test.pairs, 'pair')} by seed" if test.design is Design.PAIRED else "Welch's test"
    )
    return (
        f"{show(abs(test.difference))} (95 % interval {show(bounds[0])} to {show(bounds[1])},"
        f" p = {p_value(behind.p)} adjusted for all settings, {pairs})"
    )


def _on_trouble(rows: Sequence[Row]) -> list[str]:
    found = []
    if lost := [(row, count) for row in rows if (count := row.lost)]:
        words = [f"{count} of {len(row.once)} of {row.group.name}" for row, count in lost]
        found.append(f"Runs that diverged: {listed(words)}.")
    lacking = [n for row in rows for why, n in row.left_out.items() if why != CHOOSING]
    if missing := sum(lacking):
        found.append(f"{plural(missing, 'run')} had no value to count; the table says why.")
    return found


def _on_schedules(comparison: Comparison) -> list[str]:
    inside = [row for row in comparison.rows if row.reached and row.reached.inside_schedule]
    if not inside:
        return []
    return [
        f"{few(inside)} reached {comparison.target} inside a longer learning-rate schedule."
        f" {UNLIKE_AN_END}, so that these times cannot be compared."
    ]


def _on_floor(rows: Sequence[Row]) -> list[str]:
    found = []
    if never := [row for row in rows if row.was_never_floored]:
        found.append(
            f"No step of {few(never)} was floored: δ was never active, and what ran was GClip under"
            " another name. To see what δ does, it has to be above γ/‖g‖."
        )
    return found


def few(rows: Sequence[Row]) -> str:
    """The names of some settings, of many only the first ones."""
    return listed([row.group.name for row in rows])
