"""The queue of a search: what is run next follows from what was measured before."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from deltagclip_cli.core import UsageError
from deltagclip_cli.plan.planned import Fits, Planned, has_room, look_up
from deltagclip_cli.runs.folder import State
from deltagclip_cli.runs.hold import prune
from deltagclip_cli.search.tpe_study import KEPT_OF_HALVING, Study
from deltagclip_cli.tuning.halving import course_of, rounds_in, value_in
from deltagclip_cli.tuning.stages import DrawState

if TYPE_CHECKING:
    from deltagclip_cli.launch.supervisor import End
    from deltagclip_cli.plan.planned import Unit
    from deltagclip_cli.search.searched import Tried
    from deltagclip_cli.spec.trial import Course, Trial

_SECONDS_BETWEEN_LOOKS = 1.0


class SearchQueue:
    """Settings drawn by studies, ``budget`` by each, and each run with one seed after the other.

    What an earlier search has begun and not ended comes first. A setting of which a worker was
    killed stays open, for the next search to go on with. As many settings as there are slots are
    open at once. One that waits for another process is one of them: with a single slot, what is
    drawn next depends on nothing but what has ended.

    Args:
        hands_out: whether trials are run by workers that outlive this process, so that they are
            handed out again though somebody works on them.
    """

    def __init__(
        self,
        studies: Sequence[Study],
        runs: Path,
        budget: int,
        slots: int = 1,
        *,
        hands_out: bool = False,
    ) -> None:
        self._studies, self._runs, self._hands_out = studies, runs, hands_out
        self._budget, self._slots = budget, slots
        self._idle = [
            Candidate(study, tried, runs)
            for study in studies
            for tried in study.tried()
            if tried.outcome is DrawState.OPEN
        ]
        self._running: dict[Path, Candidate] = {}
        self._looked: dict[Path, float] = {}  # at folders where another process works
        self._ended_elsewhere: list[Planned] = []

    def most_trials(self) -> list[Trial]:
        """The trials that may still be run; fewer will be, where settings are given up.

        Those that are not drawn yet have the options that the spec writes out.
        """
        begun = [planned.trial for each in self._idle for planned in each.left]
        drawn = [self._missing(each) * each.searched.trials({}) for each in self._studies]
        return [*begun, *itertools.chain.from_iterable(drawn)]

    def take(self, fits: Fits = has_room) -> Unit:
        for candidate in list(self._idle):
            if self._is_free(candidate) and fits(candidate.current):
                return self._hand_out(candidate)
        while len(self._idle) + len(self._running) < self._slots:
            study = self._next_study()
            if study is None:
                return ()
            candidate = Candidate(study, study.draw(), self._runs)
            self._idle.append(candidate)
            if self._is_free(candidate):
                if not fits(candidate.current):
                    return ()
                return self._hand_out(candidate)
        return ()

    def is_over(self) -> bool:
        return not self._idle and self._next_study() is None

    def give_up(self, planned: Planned) -> str:
        return self._running[planned.folder.path].look()

    def ended(self, planned: Planned, end: End) -> None:
        candidate = self._running.pop(planned.folder.path)
        if end.elsewhere:
            self._looked[planned.folder.path] = time.monotonic()
            self._idle.append(candidate)
            return
        outcome = candidate.settle()
        if outcome is not DrawState.OPEN:
            self._conclude(candidate, outcome)
        elif candidate.current is not planned:  # on to the next seed
            self._idle.insert(0, candidate)

    def ended_elsewhere(self) -> list[Planned]:
        told, self._ended_elsewhere = self._ended_elsewhere, []
        return told

    def _missing(self, study: Study) -> int:
        return max(0, self._budget - study.begun)

    def _next_study(self) -> Study | None:
        """The study that is furthest behind."""
        unfinished = [each for each in self._studies if self._missing(each)]
        return min(unfinished, key=lambda each: each.begun, default=None)

    def _is_free(self, candidate: Candidate) -> bool:
        """Return whether there is something of the candidate to run that nobody runs.

        Two settings can be the same: few can be chosen in a small space.
        """
        folder = candidate.current.folder
        if folder.path in self._running:
            return False
        if time.monotonic() - self._looked.get(folder.path, -1e9) < _SECONDS_BETWEEN_LOOKS:
            return False
        if self._settles(candidate):
            return False
        folder = candidate.current.folder
        if folder.is_claimed() and not self._hands_out:
            self._looked[folder.path] = time.monotonic()
            return False
        return folder.path not in self._running

    def _settles(self, candidate: Candidate) -> bool:
        """Conclude an idle candidate if its folders say how it ended; return whether they do."""
        before = candidate.current
        outcome = candidate.settle()
        ended = outcome is not DrawState.OPEN or candidate.current is not before
        if ended and self._looked.pop(before.folder.path, None) is not None:
            self._ended_elsewhere.append(before)
        if outcome is not DrawState.OPEN:
            self._idle.remove(candidate)
            self._conclude(candidate, outcome)
        return outcome is not DrawState.OPEN

    def _hand_out(self, candidate: Candidate) -> Unit:
        planned = candidate.current
        self._idle.remove(candidate)
        self._running[planned.folder.path] = candidate
        return (planned,)

    def _conclude(self, candidate: Candidate, outcome: DrawState) -> None:
        if outcome is DrawState.PRUNED:
            prune(candidate.current.folder, candidate.reason)
        value = candidate.value if outcome is DrawState.FINISHED else None
        candidate.study.finish(candidate.number, outcome, value)


class Candidate:
    """A setting that was drawn and has not ended.

    The value after an epoch of the second seed is the mean of the two seeds after that epoch, and
    so on: one step has one meaning, whatever setting is looked at. What is said of epochs here is
    true of whatever else lies between two evaluations.
    """

    def __init__(self, study: Study, tried: Tried, runs: Path) -> None:
        self.study = study
        self.number = tried.number
        self.reason = ""
        self._fault: UsageError | None = None
        planned = look_up(study.searched.trials(tried.options), runs)
        self._planned = [replace(each, variant=tried.words) for each in planned]
        self._runs = runs
        self._done: list[tuple[Sequence[float | None], float | None]] = []
        self._size = -1
        self._reported = 0

    @property
    def current(self) -> Planned:
        """The trial of the seed that it is at."""
        return self.left[0]

    @property
    def left(self) -> list[Planned]:
        """The trials of seeds that are not finished, as far as is known."""
        return self._planned[len(self._done) :]

    def look(self) -> str:
        """Tell the study of new epochs; why the setting is to be given up, or nothing.

        Cheap while there are none, for it is asked after every step. What is wrong with the search
        is kept for :meth:`settle` to say: in here it would count as the failure of a trial.
        """
        try:
            size = self.current.folder.metrics_file.stat().st_size
        except OSError:
            return self.reason
        if not self.reason and size != self._size:
            self._size = size
            try:
                self._report(_curve(self.current, self.study.searched.search.metric))
            except UsageError as error:
                self._fault = error
                self.reason = str(error)
        return self.reason

    def settle(self) -> DrawState:
        """Go on to the first seed that is not finished; what became of the setting, if anything."""
        while True:
            (there,) = look_up([self.current.trial], self._runs)
            given_up = there.state is not State.NEW and self.look()
            if self._fault is not None:
                raise self._fault
            if there.state is State.FAILED:
                return DrawState.FAILED
            if given_up:
                return DrawState.PRUNED
            if there.state is State.DIVERGED:
                return DrawState.DIVERGED
            if there.state is not State.FINISHED or there.result is None:
                return DrawState.OPEN
            metric = self.study.searched.search.metric
            curve = _curve(self.current, metric)
            values = [] if curve is None else curve.values
            self._done.append((values, there.result["last"].get(metric)))
            self._size, self._reported = -1, 0
            if len(self._done) == len(self._planned):
                is_finite = self.value is not None
                return DrawState.FINISHED if is_finite else DrawState.DIVERGED

    @property
    def value(self) -> float | None:
        """The mean over the finished seeds at their last epochs; None if one is not finite."""
        return _mean([last for _, last in self._done])

    def _report(self, curve: _Curve | None) -> None:
        if curve is None:
            return
        course = curve.course
        rounds = course.rounds(course.steps)
        for number in range(self._reported + 1, len(curve.values) + 1):
            self._reported = number
            step = len(self._done) * rounds + number
            seeds = [curve.values, *(each for each, _ in self._done)]
            value = _mean([each[number - 1] if number <= len(each) else None for each in seeds])
            if value is None:
                continue
            is_last = step == len(self._planned) * rounds
            if self.study.report(self.number, step, value) and not is_last:
                place = course.told(min(course.steps, number * course.in_round))
                self.reason = self._explained(place.partition("/")[0], value)
                return

    def _explained(self, place: str, value: float) -> str:
        search = self.study.searched.search
        seed = f" of seed {self.current.trial.seed}" if self._done else ""
        best = f"not among the best of {KEPT_OF_HALVING}"
        worse = "worse than the median" if search.pruner == "median" else best
        return f"search: {search.metric} {value:.4g} at {place}{seed} is {worse}"


def _mean(values: Sequence[float | None]) -> float | None:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return fmean(finite) if values and len(finite) == len(values) else None


class _Curve(NamedTuple):
    values: Sequence[float | None]  # after each epoch; None where one is not finite
    course: Course


def _curve(planned: Planned, metric: str) -> _Curve | None:
    """The metric of a trial; None before its first evaluation."""
    records = rounds_in(planned.folder)
    if not records:
        return None
    values = [value_in(record, metric) for record in records]
    return _Curve(values, course_of(planned.trial, records[0]))
