"""Two verdicts on optimizers that were tuned by a protocol: of settings, and of methods.

*This setting*: what was chosen, on seeds that chose nothing. *This optimizer at a budget of k
draws*: the optimizer with the way its setting is chosen, of which the draws are a sample. All is
read from ``protocol.lock`` and the run folders; no spec is.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from deltagclip_cli.core import listed, plural
from deltagclip_cli.results.statistics.best_of import BestOf, best_of_curve
from deltagclip_cli.results.statistics.difference import SIGNIFICANT, Difference, compare, holm
from deltagclip_cli.results.statistics.permutation import (
    Exchange,
    doubled_budgets,
    exchange_draws,
)
from deltagclip_cli.results.statistics.summary import ranked
from deltagclip_cli.runs.environment import Start, read_starts
from deltagclip_cli.runs.folder import RunFolder, State
from deltagclip_cli.tuning.lock import Lock
from deltagclip_cli.tuning.stages import DrawState, JudgedDraw, StudyChoice, fresh_trials

LEAST_DRAWS = 4
"""Of each method, of which a test at 5 % can tell something."""

_SECONDS = 3600.0  # of an hour


class Told(StrEnum):
    """Verdicts on the first of two: settings, or methods."""

    BETTER = "better"
    WORSE = "worse"
    UNTOLD = "not told apart"
    TOO_FEW = "too few to tell"
    DEPENDS = "depends on the budget"
    NONE = "no verdict"  # as words beside it say


@dataclass(frozen=True, eq=False)
class TunedMethod:
    """An optimizer with the way its setting is chosen: what became of it in each study."""

    label: str
    choices: Sequence[StudyChoice]  # of each study
    # of each study, its draws, each setting once: what was drawn twice was trained once
    different: Sequence[Sequence[JudgedDraw]]
    # of each study, what the chosen setting came to, by fresh seed; NaN for a run that diverged
    fresh: Sequence[Mapping[int, float]]
    # device hours of each draw that has ended, over all of its seeds
    hours: Sequence[float]
    on_gpu: bool
    is_fixed: bool  # whether it takes part as it is written, so that nothing was drawn
    higher_is_better: bool

    @cached_property
    def values(self) -> list[list[float]]:
        """Those of its draws, by study; NaN for one that failed or diverged."""
        return [
            [math.nan if draw.value is None else draw.value for draw in each]
            for each in self.different
        ]

    @property
    def draws(self) -> int:
        """The number of its draws in all studies, each setting once in a study."""
        return sum(map(len, self.different))

    @property
    def planned(self) -> int:
        """The number of its draws in a study, as it was planned."""
        return len(self.choices[0].draws)

    @property
    def worst(self) -> int:
        """The number of draws that failed or diverged."""
        ends = (DrawState.FAILED, DrawState.DIVERGED)
        return sum(draw.state in ends for each in self.different for draw in each)

    @property
    def losses(self) -> str:
        """Those draws in words, ``(1 failed, 1 diverged)``; empty if there are none."""
        ends = Counter(draw.state for each in self.different for draw in each)
        kinds = (DrawState.FAILED, DrawState.DIVERGED)
        words = ", ".join(f"{ends[kind]} {kind}" for kind in kinds if ends[kind])
        return f"({words})" if words else ""

    @cached_property
    def lack(self) -> str:
        """Say why nothing follows from its draws as they are; empty if something does."""
        if self.is_fixed:
            return f"{self.label} is fixed: it has no draws, and is judged as a setting"
        for each in self.choices:
            if each.refusal:
                return each.refusal
            if each.counts[DrawState.UNMEASURED]:
                return f"the metric was not recorded by trials of {self.label}"
        left = sum(draw.state is DrawState.OPEN for each in self.different for draw in each)
        return f"{left} of {self.draws} draws of {self.label} are not finished" if left else ""

    @cached_property
    def curve(self) -> list[BestOf]:
        """The best of k draws of all studies, k from 1; none as long as something is lacking."""
        values = [] if self.lack else [value for each in self.values for value in each]
        return best_of_curve(values, higher_is_better=self.higher_is_better, costs=self.hours)

    @property
    def of_studies(self) -> dict[int, float]:
        """The mean on fresh seeds of what each study chose; NaN if one of them diverged."""
        return {
            study: statistics.fmean(values.values())
            for study, values in enumerate(self.fresh)
            if values
        }


@dataclass(frozen=True, eq=False)
class SettingVerdict:
    """Two settings that a study chose, on the same fresh seeds."""

    study: int  # from 0
    ours: TunedMethod
    theirs: TunedMethod
    difference: Difference
    p: float | None  # adjusted by Holm's method for all comparisons of the study
    told: Told

    @property
    def name(self) -> str:
        """The two optimizers, the one that is judged first."""
        return f"{self.ours.label} against {self.theirs.label}"


@dataclass(frozen=True)
class BudgetVerdict:
    """Two methods at a budget of ``k`` draws."""

    k: int
    superiority: float  # how probably the best of k of the first one is better
    p: float  # adjusted for all budgets, and by Holm's method for all comparisons
    told: Told


@dataclass(frozen=True, eq=False)
class MethodVerdict:
    """Two methods, by their draws and, if there are several, by their studies."""

    ours: TunedMethod
    theirs: TunedMethod
    found: Exchange | None  # None if draws are lacking
    p: float | None  # adjusted by Holm's method for all comparisons
    budgets: Sequence[BudgetVerdict]  # the smallest first; none if draws are lacking
    lack: str  # why there is no verdict, in words; empty if there is one
    over_studies: Difference | None  # of what they chose; None for a single one

    @property
    def name(self) -> str:
        """The two optimizers, the one that is judged first."""
        return f"{self.ours.label} against {self.theirs.label}"

    @property
    def told(self) -> Told:
        """The verdict over all budgets."""
        if self.found is None:
            return Told.NONE
        if self.lack:
            return Told.TOO_FEW
        found = {each.told for each in self.budgets} - {Told.UNTOLD}
        return Told.DEPENDS if len(found) > 1 else next(iter(found), Told.UNTOLD)

    @property
    def words(self) -> str:
        """The verdict as a sentence."""
        ours, theirs = self.ours.label, self.theirs.label
        if self.lack:
            return f"{ours} and {theirs}: no verdict, for {self.lack}."
        if self.told is Told.UNTOLD:
            last = plural(self.budgets[-1].k, "draw")
            return f"At budgets of up to {last}, {ours} and {theirs} cannot be told apart."
        parts = [
            f"{word} than {theirs} at {self._where(word)}"
            for word in (Told.BETTER, Told.WORSE)
            if any(each.told is word for each in self.budgets)
        ]
        return f"{ours} is {', and '.join(parts)}."

    def _where(self, word: Told) -> str:
        """Return the budgets at which a word was spoken, those in a row drawn together."""
        places = [place for place, each in enumerate(self.budgets) if each.told is word]
        first, last = (self.budgets[place].k for place in (places[0], places[-1]))
        if first == last:
            return f"a budget of {plural(last, 'draw')}"
        if len(places) == places[-1] - places[0] + 1:
            return f"budgets of {first} to {last} draws"
        return f"budgets of {listed([str(self.budgets[place].k) for place in places])} draws"


@dataclass(frozen=True, eq=False)
class Verdicts:
    """All that follows from a protocol and its runs."""

    lock: Lock
    fresh_metric: str  # of what was chosen, on fresh seeds
    methods: Sequence[TunedMethod]
    settings: Sequence[SettingVerdict]  # of each study, in the order that was planned
    budgets: Sequence[MethodVerdict]  # in the order that was planned

    @property
    def metric(self) -> str:
        """The metric by which settings were chosen, and by which methods are compared."""
        return self.lock.tuning.protocol.metric

    @property
    def studies(self) -> int:
        """The number of studies."""
        return self.lock.tuning.protocol.studies


def judge_methods(lock: Lock, made: Sequence[StudyChoice]) -> Verdicts:
    """Return what follows from a plan and what its studies choose, of all labels."""
    runs, metric = lock.path.parents[1], on_test(lock.tuning.protocol.metric)
    by_label: dict[str, list[StudyChoice]] = {}
    for choice in made:
        by_label.setdefault(choice.label, []).append(choice)
    methods = {label: _method(lock, runs, each, metric) for label, each in by_label.items()}
    pairs = [(methods[other], methods[one]) for one, other in lock.comparisons]
    studies = range(lock.tuning.protocol.studies)
    settings = [each for study in studies for each in _setting_verdicts(pairs, study)]
    return Verdicts(lock, metric, list(methods.values()), settings, _method_verdicts(pairs))


def on_test(metric: str) -> str:
    """Return the metric of the test set that judges what another metric chose."""
    split, slash, quantity = metric.partition("/")
    return f"test_ema{slash}{quantity}" if split.endswith("_ema") else f"test{slash}{quantity}"


def _method(lock: Lock, runs: Path, of_label: Sequence[StudyChoice], metric: str) -> TunedMethod:
    tuning = lock.tuning
    different: list[list[JudgedDraw]] = []
    hours: list[float] = []
    starts: list[Start] = []
    for choice in of_label:
        known: dict[str, JudgedDraw] = {}
        for each in choice.draws:
            trials = tuning.trials(each.draw, tuning.search_seeds(choice.study))
            if trials[0].setting_hash in known:
                continue
            known[trials[0].setting_hash] = each
            folders = [RunFolder.of(runs, trial) for trial in trials]
            seconds = [result["seconds"]["epochs"] for f in folders if (result := f.result())]
            if len(seconds) == len(folders):
                hours.append(sum(seconds) / _SECONDS)
            starts = starts or read_starts(folders[0])
        different.append(list(known.values()))
    return TunedMethod(
        label=of_label[0].label,
        choices=of_label,
        different=different,
        fresh=[_on_fresh_seeds(lock, runs, each, metric) for each in of_label],
        hours=hours,
        on_gpu=bool(starts) and str(starts[-1].get("device")).startswith("cuda"),
        is_fixed=of_label[0].label in tuning.fixed,
        higher_is_better=not tuning.minimizes,
    )


def _on_fresh_seeds(lock: Lock, runs: Path, choice: StudyChoice, metric: str) -> dict[int, float]:
    if choice.is_open:
        return {}  # another setting may still be chosen
    found = {}
    for trial in fresh_trials(lock.tuning, choice):
        result = RunFolder.of(runs, trial).result()
        if result is None:
            continue
        value = result["last"].get(metric)
        diverged = value is None or result["status"] == State.DIVERGED
        found[trial.seed] = math.nan if diverged else float(value)
    return found


def _setting_verdicts(
    pairs: Sequence[tuple[TunedMethod, TunedMethod]], study: int
) -> list[SettingVerdict]:
    rising = [ours.higher_is_better for ours, _ in pairs]
    values = [(ours.fresh[study], theirs.fresh[study]) for ours, theirs in pairs]
    found = [
        compare(ours, theirs, higher_is_better=up)
        for (ours, theirs), up in zip(values, rising, strict=True)
    ]
    adjusted = holm([each.p for each in found])
    return [
        SettingVerdict(study, *pair, each, p, _told(p, _ahead(each, both, up=up)))
        for pair, both, each, p, up in zip(pairs, values, found, adjusted, rising, strict=True)
    ]


def _told(p: float | None, ahead: float) -> Told:
    if p is None:
        return Told.TOO_FEW
    if p >= SIGNIFICANT or not ahead:
        return Told.UNTOLD
    return Told.BETTER if ahead > 0 else Told.WORSE


def _ahead(difference: Difference, both: tuple[Mapping[int, float], ...], *, up: bool) -> float:
    """Return more than 0 if the first of two settings is the better one, as its test saw it."""
    if difference.t_test_p is not None:
        return difference.difference if up else -difference.difference
    one, other = (ranked(each.values(), up) for each in both)
    above = int((one[:, None] > other).sum()) - int((one[:, None] < other).sum())
    return above if up else -above


def _method_verdicts(pairs: Sequence[tuple[TunedMethod, TunedMethod]]) -> list[MethodVerdict]:
    lacks = [ours.lack or theirs.lack for ours, theirs in pairs]
    found = [None if lack else _exchanged(*pair) for pair, lack in zip(pairs, lacks, strict=True)]
    adjusted = holm([None if each is None else each.p for each in found])
    return [
        MethodVerdict(
            *pair,
            each,
            p,
            _at_budgets(each, p),
            lack or _too_few(*pair, each),
            _over_studies(*pair),
        )
        for pair, each, p, lack in zip(pairs, found, adjusted, lacks, strict=True)
    ]


def _exchanged(ours: TunedMethod, theirs: TunedMethod) -> Exchange:
    planned = min(ours.planned, theirs.planned)
    budgets = doubled_budgets(planned, min(ours.draws, theirs.draws))
    up = ours.higher_is_better
    return exchange_draws(ours.values, theirs.values, budgets, higher_is_better=up)


def _at_budgets(found: Exchange | None, p: float | None) -> list[BudgetVerdict]:
    if found is None or p is None:
        return []
    factor = p / found.p  # by which Holm's method adjusts this comparison, or more
    return [
        BudgetVerdict(
            each.k,
            each.superiority,
            min(1.0, factor * each.p),
            _told(factor * each.p, each.ahead),
        )
        for each in found.budgets
    ]


def _too_few(ours: TunedMethod, theirs: TunedMethod, found: Exchange | None) -> str:
    if found is None or found.least_p < SIGNIFICANT:
        return ""
    draws = f"{ours.draws} and {theirs.draws} draws"
    return f"p of {draws} cannot be below {found.least_p:.2g}: {LEAST_DRAWS} of each are the least"


def _over_studies(ours: TunedMethod, theirs: TunedMethod) -> Difference | None:
    """Return the difference of what whole studies came to: pairs, for they share their seeds."""
    if len(ours.choices) < 2:
        return None
    return compare(ours.of_studies, theirs.of_studies, higher_is_better=ours.higher_is_better)
