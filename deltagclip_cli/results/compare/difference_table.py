"""Every setting of one comparison tested against the baseline."""

from __future__ import annotations

from collections.abc import Sequence

from deltagclip_cli.core import NOTHING, shown_with
from deltagclip_cli.results.compare.comparison import Comparison
from deltagclip_cli.results.compare.formatting import interval, p_value
from deltagclip_cli.results.compare.rows import Row, Versus
from deltagclip_cli.results.compare.text_table import Cell, Line, Sheet, line
from deltagclip_cli.results.statistics.difference import Design, Difference


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
        lines=[_line(row, versus, baseline) for row, versus in tested],
        notes=_notes(comparison, baseline, [versus.difference for _, versus in tested]),
    )


def _line(row: Row, versus: Versus, baseline: Row) -> Line:
    found = versus.difference
    effect = NOTHING if found.effect_size is None else f"{found.effect_size:.2f}"
    cells: list[str | Cell] = [
        row.group.name,
        _seeds(found),
        _difference(found, any(_has_diverged(each) for each in (row, baseline))),
        p_value(found.t_test_p),
        p_value(versus.t_test_p),
        p_value(found.rank_test_p),
        p_value(versus.rank_test_p),
        Cell(effect, interval(found.effect_interval, "{:.2f}".format)),
    ]
    return line(cells, row.standing)


def _has_diverged(row: Row) -> bool:
    return row.summary is not None and row.summary.diverged > 0


def _difference(found: Difference, has_diverged: bool) -> Cell:
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


def _notes(comparison: Comparison, baseline: Row, found: Sequence[Difference]) -> list[str]:
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
