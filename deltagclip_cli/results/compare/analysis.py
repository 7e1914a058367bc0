"""A whole analysis of runs: comparisons, optimizers over all of them, and how settings matter."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from deltagclip_cli.core import NOTHING, UsageError, are_mixed_shares, plural, printable
from deltagclip_cli.results.compare.choosing import check_choice
from deltagclip_cli.results.compare.comparison import (
    Comparison,
    Row,
    Standing,
    account_of,
    check_baseline,
    compare_runs,
)
from deltagclip_cli.results.compare.effort import effort_table
from deltagclip_cli.results.compare.method_tables import verdict_tables
from deltagclip_cli.results.compare.methods import Verdicts, judge_methods, on_test
from deltagclip_cli.results.compare.published import experiments, published_table
from deltagclip_cli.results.compare.question import (
    CLOCKS,
    Moment,
    Question,
    Target,
    check_once,
    choose_metric,
    higher_is_better,
    usual_metric,
)
from deltagclip_cli.results.compare.scales import Scaling, scaling_table, scalings
from deltagclip_cli.results.compare.sensitivity import (
    HeatMap,
    Margin,
    heat_map_table,
    heat_maps,
    sensitivity_tables,
)
from deltagclip_cli.results.compare.tables import (
    INSIDE,
    UNLIKE_AN_END,
    Column,
    Table,
    cost_table,
    difference_table,
    make_table,
    p_value,
    value_table,
)
from deltagclip_cli.results.read.run import usual_clock
from deltagclip_cli.results.statistics.across import Profile, Ranking, performance_profile, ranks

if TYPE_CHECKING:
    from deltagclip_cli.results.compare.choosing import Selection
    from deltagclip_cli.results.compare.request import Request
    from deltagclip_cli.results.read.run import Reading, Run


@dataclass(frozen=True, eq=False)
class Analysis:
    """The answer to a request."""

    request: Request
    comparisons: Sequence[Comparison]  # one for each experiment and its conditions
    across: Overall | None  # all of them together; None if there is nothing to be said
    heat_maps: Sequence[HeatMap]  # those that were asked for
    margin: Margin  # how far from the best a good setting may be
    problems: Sequence[str]  # what could not be read or is in doubt
    verdicts: Sequence[Verdicts] = ()  # one for each experiment that was tuned by a protocol

    @cached_property
    def scalings(self) -> list[Scaling]:
        """The speed-ups by scale of the experiments that have any."""
        return scalings(self.comparisons)

    def tables(self) -> list[Table]:
        """Return everything as tables, in the order in which they are read."""
        found: list[Table | None] = []
        for each in self.comparisons:
            rows = _judged(each)
            values = value_table(each, rows)
            if draws := len(each.rows) - len(rows):
                left = f"Not shown: {plural(draws, 'draw')} that no study chose; --json has all."
                values = replace(values, notes=[*values.notes, left])
            found += [values, cost_table(each, rows), difference_table(each), effort_table(each)]
        for tuned in self.verdicts:
            found += verdict_tables(tuned)
        found += sensitivity_tables(self.comparisons, self.margin)
        found += map(heat_map_table, self.heat_maps)
        found += map(scaling_table, self.scalings)
        if self.across is not None:
            found.append(overall_table(self.across))
        if self.request.published:
            found += map(published_table, self.comparisons)
        return [table for table in found if table is not None]


def analyse(reading: Reading, request: Request) -> Analysis:
    """Compare runs; UsageError if the request does not fit them, or a plan is damaged."""
    margin, keys = Margin.parse(request.within), request.heatmap_keys()
    comparisons = compare_runs(reading.runs, _questions(reading, request))
    _check_moment(comparisons)
    for each in comparisons:
        if each.question.moment.is_chosen:
            what = f"--at best: {each.title}"
            check_choice(what, each.question.chooser, select_on_test=request.select_on_test)
    if request.baseline is not None:
        check_baseline(comparisons, request.baseline)
    maps = heat_maps(comparisons, keys) if keys else []
    problems = [
        *reading.problems,
        *_twice(comparisons),
        *_in_percent(comparisons),
        *_unmet(comparisons, request),
    ]
    accounts = {each.account.lock.path: each.account for each in comparisons if each.account}
    verdicts = [judge_methods(each.lock, each.choices) for each in accounts.values()]
    return Analysis(request, comparisons, overall(comparisons), maps, margin, problems, verdicts)


def _judged(comparison: Comparison) -> Sequence[Row]:
    """Return the rows of tables: all, but of a plan that chose not the draws that it passed over.

    These have a seed or two, and a test value that nobody was to look at.
    """
    plan = comparison.account
    if plan is None or not plan.chosen:
        return comparison.rows
    drawn = {run.group for _, runs in plan.draws for run in runs}
    return [
        row
        for row in comparison.rows
        if row.standing is not Standing.PASSED_OVER or row.group not in drawn
    ]


def _planned_metric(runs: Sequence[Run]) -> str | None:
    """Return what the plan of some runs judges by, on the test set; None if none has it."""
    plan = account_of(runs)
    metric = on_test(plan.lock.tuning.protocol.metric) if plan is not None else ""
    return metric if any(metric in run.curves for run in runs) else None


def _questions(reading: Reading, request: Request) -> dict[str, Question]:
    """Return what is asked of each experiment; without a metric, each is judged by its own."""
    moment = Moment.parse(request.at)
    words = f"--metric {request.metric}" if request.metric else "--metric"
    metric = choose_metric(reading.runs, request.metric, words)
    targets = [Target.parse(each, reading.runs, request.mode) for each in request.target or ()]
    check_once(targets)
    questions = {}
    for name in dict.fromkeys(run.group.experiment for run in reading.runs):
        runs = [run for run in reading.runs if run.group.experiment == name]
        own = metric if request.metric else _planned_metric(runs) or usual_metric(runs) or metric
        questions[name] = Question(
            metric=own,
            higher_is_better=higher_is_better(own, request.mode, words, runs),
            moment=replace(moment, unit=usual_clock(runs)),
            targets=targets,
            baseline=request.baseline,
            ddof=request.ddof,
            interval=request.interval,
        )
    return questions


def _check_moment(comparisons: Sequence[Comparison]) -> None:
    """Raise UsageError if no run has a value at the epoch or step that was asked for."""
    moment, rows = comparisons[0].question.moment, [r for each in comparisons for r in each.rows]
    if moment.at is None or any(row.values for row in rows):
        return
    curves = [curve for row in rows for run in row.runs for curve in run.curves.values()]
    last = max((moment.end(curve) for curve in curves), default=0)
    raise UsageError(f"{moment.option}: no run has a value there; the longest ends at {last:.0f}.")


def _twice(comparisons: Sequence[Comparison]) -> list[str]:
    return [
        printable(
            f"{run.folder}: seed {run.seed} of {row.group.name} is there twice;"
            f" {row.counted[run.seed_or_folder].folder} is the one that counts."
        )
        for comparison in comparisons
        for row in comparison.rows
        for run in row.twice
    ]


def _in_percent(comparisons: Sequence[Comparison]) -> list[str]:
    return [
        f"{each.title}: some values are above 1 and others are not, as if some were in percent:"
        " such do not compare."
        for each in comparisons
        if are_mixed_shares(
            each.question.metric, [v for row in each.rows for v in row.values.values()]
        )
    ]


def _unmet(comparisons: Sequence[Comparison], request: Request) -> list[str]:
    """Return sentences on what was asked for and is not there."""
    names = {each.experiment for each in comparisons}
    problems = [
        f"--target: there is no experiment {target.experiment} among {', '.join(sorted(names))}."
        for target in comparisons[0].question.targets
        if target.experiment is not None and target.experiment not in names
    ]
    if request.baseline is not None:
        problems += [
            f"{each.title}: no runs of --baseline {request.baseline}, so nothing was tested."
            if each.baseline is None
            else f"{each.title}: nothing has values but --baseline {request.baseline}."
            for each in comparisons
            if not any(row.versus for row in each.rows)
        ]
    if request.published and not any(map(published_table, comparisons)):
        problems.append(
            "--published: there are no figures of these experiments and metrics, but of"
            f" {', '.join(experiments())}."
        )
    return problems


_TAUS = (1.0, 1.5, 2.0, 4.0)


@dataclass(frozen=True)
class Overall:
    """The optimizers of several comparisons, each at its best setting."""

    ranking: Ranking  # by their order in the comparisons
    # by clock and optimizer, over the comparisons with a target; empty without any
    profiles: Mapping[str, Mapping[str, Profile]]
    timed: int  # how many comparisons have a target
    inside_schedule: int  # how many of their times were read inside a longer schedule
    experiments: int  # how many experiments they are of, some under several conditions
    choices: Sequence[Selection]  # what was chosen in the comparisons


def overall(comparisons: Sequence[Comparison]) -> Overall | None:
    """Compare across experiments; None for a single one, or without two optimizers in all."""
    if len(comparisons) < 2:
        return None
    best = {
        each.title: {label: row for label, row in each.best.items() if row.summary is not None}
        for each in comparisons
    }
    places = {each.title: _places(best[each.title], each.question) for each in comparisons}
    ranking = ranks(places, dict.fromkeys(places, False))
    if len(ranking.mean_rank) < 2:
        return None
    timed = [each.title for each in comparisons if each.target]

    def times(clock: str) -> dict[str, dict[str, float]]:
        """Return the median cost of each optimizer of which a run has ended."""
        return {
            title: {
                label: getattr(row.reached.median, clock)
                for label, row in best[title].items()
                if row.reached and row.reached.median
            }
            for title in timed
        }

    profiles = {clock: performance_profile(times(clock)) for clock in CLOCKS if timed}
    if any(math.isnan(time) for row in times("seconds").values() for time in row.values()):
        profiles["seconds"] = {}  # logs without times have none
    inside = sum(
        bool(row.reached and row.reached.inside_schedule)
        for title in timed
        for row in best[title].values()
    )
    experiments = len({each.experiment for each in comparisons})
    if experiments < len(comparisons):
        ranking = replace(ranking, p=None)  # runs under several conditions are not independent
    choices = [each.choice for each in comparisons if each.choice is not None]
    return Overall(ranking, profiles, len(timed), inside, experiments, choices)


def _places(rows: Mapping[str, Row], question: Question) -> dict[str, float]:
    """Return the place of each optimizer in the order of the table; equal ones have the same."""
    keys = {label: question.order(row.summary) for label, row in rows.items()}
    in_order = sorted(set(keys.values()))
    return {label: float(in_order.index(key)) for label, key in keys.items()}


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

    has_profiles, mark = bool(found.profiles), INSIDE * bool(found.inside_schedule)
    columns = [
        Column[str]("optimizer", str),
        Column("mean rank", lambda label: f"{ranks[label]:.2f}"),
        *(Column(f"score ({each}){mark}", score(each), is_shown=has_profiles) for each in CLOCKS),
        *(Column(f"≤ {tau:g} ×", share(tau), is_shown=has_profiles) for tau in _TAUS),
    ]
    labels = sorted(ranks, key=ranks.__getitem__)
    return make_table(f"{_of(found)} together", columns, labels, _notes(found), found.choices)


def on_inside_times(found: Overall) -> str:
    """Say how many of the times were read inside longer schedules."""
    times = plural(found.inside_schedule, "time")
    return f"{times} to a target read inside a longer schedule, where the rate was still to change."


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
    if found.inside_schedule:
        notes.append(f"{INSIDE} {on_inside_times(found)} {UNLIKE_AN_END}.")
    if ranking.left_out:
        notes.append(f"Not in all of them, so left out: {', '.join(ranking.left_out)}.")
    if any(each.settings for each in found.choices):
        notes.append("Each optimizer counts with its best setting, which flatters many settings.")
    return notes
