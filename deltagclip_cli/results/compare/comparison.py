"""Settings side by side: what each came to and cost, beside the best one and a baseline."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from deltagclip_cli.core import (
    CLIP_RATIO,
    EPOCH_SECONDS,
    REGIME_FRACTIONS,
    REGIMES,
    UsageError,
    by_size,
    listed,
    measured_on,
    ranges,
)
from deltagclip_cli.results.compare.account import Account
from deltagclip_cli.results.compare.choosing import Selection, chooser, is_of_the_paper
from deltagclip_cli.results.compare.question import (
    Question,
    Reached,
    Target,
    reached,
    with_nearest,
)
from deltagclip_cli.results.read.run import Group, Outcome, Run, in_words, usual_clock
from deltagclip_cli.results.statistics.difference import (
    SIGNIFICANT,
    Difference,
    adjusted_to_best,
    compare,
    holm,
)
from deltagclip_cli.runs.environment import WHERE_NOT_TOLD

if TYPE_CHECKING:
    from deltagclip_cli.results.statistics.summary import Summary

TWICE = "there twice"
CHOOSING = "chose the setting"
_WITH_FLOOR = re.compile(r"(dg|delta|δ).*clip", re.IGNORECASE)  # in names of other people's runs


class Standing(StrEnum):
    """Places of a setting, measured by the best one."""

    BEST = "best"
    LIKE_BEST = "not distinguishable from the best"
    UNTOLD = "too few seeds to tell"
    WORSE = "worse"
    PASSED_OVER = "not chosen"  # another setting of its optimizer was


@dataclass(frozen=True)
class Versus:
    """A setting against the baseline; p-values are adjusted by Holm's method for all settings."""

    difference: Difference
    t_test_p: float | None
    rank_test_p: float | None


@dataclass(frozen=True)
class Behind:
    """A setting against the best one; ``p`` is adjusted for that one's having been chosen."""

    difference: Difference
    p: float | None


@dataclass(frozen=True, eq=False)
class Row:
    """One setting of an optimizer."""

    group: Group
    runs: Sequence[Run]  # all of its runs
    # of the metric, by seed or folder; NaN for a run that diverged
    values: Mapping[Hashable, float]
    counted: Mapping[Hashable, Run]  # the run behind each value, likewise
    left_out: Mapping[str, int]  # how many runs have no value, and why
    too_short: Sequence[Run]  # those of them that have the metric, only not so far
    summary: Summary | None  # of the values; None if there are none
    merit: Summary | None  # of what settings are chosen by; the same if that is what is compared
    reached: Reached | None  # how the runs did with the target; None if there is no target
    # the mean of all epochs, or steps where these are counted; None if nobody knows it
    epoch_seconds: float | None
    # the shares of plain, clipped and floored steps; None for what does not clip
    regimes: Mapping[str, float] | None
    standing: Standing | None = None  # measured by the best setting; None if there are no values
    # the test that says so; None for the best one itself, or without values
    behind: Behind | None = None
    # against the baseline; None for the baseline itself, or without one
    versus: Versus | None = None

    @property
    def mean(self) -> float | None:
        """The mean of a setting of which no seed diverged; None if one did, or without values."""
        if self.summary is None or self.summary.diverged:
            return None
        return self.summary.mean

    @property
    def worth(self) -> float | None:
        """Likewise the mean of what settings are chosen by."""
        if self.merit is None or self.merit.diverged:
            return None
        return self.merit.mean

    @property
    def once(self) -> list[Run]:
        """One run of each seed."""
        twice = self.twice
        return [run for run in self.runs if run not in twice]

    @property
    def twice(self) -> list[Run]:
        """The runs of seeds of which another run counts."""
        return [run for run in self.runs if self.counted.get(run.seed_or_folder, run) is not run]

    @property
    def lost(self) -> int:
        """The number of seeds that diverged."""
        return sum(self.end_of(run) is Outcome.DIVERGED for run in self.once)

    def end_of(self, run: Run) -> Outcome:
        """Return how a run ended; one that finished with a metric that is no number diverged."""
        value = self.values.get(run.seed_or_folder, 0.0)
        is_lost = run.outcome is Outcome.FINISHED and not np.isfinite(value)
        return Outcome.DIVERGED if is_lost and run not in self.twice else run.outcome

    @property
    def was_never_floored(self) -> bool:
        """δ-GClip of which no step was floored, so that δ might as well be 0."""
        ratios = [run.curves[CLIP_RATIO].values for run in self.runs if CLIP_RATIO in run.curves]
        if ratios:  # of the paper's own logs
            return bool(_WITH_FLOOR.search(self.group.name)) and bool(
                np.all(np.hstack(ratios) == 1)
            )
        has_floor = bool(self.group.options.get("delta"))
        return has_floor and self.regimes is not None and self.regimes["floored"] == 0


def make_row(
    group: Group, runs: Sequence[Run], question: Question, choosing: Collection[Run] = ()
) -> Row:
    """Return a setting's runs taken together; of those of one seed, the first that has a value.

    Args:
        choosing: runs whose values have chosen the setting, which flatter it and do not count.
    """
    values: dict[Hashable, float] = {}
    counted: dict[Hashable, Run] = {}
    left_out: Counter[str] = Counter()
    for run in runs:
        value = question.value(run)
        if run in choosing:
            left_out[CHOOSING] += 1
        elif not isinstance(value, float):
            left_out[str(value)] += 1
        elif run.seed_or_folder in counted:
            left_out[TWICE] += 1
        else:
            values[run.seed_or_folder], counted[run.seed_or_folder] = value, run
    once = [r for r in runs if r not in choosing and counted.get(r.seed_or_folder, r) is r]
    target = question.target(group.experiment)
    return Row(
        group=group,
        runs=runs,
        values=values,
        counted=counted,
        left_out=left_out,
        too_short=[
            r for r in once if r.seed_or_folder not in counted and question.metric in r.curves
        ],
        summary=question.summarize(values),
        merit=question.summarize(_merits(counted, question)),
        reached=reached(once, target) if target else None,
        epoch_seconds=_epoch_seconds(once),
        regimes=_regimes(once),
    )


def _merits(counted: Mapping[Hashable, Run], question: Question) -> dict[Hashable, float]:
    """Return what a setting is chosen by, of the runs that count."""
    merits = {seed: question.merit(run) for seed, run in counted.items()}
    return {seed: merit for seed, merit in merits.items() if isinstance(merit, float)}


def _epoch_seconds(runs: Sequence[Run]) -> float | None:
    """Return the mean over runs, of which each has the mean over its epochs, or its steps."""
    known = [seconds for seconds in map(_epoch_seconds_of, runs) if seconds is not None]
    return float(np.mean(known)) if known else None


def _epoch_seconds_of(run: Run) -> float | None:
    if own := run.curves.get(EPOCH_SECONDS):
        places = own.steps if usual_clock([run]) == "step" else own.epochs
        return float(np.sum(own.values) / places[-1])
    longest = max(run.curves.values(), key=lambda curve: len(curve.values), default=None)
    if longest is None or longest.epochs[-1] <= longest.epochs[0]:
        return None
    seconds, epochs = (each[-1] - each[0] for each in (longest.seconds, longest.epochs))
    return float(seconds / epochs) if np.isfinite(seconds) else None


def _regimes(runs: Sequence[Run]) -> dict[str, float] | None:
    names = REGIME_FRACTIONS.values()
    having = [run for run in runs if all(name in run.curves for name in names)]
    if not having:
        return None
    means = [[float(np.mean(run.curves[name].values)) for name in names] for run in having]
    return dict(zip(REGIMES, np.mean(means, axis=0).tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything that was run under one set of conditions."""

    question: Question  # what was asked of the experiment
    experiment: str
    # what tells model, data, task, epochs and precision from those of other comparisons of the
    # experiment
    conditions: Mapping[str, str]
    # a setting each, the best one first; where another metric chooses, that which it chose of each
    # optimizer, the best one first, before the others
    rows: Sequence[Row]
    baseline: Row | None  # what the others were tested against; None if there is none here
    # the runs in the light of the plan that some of them follow; None without one
    account: Account | None = None

    @property
    def best(self) -> dict[str, Row]:
        """The setting that was chosen of each optimizer, by its label."""
        found: dict[str, Row] = {}
        for row in self.rows:
            found.setdefault(row.group.optimizer, row)
        return found

    @property
    def choice(self) -> Selection | None:
        """The choice that was made here; None if nothing was to be chosen."""
        question = self.question
        has_values = [row.group.optimizer for row in self.rows if row.summary is not None]
        several = len(has_values) > len(set(has_values))
        moment = question.moment.unit if question.moment.is_chosen else None
        paper = is_of_the_paper(self.experiment)
        trials = (run.trial for row in self.rows for run in row.runs)
        ends = [trial.early_stopping for trial in trials if trial is not None]
        ended_by = next((each.metric for each in ends if each and each.is_on_test), None)
        if not (several or moment or paper or ended_by):
            return None
        metric, plan = question.chooser, self.account
        if plan is not None and not (moment and measured_on(metric) == "test"):
            metric = plan.chooser(metric, has_values)
        unequal = plan.unequal if plan is not None else None
        return Selection(metric, question.metric, several, moment, paper, ended_by, unequal)

    @property
    def target(self) -> Target | None:
        """The target that counts here."""
        return self.question.target(self.experiment)

    @property
    def has_epochs(self) -> bool:
        """True if somebody knows what an epoch is, unlike in logs of other programs."""
        runs = (run for row in self.rows for run in row.runs)
        return any(curve.has_epochs for run in runs for curve in run.curves.values())

    @property
    def clock(self) -> str:
        """The unit that its runs are told of in: ``epoch`` or ``step``."""
        return usual_clock(run for row in self.rows for run in row.runs)

    @property
    def title(self) -> str:
        """The experiment and its conditions."""
        return " · ".join([self.experiment, *in_words(self.conditions)])


def compare_runs(runs: Sequence[Run], questions: Mapping[str, Question]) -> list[Comparison]:
    """Compare runs, those of each experiment and its conditions with one another."""
    by_conditions: dict[tuple[str, ...], dict[Group, list[Run]]] = {}
    for run in runs:
        key = (run.group.experiment, *run.group.conditions.values())
        by_conditions.setdefault(key, {}).setdefault(run.group, []).append(run)
    experiments = list(dict.fromkeys(name for name, *_ in by_conditions))
    in_order = sorted(
        by_conditions, key=lambda key: (experiments.index(key[0]), *map(by_size, key[1:]))
    )
    return [_compared(by_conditions[key], questions[key[0]]) for key in in_order]


def check_baseline(comparisons: Sequence[Comparison], name: str) -> None:
    """Raise UsageError if a baseline is known nowhere."""
    if not any(each.baseline for each in comparisons):
        names = dict.fromkeys(row.group.name for each in comparisons for row in each.rows)
        raise UsageError(
            f"--baseline {name}: not the name of one optimizer that has values.\n"
            f"  optimizers: {with_nearest(name, names)}"
        )


def _compared(groups: Mapping[Group, Sequence[Run]], question: Question) -> Comparison:
    every = [run for runs in groups.values() for run in runs]
    question = replace(question, chosen_by=chooser(question.metric, every))
    account = account_of(every)
    planned, choosing = (account.chosen, account.choosing) if account is not None else ((), ())
    rows = [make_row(group, runs, question, choosing) for group, runs in groups.items()]
    rows = _in_order(rows, question, planned)
    baseline = _baseline(rows, question.baseline) if question.baseline is not None else None
    rows = _with_standings(rows, question, planned)
    if baseline is not None:
        rows = _with_tests(rows, baseline, question)
    first = rows[0].group
    return Comparison(question, first.experiment, first.conditions, rows, baseline, account)


def account_of(runs: Sequence[Run]) -> Account | None:
    """Return runs in the light of the plan that some of them follow; RunFolderError if damaged."""
    account = Account.of(runs[0].group.experiment, runs)
    return account if account is not None and len(account.added) < len(runs) else None


def _in_order(rows: Sequence[Row], question: Question, planned: Collection[Group]) -> list[Row]:
    """Return them as they are read: what was chosen, the best first; then the others."""
    ranked = sorted(rows, key=lambda row: question.order(row.merit))
    chosen = _chosen(ranked, question, planned)
    chosen.sort(key=lambda row: question.order(row.summary))
    return [*chosen, *(row for row in ranked if row not in chosen)]


def _chosen(rows: Sequence[Row], question: Question, planned: Collection[Group]) -> list[Row]:
    """Return those that vie with one another, of rows with the best first.

    Of an optimizer that is what was chosen by a plan; else by another metric than what is compared;
    else all of them.
    """
    by_plan = {group.optimizer for group in planned}
    firsts: dict[str, Row] = {}
    for row in rows:
        firsts.setdefault(row.group.optimizer, row)
    is_apart = question.chooser != question.metric
    return [
        row
        for row in rows
        if row.group in planned
        or (
            row.group.optimizer not in by_plan
            and (not is_apart or row is firsts[row.group.optimizer])
        )
    ]


def _baseline(rows: Sequence[Row], name: str) -> Row | None:
    """Return the row of that name; of a label with several settings, the best one.

    A word of a longer name is enough, where one label alone has it: other people's runs have long
    names.
    """
    there = [row for row in rows if row.summary is not None]
    for fits in (
        lambda group: group.name == name,
        lambda group: group.optimizer == name,
        lambda group: name.lower() in re.split(r"[\W_]+", group.name.lower()),
    ):
        fitting = [row for row in there if fits(row.group)]
        if len({row.group.optimizer for row in fitting}) == 1:
            return fitting[0]
    return None


def _with_standings(
    rows: Sequence[Row], question: Question, planned: Collection[Group]
) -> list[Row]:
    """Return every row measured by the first, which has the best mean."""
    ranked = [row for row in _chosen(rows, question, planned) if row.summary is not None]
    if not ranked:
        return list(rows)
    best, *others = ranked
    tests = [_difference(row, best, question) for row in others]
    values = [row.values for row in others]
    higher = question.higher_is_better
    adjusted = adjusted_to_best(best.values, values, tests, higher_is_better=higher)
    first = Standing.BEST if best.summary and best.summary.n else Standing.WORSE
    measured = {best.group: replace(best, standing=first)}
    for row, test, p in zip(others, tests, adjusted, strict=True):
        is_equal = question.order(row.summary) == question.order(best.summary)
        standing = first if is_equal else _standing(row, p)
        measured[row.group] = replace(row, standing=standing, behind=Behind(test, p))
    others = [row for row in rows if row.summary is not None and row.group not in measured]
    measured |= {row.group: replace(row, standing=Standing.PASSED_OVER) for row in others}
    return [measured.get(row.group, row) for row in rows]


def _difference(row: Row, other: Row, question: Question) -> Difference:
    return compare(row.values, other.values, higher_is_better=question.higher_is_better)


def _standing(row: Row, p: float | None) -> Standing:
    if row.summary is not None and row.summary.n == 0:
        return Standing.WORSE  # all diverged: of a few seeds, no test could say so
    if p is None:
        return Standing.UNTOLD
    return Standing.WORSE if p < SIGNIFICANT else Standing.LIKE_BEST


def _with_tests(rows: Sequence[Row], baseline: Row, question: Question) -> list[Row]:
    there = [row for row in rows if row.summary and row.group != baseline.group]
    others = [row for row in there if row.standing is not Standing.PASSED_OVER] or there
    tests = [_difference(row, baseline, question) for row in others]
    t_test_p = holm([test.t_test_p for test in tests])
    rank_test_p = holm([test.rank_test_p for test in tests])
    versus = map(Versus, tests, t_test_p, rank_test_p)
    tested = {row.group: each for row, each in zip(others, versus, strict=True)}
    return [replace(row, versus=tested.get(row.group)) for row in rows]


@dataclass(frozen=True)
class Camp:
    """The runs of a comparison that had the same circumstances."""

    # those in which it differs from other camps, a word for each name
    circumstances: Mapping[str, str]
    seeds: Mapping[str, Sequence[Hashable]]  # of its runs, by the names of their settings

    @property
    def runs(self) -> int:
        """The number of its runs."""
        return sum(map(len, self.seeds.values()))


def camps(comparison: Comparison) -> list[Camp]:
    """Return the camps of the runs that have a value, the largest first; none if all are alike."""
    counted = [(row.group.name, run) for row in comparison.rows for run in row.counted.values()]
    known: dict[str, set[str]] = defaultdict(set)
    for _, run in counted:
        for name, word in _circumstances(run).items():
            known[name].add(word)
    differing = [name for name, words in known.items() if len(words) > 1]
    if not differing:
        return []
    seeds: dict[tuple[str, ...], dict[str, list[Hashable]]] = defaultdict(dict)
    for setting, run in counted:
        words = tuple(_circumstances(run).get(name, "unknown") for name in differing)
        seeds[words].setdefault(setting, []).append(run.seed_or_folder)
    found = [Camp(dict(zip(differing, words, strict=True)), its) for words, its in seeds.items()]
    return sorted(found, key=lambda camp: -camp.runs)


def _circumstances(run: Run) -> Mapping[str, str]:
    return {**WHERE_NOT_TOLD, **run.circumstances} if run.circumstances else {}


def circumstances_note(comparison: Comparison) -> list[str]:
    """Return a sentence on runs that had other circumstances than most, and one on fast runs.

    There is none if all are alike, and exact.
    """
    return [*_on_camps(comparison), *_on_fast_runs(comparison)]


def _on_fast_runs(comparison: Comparison) -> list[str]:
    trials = [run.trial for row in comparison.rows for run in row.runs if run.trial is not None]
    if all(trial.determinism == "exact" for trial in trials):
        return []
    return ["Trained with determinism: fast, so that a trial may have other numbers the next time."]


def _on_camps(comparison: Comparison) -> list[str]:
    sizes = {row.group.name: len(row.counted) for row in comparison.rows}

    def circumstances(camp: Camp) -> str:
        return ", ".join(f"{name} {word}" for name, word in camp.circumstances.items())

    found = camps(comparison)
    if not found:
        return []
    most, *others = found
    parts = []
    for camp in others:
        settings = []
        for name, its in camp.seeds.items():
            seeds = [seed for seed in its if isinstance(seed, int)]
            some = f"seed{'s' * (len(seeds) > 1)} {ranges(seeds)}"
            settings.append(name if len(its) == sizes[name] else f"{name} ({some})")
        parts.append(f"{listed(settings)} with {circumstances(camp)}")
    return [
        f"Trained in unlike circumstances, which change the bits: {listed(parts)}; all else with"
        f" {circumstances(most)}."
    ]
