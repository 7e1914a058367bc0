"""The trials of a try: which there are to run, given what has ended, and what they came to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltagclip_cli.launch.supervisor import PlannedQueue
from deltagclip_cli.plan.planned import Fits, has_room, look_up, pending
from deltagclip_cli.runs.folder import RunFolder, State
from deltagclip_cli.spec.trial import make_trial
from deltagclip_cli.trying.protocol import (
    CHOSEN_BY,
    DRAWS,
    JUDGED_BY,
    best_rate,
    drawn_rates,
    scan_seed,
    scanned_rates,
    tuning_seed,
)

if TYPE_CHECKING:
    from deltagclip_cli.launch.supervisor import End
    from deltagclip_cli.plan.planned import Planned, Unit
    from deltagclip_cli.spec.load import Spec
    from deltagclip_cli.spec.trial import Trial

LEAST_PROGRESS = 0.05
"""The share of the way from the untrained network to the best rival that counts as learning."""


@dataclass(frozen=True)
class Method:
    """An optimizer, by its label in the spec, and the middle of its scan.

    ``middle`` is None if its learning rate is not drawn: it has none, or it was fixed.
    """

    label: str
    middle: float | None


@dataclass
class Tryout:
    """Rounds of tuning, of some methods on some problems, and the rates that others go with.

    Args:
        spec: has every problem, and for each an experiment ``NAME-tuning`` like it.
        given: of methods that were tuned before, the rate of each round, by problem and label.
        progress: by problem, how far a loss is on the way from the untrained network (0) to the
            best rival (1); a problem without one is gone through whatever it comes to.
    """

    spec: Spec
    runs: Path
    problems: Sequence[str]
    tuned: Sequence[Method]
    rounds: int
    given: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    progress: Mapping[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)  # why trials failed, by their folders
    _trials: dict[tuple[str, str, float | None, int], Trial] = field(default_factory=dict)
    _results: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def trial(self, experiment: str, label: str, rate: float | None, seed: int) -> Trial:
        """Return a trial; a rate of None leaves the optimizer as it is."""
        key = experiment, label, rate, seed
        if key not in self._trials:
            section = self.spec.experiments[experiment]
            optimizer = section.optimizers[label]
            if rate is not None:
                optimizer = optimizer.with_option("lr", rate)
            self._trials[key] = make_trial(experiment, section, label, seed, optimizer)
        return self._trials[key]

    def loss(self, trial: Trial, metric: str) -> float | None:
        """Return what a trial came to; infinite if it diverged, None if it has not ended."""
        if trial.folder not in self._results:
            found = RunFolder.of(self.runs, trial).result()
            if found is None or found.get("identity") != trial.identity:
                return None
            self._results[trial.folder] = found
        result = self._results[trial.folder]
        value = result["last"].get(metric)
        return math.inf if result["status"] == State.DIVERGED or value is None else float(value)

    def scan(self, problem: str, method: Method) -> dict[float, Trial]:
        """Return the trials of the scan, by their rates; none if nothing is drawn."""
        rates = [] if method.middle is None else scanned_rates(method.middle)
        tuning = f"{problem}-tuning"
        return {each: self.trial(tuning, method.label, each, scan_seed()) for each in rates}

    def scanned(self, problem: str, method: Method) -> dict[float, float] | None:
        """Return the losses that choose the middle of the draws; None before the scan's end."""
        return self._all_of(self.scan(problem, method))

    def draws(self, problem: str, method: Method, number: int) -> dict[float, Trial] | None:
        """Return the trials by which a round chooses; None before the scan's end.

        None are drawn where no rate of the scan has learnt anything.
        """
        found = self.scanned(problem, method)
        if found is None:
            return None
        middle = best_rate(found)
        if middle is None or not self.learns(problem, method):
            return {}
        rates, tuning = drawn_rates(middle, number), f"{problem}-tuning"
        return {each: self.trial(tuning, method.label, each, tuning_seed(number)) for each in rates}

    def drawn(self, problem: str, method: Method, number: int) -> dict[float, float] | None:
        """Return the losses by which a round chooses; None before its end."""
        trials = self.draws(problem, method, number)
        return None if trials is None else self._all_of(trials)

    def _all_of(self, trials: Mapping[float, Trial]) -> dict[float, float] | None:
        losses = {rate: self.loss(trial, CHOSEN_BY) for rate, trial in trials.items()}
        there = {rate: loss for rate, loss in losses.items() if loss is not None}
        return there if len(there) == len(losses) else None

    def learns(self, problem: str, method: Method) -> bool | None:
        """Return whether some rate of the scan learnt anything; None before its end."""
        if problem not in self.progress or method.middle is None:
            return True
        found = self.scanned(problem, method)
        if found is None:
            return None
        return any(self.progress[problem](loss) >= LEAST_PROGRESS for loss in found.values())

    def chosen(self, problem: str, label: str, number: int) -> Trial | None:
        """Return the trial at which a round of a method is judged; None if it is not known yet."""
        if label in self.given.get(problem, {}):
            return self.trial(problem, label, self.given[problem][label][number - 1], number)
        method = next(each for each in self.tuned if each.label == label)
        if method.middle is None:
            return self.trial(problem, label, None, number)
        rate = best_rate(self.drawn(problem, method, number) or {})
        return None if rate is None else self.trial(problem, label, rate, number)

    @cached_property
    def labels(self) -> list[str]:
        """The labels of all methods, those that are tuned first."""
        others = (label for of_one in self.given.values() for label in of_one)
        return list(dict.fromkeys([*self.labels_tuned, *others]))

    @property
    def labels_tuned(self) -> list[str]:
        """The labels of the methods that are tuned."""
        return [each.label for each in self.tuned]

    def judged(self, problem: str, label: str) -> dict[int, float]:
        """Return the losses of the rounds that have been judged; infinite if one diverged."""
        trials = {number: self.chosen(problem, label, number) for number in self.numbers}
        losses = {number: self.loss(trial, JUDGED_BY) for number, trial in trials.items() if trial}
        return {number: loss for number, loss in losses.items() if loss is not None}

    @property
    def numbers(self) -> range:
        """The numbers of the rounds."""
        return range(1, self.rounds + 1)

    @property
    def is_hopeless(self) -> bool:
        """Tell whether a method learns nothing on any problem."""
        return any(
            all(self.learns(problem, method) is False for problem in self.problems)
            for method in self.tuned
        )

    def needed(self) -> list[Trial]:
        """Return the trials that are known to be needed by now, in their order."""
        trials: list[Trial] = []
        for method in self.tuned:
            for problem in self.problems:
                trials += self.scan(problem, method).values()
        learning = [self.learns(*each) for each in product(self.problems, self.tuned)]
        if self.is_hopeless or None in learning:  # then the rivals need not be run
            return trials
        for problem in self.problems:
            for method in self.tuned:
                for number in self.numbers:
                    trials += (self.draws(problem, method, number) or {}).values()
            for label in self.labels:
                judged = (self.chosen(problem, label, number) for number in self.numbers)
                trials += [trial for trial in judged if trial is not None]
        return trials

    def examples(self) -> list[Trial]:
        """Return a trial of each method that is tuned in each experiment."""
        experiments = self.spec.experiments
        return [self.trial(*each, None, 1) for each in product(experiments, self.labels_tuned)]

    def most(self) -> int:
        """Return how many trials there will be, if every problem is gone through."""
        drawn = sum(each.middle is not None for each in self.tuned)
        tuning = sum(len(self.scan(self.problems[0], each)) for each in self.tuned)
        of_each_round = DRAWS * drawn + len(self.labels)
        return len(self.problems) * (tuning + self.rounds * of_each_round)

    def ended(self) -> int:
        """Return how many trials have ended by now, those of the rivals among them."""
        of_rivals = (
            self.chosen(problem, label, number)
            for problem, of_one in self.given.items()
            for label in of_one
            for number in self.numbers
        )
        known = {each.folder: each for each in (*self.needed(), *of_rivals) if each is not None}
        return sum(self.loss(each, JUDGED_BY) is not None for each in known.values())

    def missing(self) -> list[Trial]:
        """Return the trials that are known to be needed and have not ended."""
        return [each for each in self.needed() if self.loss(each, JUDGED_BY) is None]

    def whole_seconds(self, trials: Sequence[Trial]) -> float:
        """Return how long trials that have ended took, with all that is around their epochs."""
        ended = [self._results[each.folder] for each in trials if each.folder in self._results]
        return float(sum(each["seconds"]["last_start"] for each in ended))


class TryoutQueue(PlannedQueue):
    """The trials of a try, of which the later ones follow from what came of the earlier ones.

    A failed one is run again, once.
    """

    def __init__(self, tryout: Tryout) -> None:
        super().__init__(())
        self._tryout = tryout
        self._known: set[str] = set()

    def take(self, fits: Fits = has_room) -> Unit:
        self._grow()
        return () if self._tryout.failures else super().take(fits)

    def is_over(self) -> bool:
        self._grow()
        return bool(self._tryout.failures) or super().is_over()

    def ended(self, planned: Planned, end: End) -> None:
        super().ended(planned, end)
        if end.state is State.FAILED and not end.elsewhere:
            self._tryout.failures[planned.trial.folder] = end.reason

    def _grow(self) -> None:
        new = [each for each in self._tryout.needed() if each.folder not in self._known]
        self._known.update(each.folder for each in new)
        self.add(pending(look_up(new, self._tryout.runs), retry_failed=True))
