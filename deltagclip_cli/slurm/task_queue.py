"""The trials of one task of an array job, which may meet other copies of themselves."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from deltagclip_cli.launch.queue import End, PlannedQueue
from deltagclip_cli.plan.planned import Planned
from deltagclip_cli.runs.heartbeat import Heartbeat, last_heartbeat
from deltagclip_cli.runs.ownership import Owner, read_owner

logger = logging.getLogger(__name__)


class JobQueue(PlannedQueue):
    """The trials of one task.

    Slurm starts a task again on another node when it has lost sight of the first, where its old
    self may live on. Where that holds its claims, it is waited for, since nobody else would run
    the trial; where claims are not seen from here, the trial is taken over. What another job works
    on is left to that job, for waiting costs as much as training; where only a heartbeat speaks for
    that, the next one is waited for, since the last of a killed process looks alike.

    Args:
        pending: the trials to run.
        job: Slurm's id of the task; empty outside of Slurm.
        restart: how often Slurm has started the task again.

    Attributes:
        left: trials that other processes work on.
    """

    def __init__(self, pending: Iterable[Planned], job: str, restart: int = 0) -> None:
        super().__init__(pending)
        self._job, self._restart = job, restart
        self._beats: dict[str, Heartbeat | None] = {}
        self.left: list[Planned] = []

    def is_elsewhere(self, planned: Planned) -> bool:
        """Whether another process works on a trial."""
        if self._is_old_self(read_owner(planned.folder)):
            return planned.folder.is_claimed()
        return super().is_elsewhere(planned)

    def leave(self, planned: Planned) -> None:
        """Leave a trial to the process that works on it, and wait only for an old self."""
        owner = read_owner(planned.folder)
        if self._is_old_self(owner) or not self._goes_on(planned):
            super().leave(planned)
        else:
            self._give_away(planned, owner)

    def ended(self, planned: Planned, end: End) -> None:
        """A trial that was taken has ended; one that was taken over is its new owner's."""
        owner = read_owner(planned.folder)
        if end.elsewhere and not self._is_old_self(owner):
            self._give_away(planned, owner)
        else:
            super().ended(planned, end)

    def _give_away(self, planned: Planned, owner: Owner | None) -> None:
        self.left.append(planned)
        logger.warning("%s: %s works on it.", planned.name, owner or "another process")

    def _goes_on(self, planned: Planned) -> bool:
        beat = last_heartbeat(planned.folder)
        before = self._beats.setdefault(planned.trial.folder, beat)
        return planned.folder.is_claimed() or beat not in (None, before)

    def _is_old_self(self, owner: Owner | None) -> bool:
        """Whether it is this task, started before; one that was started after it has taken over."""
        return owner is not None and owner.job == self._job != "" and owner.restart <= self._restart
