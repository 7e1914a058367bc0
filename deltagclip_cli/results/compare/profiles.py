"""Who is best on the whole: ranks and performance profiles over all experiments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from deltagclip_cli.core import NOTHING, plural
from deltagclip_cli.results.compare.comparison import Comparison, Row, order
from deltagclip_cli.results.compare.question import Cost, Question
from deltagclip_cli.results.compare.tables import Column, Table, make_table, p_value
from deltagclip_cli.results.statistics.across import Profile, Ranking, performance_profile, ranks

CLOCKS = ("epochs", "steps", "seconds")
_TAUS = (1.0, 1.5, 2.0, 4.0)


@dataclass(frozen=True)
class Overall:
    """The optimizers of several comparisons, each at its best setting.

    Args:
        ranking: by their order in the comparisons.
        profiles: by clock and optimizer, over the comparisons with a target; empty without any.
        timed: how many comparisons have a target.
        experiments: how many experiments they are of, some under several conditions.
        chosen: whether an optimizer had several settings to choose from.
    """

    ranking: Ranking
    profiles: Mapping[str, Mapping[str, Profile]]
    timed: int
    experiments: int
    chosen: bool


def overall(comparisons: Sequence[Comparison]) -> Overall | None:
    """Compare across experiments; None for a single one, or without two optimizers in all."""
    if len(comparisons) < 2:
        return None
    best = {each.title: _best(each.rows) for each in comparisons}
    places = {each.title: _places(best[each.title], each.question) for each in comparisons}
    ranking = ranks(places, dict.fromkeys(places, False))
    if len(ranking.mean_rank) < 2:
        return None
    timed = {each.title: _timed(best[each.title]) for each in comparisons if each.target}
    profiles = {
        clock: performance_profile(
            {
                title: {label: getattr(cost, clock) for label, cost in costs.items()}
                for title, costs in timed.items()
            }
        )
        for clock in CLOCKS
        if timed
    }
    experiments = len({each.experiment for each in comparisons})
    if experiments < len(comparisons):
        ranking = replace(ranking, p=None)  # runs under several conditions are not independent
    chosen = any(len(each.rows) > len(best[each.title]) for each in comparisons)
    return Overall(ranking, profiles, len(timed), experiments, chosen)


def _best(rows: Sequence[Row]) -> dict[str, Row]:
    """The best row of each optimizer that has values, of rows with the best first."""
    best: dict[str, Row] = {}
    for row in rows:
        if row.summary is not None:
            best.setdefault(row.group.optimizer, row)
    return best


def _places(rows: Mapping[str, Row], question: Question) -> dict[str, float]:
    """The place of each optimizer in the order of the table; equal ones have the same."""
    keys = {
        label: order(row, higher_is_better=question.higher_is_better) for label, row in rows.items()
    }
    in_order = sorted(set(keys.values()))
    return {label: float(in_order.index(key)) for label, key in keys.items()}


def _timed(rows: Mapping[str, Row]) -> dict[str, Cost]:
    """The median cost of each optimizer of which a run has ended."""
    return {
        label: row.reached.median
        for label, row in rows.items()
        if row.reached is not None and row.reached.median is not None
    }


def overall_table(found: Overall) -> Table:
    """Return ranks and scores, a row for each optimizer, the best rank first."""
    ranks = found.ranking.mean_rank
    by_seconds = found.profiles.get("seconds", {})

    def score(clock: str) -> Callable[[str], str]:
        profiles = found.profiles.get(clock, {})
        return lambda label: f"{profiles[label].score:.3f}" if label in profiles else NOTHING

    def share(tau: float) -> Callable[[str], str]:
        return lambda label: (
            f"{by_seconds[label].share(tau):.0%}" if label in by_seconds else NOTHING
        )

    has_profiles = bool(found.profiles)
    columns = [
        Column[str]("optimizer", str),
        Column("mean rank", lambda label: f"{ranks[label]:.2f}"),
        *(Column(f"score ({each})", score(each), is_shown=has_profiles) for each in CLOCKS),
        *(Column(f"≤ {tau:g} ×", share(tau), is_shown=has_profiles) for tau in _TAUS),
    ]
    labels = sorted(ranks, key=ranks.__getitem__)
    return make_table(f"{_of(found)} together", columns, labels, _notes(found))


def _of(found: Overall) -> str:
    count = found.ranking.experiments
    if found.experiments == count:
        return f"{count} experiments"
    return f"{count} comparisons of {plural(found.experiments, 'experiment')}"


def _notes(found: Overall) -> list[str]:
    ranking = found.ranking
    notes = [f"Ranks in the order of the tables, 1 the best; means over {_of(found)}."]
    if ranking.p is not None:
        notes.append(f"Friedman's test that all are alike: p = {p_value(ranking.p)}.")
    if found.profiles:
        notes.append(
            f"Performance profiles over {plural(found.timed, 'target')} (AlgoPerf): the score is"
            " the area from 1 to 4 times the fastest way to the target; ≤ τ ×, the share of targets"
            " that were reached in at most τ times the fastest's seconds."
        )
    if ranking.left_out:
        notes.append(f"Not in all of them, so left out: {', '.join(ranking.left_out)}.")
    if found.chosen:
        notes.append("Each optimizer counts with its best setting, which flatters many settings.")
    return notes
