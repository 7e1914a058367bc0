"""Queues: they say which trial is run next, and learn from how it ended."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from deltagclip_cli.plan.planned import Planned
from deltagclip_cli.runs.folder import ENDED, State, is_worked_on

_SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(frozen=True)
class End:
    """The end of a trial, in a line; ``elsewhere`` if another process works on it still."""

    state: State
    reason: str = ""
    elsewhere: bool = False


class Queue(Protocol):
    """Hands out trials; several may run at once, in this process or in others."""

    def take(self) -> Planned | None:
        """Return the next trial to start; None if there is none at the moment."""

    def ended_elsewhere(self) -> list[Planned]:
        """Return trials that other processes ended before they were taken; each once."""

    def is_over(self) -> bool:
        """Say whether no trial will come any more once those that run have ended."""

    def give_up(self, planned: Planned) -> str:
        """Say why a running trial is to be pruned, again and again; empty to let it run."""

    def ended(self, planned: Planned, end: End) -> None:
        """Be told how a trial that was taken has ended."""


class PlannedQueue:
    """The trials of a plan, in its order.

    A trial that another process works on is looked at again later: it may be finished there, or be
    left for us.

    Args:
        pending: the trials to run. One that has ended before is run again, unless that was after
            this queue was made: then another process has done so.

    Attributes:
        any_failed: whether a trial failed, or could not even be begun.
    """

    def __init__(self, pending: Iterable[Planned]) -> None:
        self._pending = deque(pending)
        self._elsewhere: deque[Planned] = deque()
        self._ended_before = {
            each.trial.folder: each.folder.ended_at for each in self._pending if each.state in ENDED
        }
        self._looked = 0.0
        self.any_failed = False
        self._ended_elsewhere: list[Planned] = []

    def take(self) -> Planned | None:
        self._look_elsewhere()
        while self._pending:
            planned = self._pending.popleft()
            if self.is_elsewhere(planned):
                self.leave(planned)
            elif self._has_ended(planned):
                self._ended_elsewhere.append(planned)
            else:
                return planned
        return None

    def ended_elsewhere(self) -> list[Planned]:
        told, self._ended_elsewhere = self._ended_elsewhere, []
        return told

    def is_over(self) -> bool:
        return not self._pending and not self._elsewhere

    def give_up(self, planned: Planned) -> str:
        return ""

    def ended(self, planned: Planned, end: End) -> None:
        if end.elsewhere:  # how it ends there is not known yet
            self.leave(planned)
        elif end.state is State.FAILED:
            self.any_failed = True

    def is_elsewhere(self, planned: Planned) -> bool:
        """Look whether another process works on a trial."""
        return is_worked_on(planned.folder)

    def leave(self, planned: Planned) -> None:
        """Leave a trial to the process that works on it, and look at it again later."""
        self._elsewhere.append(planned)

    def _look_elsewhere(self) -> None:
        now = time.monotonic()
        if self._elsewhere and now - self._looked > _SECONDS_BETWEEN_LOOKS:
            self._looked = now
            self._pending.extend(self._elsewhere)
            self._elsewhere.clear()

    def _has_ended(self, planned: Planned) -> bool:
        """Look whether another process has ended the trial since it was planned."""
        result, state = planned.folder.result(), planned.folder.state
        if result is not None and result.get("identity") != planned.trial.identity:
            return False  # another trial's, as the worker will say
        if state not in ENDED or state is not planned.state:
            return state in ENDED
        # It is to be run again, once. Clocks of other machines say nothing, so a change does.
        return planned.folder.ended_at != self._ended_before.get(planned.trial.folder)
