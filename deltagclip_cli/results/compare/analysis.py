"""A whole comparison, from the runs that were read to the tables that are shown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from deltagclip_cli.core import UsageError, printable
from deltagclip_cli.results.compare.comparison import Comparison, check_baseline, compare_runs
from deltagclip_cli.results.compare.profiles import Overall, overall, overall_table
from deltagclip_cli.results.compare.published import experiments, published_table
from deltagclip_cli.results.compare.question import (
    Moment,
    Question,
    Target,
    check_once,
    choose_metric,
    higher_is_better,
    usual_metric,
)
from deltagclip_cli.results.compare.request import Request
from deltagclip_cli.results.compare.sensitivity import (
    HeatMap,
    Margin,
    heat_map_table,
    heat_maps,
    sensitivity_tables,
)
from deltagclip_cli.results.compare.tables import (
    Table,
    cost_table,
    difference_table,
    value_table,
)
from deltagclip_cli.results.read.run import Reading, Run


@dataclass(frozen=True, eq=False)
class Analysis:
    """What came of a request.

    Args:
        request: what was asked.
        comparisons: one for each experiment and its conditions.
        across: all of them together; None if there is nothing to be said.
        heat_maps: those that were asked for.
        margin: how far from the best a good setting may be.
        problems: what could not be read or is in doubt.
    """

    request: Request
    comparisons: Sequence[Comparison]
    across: Overall | None
    heat_maps: Sequence[HeatMap]
    margin: Margin
    problems: Sequence[str]

    def tables(self) -> list[Table]:
        """Return everything as tables, in the order in which they are read."""
        found: list[Table | None] = []
        for each in self.comparisons:
            found += [value_table(each), cost_table(each), difference_table(each)]
        found += sensitivity_tables(self.comparisons, self.margin)
        found += map(heat_map_table, self.heat_maps)
        if self.across is not None:
            found.append(overall_table(self.across))
        if self.request.published:
            found += map(published_table, self.comparisons)
        return [table for table in found if table is not None]


def analyse(reading: Reading, request: Request) -> Analysis:
    """Compare runs.

    Raises:
        UsageError: the request is wrong, or does not fit the runs.
    """
    margin, keys = Margin.parse(request.within), request.heatmap_keys()
    comparisons = compare_runs(reading.runs, _questions(reading, request))
    _check_moment(comparisons)
    if request.baseline is not None:
        check_baseline(comparisons, request.baseline)
    maps = heat_maps(comparisons, keys) if keys else []
    problems = [*reading.problems, *_twice(comparisons), *_unmet(comparisons, request)]
    return Analysis(request, comparisons, overall(comparisons), maps, margin, problems)


def _questions(reading: Reading, request: Request) -> dict[str, Question]:
    """What is asked of each experiment; if no metric is named, each is judged by its own."""
    moment = Moment.parse(request.at)
    words = f"--metric {request.metric}" if request.metric else "--metric"
    metric = choose_metric(reading.runs, request.metric, words)
    targets = [Target.parse(each, reading.runs, request.mode) for each in request.target or ()]
    check_once(targets)
    by_experiment: dict[str, list[Run]] = defaultdict(list)
    for run in reading.runs:
        by_experiment[run.group.experiment].append(run)
    questions = {}
    for name, runs in by_experiment.items():
        own = metric if request.metric else usual_metric(runs) or metric
        better = higher_is_better(own, request.mode, words)
        has_epochs = any(curve.has_epochs for run in runs for curve in run.curves.values())
        when = replace(moment, unit="epoch" if has_epochs else "step")
        questions[name] = Question(
            own, better, when, targets, request.baseline, request.ddof, request.interval
        )
    return questions


def _check_moment(comparisons: Sequence[Comparison]) -> None:
    """Check that some run has a value at the epoch or step that was asked for.

    Raises:
        UsageError: none has.
    """
    moment, rows = comparisons[0].question.moment, [r for each in comparisons for r in each.rows]
    if moment.at is None or any(row.values for row in rows):
        return
    last = max(
        (moment.end(curve) for row in rows for run in row.runs for curve in run.curves.values()),
        default=0,
    )
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


def _unmet(comparisons: Sequence[Comparison], request: Request) -> list[str]:
    """What was asked for and is not there."""
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
