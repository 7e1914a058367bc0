"""The queue of a search: what is run next follows from what was measured before."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from deltagclip_cli.core import RunFolderError
from deltagclip_cli.launch.queue import End
from deltagclip_cli.plan.planned import Planned
from deltagclip_cli.runs.folder import State
from deltagclip_cli.runs.hold import hold
from deltagclip_cli.search.candidate import Candidate
from deltagclip_cli.search.study import Outcome, Study
from deltagclip_cli.spec.trial import Trial

_SECONDS_BETWEEN_LOOKS = 1.0


class SearchQueue:
    """Settings drawn by studies, each run with one seed after the other.

    What an earlier search has begun and not ended comes first. A setting of which a worker was
    killed stays open, for the next search to go on with.

    Args:
        studies: one for each optimizer.
        runs: where run folders go.
        settings: how many each study is to have in all.
        slots: how many settings are open at once. One that waits for another process is one of
            them: with a single slot, what is drawn next depends on nothing but what has ended.
    """

    def __init__(self, studies: Sequence[Study], runs: Path, settings: int, slots: int = 1) -> None:
        self._studies = studies
        self._runs = runs
        self._settings = settings
        self._slots = slots
        self._idle = [
            Candidate(study, tried, runs)
            for study in studies
            for tried in study.tried()
            if tried.outcome is Outcome.OPEN
        ]
        self._running: dict[Path, Candidate] = {}
        self._looked: dict[Path, float] = {}  # at folders where another process works
        self._ended_elsewhere: list[Planned] = []

    def most_trials(self) -> list[Trial]:
        """The trials that may still be run; fewer will be, where settings are given up.

        Those that are not drawn yet have the options that the spec writes out.
        """
        begun = [trial for each in self._idle for trial in each.trials_left()]
        drawn = [self._missing(each) * each.subject.trials({}) for each in self._studies]
        return [*begun, *itertools.chain.from_iterable(drawn)]

    def take(self) -> Planned | None:
        for candidate in list(self._idle):
            if self._is_free(candidate):
                return self._hand_out(candidate)
        while self._has_room() and (study := self._next_study()) is not None:
            candidate = Candidate(study, study.draw(), self._runs)
            self._idle.append(candidate)
            if self._is_free(candidate):
                return self._hand_out(candidate)
        return None

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
        if outcome is not Outcome.OPEN:
            self._conclude(candidate, outcome)
        elif candidate.current is not planned:  # on to the next seed
            self._idle.insert(0, candidate)

    def ended_elsewhere(self) -> list[Planned]:
        told, self._ended_elsewhere = self._ended_elsewhere, []
        return told

    def _missing(self, study: Study) -> int:
        return max(0, self._settings - study.begun)

    def _has_room(self) -> bool:
        return len(self._idle) + len(self._running) < self._slots

    def _next_study(self) -> Study | None:
        """The study that is furthest behind."""
        unfinished = [each for each in self._studies if self._missing(each)]
        return min(unfinished, key=lambda each: each.begun, default=None)

    def _is_free(self, candidate: Candidate) -> bool:
        """Whether there is something of the candidate to run, and nobody runs it.

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
        if folder.is_claimed():
            self._looked[folder.path] = time.monotonic()
            return False
        return folder.path not in self._running

    def _settles(self, candidate: Candidate) -> bool:
        """Whether the run folders say all that there is to know of an idle candidate."""
        before, left = candidate.current, len(candidate.trials_left())
        outcome = candidate.settle()
        ended = outcome is not Outcome.OPEN or len(candidate.trials_left()) < left
        if ended and self._looked.pop(before.folder.path, None) is not None:
            self._ended_elsewhere.append(before)
        if outcome is not Outcome.OPEN:
            self._idle.remove(candidate)
            self._conclude(candidate, outcome)
        return outcome is not Outcome.OPEN

    def _hand_out(self, candidate: Candidate) -> Planned:
        planned = candidate.current
        self._idle.remove(candidate)
        self._running[planned.folder.path] = candidate
        return planned

    def _conclude(self, candidate: Candidate, outcome: Outcome) -> None:
        folder = candidate.current.folder if outcome is Outcome.PRUNED else None
        if folder and folder.state is State.INTERRUPTED:
            with suppress(RunFolderError), hold(folder) as held:
                if folder.state is State.INTERRUPTED:
                    held.record_pruning(candidate.reason)
        value = candidate.value if outcome is Outcome.FINISHED else None
        candidate.study.finish(candidate.number, outcome, value)
