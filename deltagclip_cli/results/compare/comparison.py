"""The settings of an experiment side by side, each measured by the best and by a baseline."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from deltagclip_cli.core import UsageError
from deltagclip_cli.results.compare.metrics import nearest_first
from deltagclip_cli.results.compare.rows import (
    Behind,
    Question,
    Row,
    Standing,
    Versus,
    make_row,
    order,
)
from deltagclip_cli.results.compare.target import Target
from deltagclip_cli.results.read.run import Group, Run, in_words
from deltagclip_cli.results.statistics.best import adjusted_to_best
from deltagclip_cli.results.statistics.difference import SIGNIFICANT, Difference, compare, holm


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything that was run under one set of conditions.

    Args:
        question: what was asked of the experiment.
        experiment: its name.
        conditions: what tells model, data, task, epochs and precision from those of other
            comparisons of the experiment.
        rows: a setting each, the best one first.
        baseline: what the others were tested against; None if there is none here.
    """

    question: Question
    experiment: str
    conditions: Mapping[str, str]
    rows: Sequence[Row]
    baseline: Row | None

    @property
    def target(self) -> Target | None:
        """The target that counts here."""
        return self.question.target(self.experiment)

    @property
    def has_epochs(self) -> bool:
        """Whether somebody knows what an epoch is, unlike in logs of other programs."""
        runs = (run for row in self.rows for run in row.runs)
        return any(curve.has_epochs for run in runs for curve in run.curves.values())

    @property
    def title(self) -> str:
        """The experiment and its conditions."""
        return " · ".join([self.experiment, *in_words(self.conditions)])


def compare_runs(runs: Sequence[Run], questions: Mapping[str, Question]) -> list[Comparison]:
    """Compare runs, those of each experiment and its conditions with one another.

    Args:
        runs: of any number of experiments.
        questions: what is asked of each experiment, by its name.
    """
    by_conditions: dict[tuple[str, ...], dict[Group, list[Run]]] = defaultdict(dict)
    for run in runs:
        key = (run.group.experiment, *run.group.conditions.values())
        by_conditions[key].setdefault(run.group, []).append(run)
    experiments = list(dict.fromkeys(name for name, *_ in by_conditions))
    in_order = sorted(
        by_conditions, key=lambda key: (experiments.index(key[0]), *map(by_size, key[1:]))
    )
    return [_compared(by_conditions[key], questions[key[0]]) for key in in_order]


def by_size(word: str) -> tuple[float, str]:
    """A key that sorts numbers by their size, before words by their letters."""
    try:
        return float(word), word
    except ValueError:
        return math.inf, word


def check_baseline(comparisons: Sequence[Comparison], name: str) -> None:
    """Check that a baseline is known somewhere.

    Raises:
        UsageError: it is not; the message lists the optimizers, nearest first.
    """
    if not any(each.baseline for each in comparisons):
        names = dict.fromkeys(row.group.name for each in comparisons for row in each.rows)
        raise UsageError(
            f"--baseline {name}: not the name of one optimizer that has values.\n"
            f"  optimizers: {nearest_first(name, names)}"
        )


def _compared(groups: Mapping[Group, Sequence[Run]], question: Question) -> Comparison:
    rows = [make_row(group, runs, question) for group, runs in groups.items()]
    rows.sort(key=lambda row: order(row, higher_is_better=question.higher_is_better))
    baseline = _baseline(rows, question.baseline)
    rows = _with_standings(rows, question)
    if baseline is not None:
        rows = _with_tests(rows, baseline, question)
    first = rows[0].group
    return Comparison(question, first.experiment, first.conditions, rows, baseline)


def _baseline(rows: Sequence[Row], name: str | None) -> Row | None:
    """The row of that name; of a label with several settings, the best one.

    A word of a longer name is enough, where one label alone has it: other people's runs have long
    names.
    """
    if name is None:
        return None
    there = [row for row in rows if row.summary is not None]
    for fits in (
        lambda group: group.name == name,
        lambda group: group.optimizer == name,
        lambda group: name.lower() in _words(group.name),
    ):
        fitting = [row for row in there if fits(row.group)]
        if len({row.group.optimizer for row in fitting}) == 1:
            return fitting[0]
    return None


def _words(name: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in name.lower()).split()


def _with_standings(rows: Sequence[Row], question: Question) -> list[Row]:
    """Measure every row by the first, which has the best mean."""
    ranked = [row for row in rows if row.summary is not None]
    if not ranked:
        return list(rows)
    best, *others = ranked
    tests = [_difference(row, best, question) for row in others]
    adjusted = adjusted_to_best(
        best.values,
        [row.values for row in others],
        tests,
        higher_is_better=question.higher_is_better,
    )
    equal = order(best, higher_is_better=question.higher_is_better)
    standings = {best.group: Standing.BEST if best.summary and best.summary.n else Standing.WORSE}
    for row, p in zip(others, adjusted, strict=True):
        is_equal = order(row, higher_is_better=question.higher_is_better) == equal
        standings[row.group] = standings[best.group] if is_equal else _standing(row, p)
    behind = dict(zip((row.group for row in others), map(Behind, tests, adjusted), strict=True))
    return [
        replace(row, standing=standings.get(row.group), behind=behind.get(row.group))
        for row in rows
    ]


def _difference(row: Row, other: Row, question: Question) -> Difference:
    return compare(row.values, other.values, higher_is_better=question.higher_is_better)


def _standing(row: Row, p: float | None) -> Standing:
    if row.summary is not None and row.summary.n == 0:
        return Standing.WORSE  # all diverged: of a few seeds, no test could say so
    if p is None:
        return Standing.UNTOLD
    return Standing.WORSE if p < SIGNIFICANT else Standing.LIKE_BEST


def _with_tests(rows: Sequence[Row], baseline: Row, question: Question) -> list[Row]:
    others = {row.group: row for row in rows if row.summary and row.group != baseline.group}
    tests = [_difference(row, baseline, question) for row in others.values()]
    t_test_p = holm([test.t_test_p for test in tests])
    rank_test_p = holm([test.rank_test_p for test in tests])
    versus = dict(zip(others, map(Versus, tests, t_test_p, rank_test_p), strict=True))
    return [replace(row, versus=versus.get(row.group)) for row in rows]
