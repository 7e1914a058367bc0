"""One task of an array job: it runs its trials, and comes back if its time was too short."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from deltagclip_cli.core import (
    DeltaGClipError,
    DeviceError,
    ExitCode,
    LostNodeError,
    NotYetError,
    UsageError,
    plural,
)
from deltagclip_cli.launch.local import LocalRunner, count_gpus
from deltagclip_cli.launch.slots import Slot, check_room
from deltagclip_cli.launch.supervisor import End, PlannedQueue
from deltagclip_cli.launch.sweep_view import PlainView
from deltagclip_cli.plan.planned import Planned, look_up
from deltagclip_cli.runs.folder import ENDED, Heartbeat, last_heartbeat
from deltagclip_cli.runs.hold import Owner, current_restart, hold, read_owner
from deltagclip_cli.slurm.array import Array, Head, ListedSlot, ListedTrial, Marks
from deltagclip_cli.slurm.awaited import RungSlot, SlotReader, is_at, prune_left
from deltagclip_cli.slurm.client import SlurmError, UnreachableError, is_preempted, requeue
from deltagclip_cli.slurm.handed import Handed, HandedQueue
from deltagclip_cli.spec.trial import trial_to_run
from deltagclip_cli.terminal.messages import shown_messages

if TYPE_CHECKING:
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.training.process import StopRequest

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 60.0  # half of the usual notice before the time limit
_SECONDS_BETWEEN_REQUESTS = 3.0
_MOST_RESTARTS = 8  # of a task whose node is lost before a trial came to a checkpoint
_MORE_GPUS = "ask for nodes that have more with slurm: {constraint: ...}"


@dataclass(frozen=True)
class JobSession:
    """Runs the trials of one task of an array."""

    array: Array
    task: int
    job: str  # Slurm's id of the task; empty where somebody runs it by hand
    data: Path
    # A folder on this machine to copy data to first; may hold ``$VARIABLES``
    local_data: str | None
    threads: int | None  # of the CPU, for each trial; None for as many as usual
    gpus: bool | None  # True if there must be some, False if none is used; None takes what is there
    console: Console
    stop: StopRequest

    def run(self) -> int:
        """Run what is to be run, and return the exit code."""
        head, entries = self.array.entries(self.task)
        restart = current_restart()
        self._say(f"{head.experiment}, {self._here}, restarts {restart}")
        if entries and isinstance(entries[0], ListedTrial) and entries[0].is_handed:
            return self._run_handed(head, entries[0].trial)
        known, unknown = _known(head.experiment, entries, self.array.runs)
        for reason in unknown:
            self._say(reason)
        todo = _pending(known, self.array.runs)
        queue = JobQueue(todo, self.job, restart, self.array.runs)
        before = [_progress(each) for each in todo]
        with shown_messages(self.console, quiet=False), self.stop.listening():
            if todo:
                self._launch(queue, todo, head)
        left = self._left(todo, queue)
        self._say(f"{len(left)} of {plural(len(todo), 'trial')} left to be run.")
        advanced = [_progress(each) for each in todo] != before
        if left and self._comes_back(left, advanced):
            return ExitCode.STOPPED
        if queue.any_failed:
            return ExitCode.FAILED
        return ExitCode.STOPPED if left or unknown else ExitCode.OK

    def _run_handed(self, head: Head, like: Trial) -> int:
        """Run what is handed out until there is nothing left, and return the exit code."""
        handed = Handed(self.array.runs, head.experiment)
        queue = HandedQueue(handed, self.array.runs, self.task)
        with shown_messages(self.console, quiet=False), self.stop.listening():
            self._launch(queue, (), head, [like])
        if handed.is_over:
            return ExitCode.FAILED if queue.any_failed else ExitCode.OK
        if queue.is_deserted:
            self._say("The controller of the search has been silent for long: not waited for.")
        elif not self._comes_back((), advanced=True):
            self._say("Stopped before the search was over. The same command goes on.")
        return ExitCode.STOPPED

    @property
    def _here(self) -> str:
        return f"job {self.job}" if self.job else "by hand"

    def _launch(
        self,
        queue: PlannedQueue,
        todo: Sequence[Planned],
        head: Head,
        like: Sequence[Trial] = (),
    ) -> None:
        gpus = count_gpus() if self.gpus is not False else 0
        on_gpus = bool(gpus or self.gpus)
        trials = [*(each.trial for each in todo), *like]
        # Those on several devices are run one after the other.
        wide = [each.devices for each in trials if each.ranks > 1]
        try:
            runner = LocalRunner(
                self.data,
                self.stop,
                jobs=None if on_gpus else max(wide, default=head.pack),
                gpus="all" if on_gpus else None,
                threads=self.threads,
                trials_per_gpu=-(-head.pack // max(1, gpus)) if on_gpus and not wide else 1,
                download=False,
                local_data=_expanded(self.local_data) if self.local_data is not None else None,
            )
            self._check_room(queue, todo, runner.slots)
            runner.prepare(trials)
            runner.run(queue, PlainView(self.console, len(todo)))
        except DeltaGClipError as error:
            for each in todo:
                if isinstance(queue, JobQueue) and not queue.is_elsewhere(each):
                    _record_stop(each, f"{self._here}: {' '.join(str(error).split())}")
            raise

    def _check_room(
        self, queue: PlannedQueue, todo: Sequence[Planned], slots: Sequence[Slot]
    ) -> None:
        """Write down, as their failure, which trials need more devices than this job has."""
        for each in todo:
            try:
                check_room(each.trial, slots, _MORE_GPUS)
            except DeviceError as error:
                if not self.job:
                    raise
                with hold(each.folder, make=True) as held:
                    held.keep(each.trial)
                    held.record_failure(error, str(error).partition("\n")[0])
                queue.any_failed = True

    def _left(self, todo: Sequence[Planned], queue: JobQueue) -> list[Planned]:
        """Choose what has not ended, and is not left to another job."""
        elsewhere = {each.trial.folder for each in queue.left}
        elsewhere |= {each.trial.folder for each in todo if _has_paused(each, self.array.runs)}
        now = look_up([each.trial for each in todo], self.array.runs)
        return [e for e in now if e.state not in ENDED and e.trial.folder not in elsewhere]

    def _comes_back(self, left: Sequence[Planned], advanced: bool) -> bool:
        """Put this task into the queue again, if only the time limit or a lost node ended it.

        After a preemption Slurm does so itself, and whoever cancels a job does not want it back.
        """
        is_lost = not self.stop.signals and any(
            LostNodeError.reason in each.folder.reason for each in left
        )
        if not self.job or (self.stop.signals != {signal.SIGUSR1} and not is_lost):
            return False
        # It takes minutes until Slurm notices a lost node, to which it sends the job until then.
        if is_lost and current_restart() < _MOST_RESTARTS:
            advanced = True
        if not advanced:
            for each in left:
                _record_stop(each, f"no checkpoint in the time of job {self.job}")
            self._say(
                "No trial came to a checkpoint in this job's time, and in another it would be no "
                "better: not requeued.\n  Give it more with slurm: {time: ...}."
            )
            return False
        end, asked = time.monotonic() + _PATIENCE_SECONDS, set(self.stop.signals)
        why = "A node is lost" if is_lost else "The time is up"
        while self.stop.signals == asked:
            try:
                if is_preempted(self.job):
                    return False
                requeue(self.job)
                self._say(f"{why}: back into the queue.")
                return True
            except SlurmError as error:
                is_back_soon = isinstance(error, UnreachableError)  # a restart of the controller
                if not is_back_soon or time.monotonic() > end:
                    again = "The sweep submits what is left, started again."
                    self._say(f"Not requeued: {error}\n  {again}")
                    return False
                self._say(f"{error}\n  Asking again.")
                time.sleep(_SECONDS_BETWEEN_REQUESTS)
        return False

    def _say(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)


def _record_stop(planned: Planned, reason: str) -> None:
    with suppress(DeltaGClipError), hold(planned.folder, make=True) as held:
        held.keep(planned.trial)
        if planned.folder.result() is None:
            held.record_stop(reason)


def _expanded(local_data: str) -> Path:
    folder = os.path.expandvars(local_data)
    if "$" in folder:
        raise UsageError(
            f"slurm: local_data: {local_data} names a variable that is not set on this node.\n"
            "  Write one that is, or leave out local_data."
        )
    return Path(folder).expanduser()


def _known(
    experiment: str, entries: Sequence[ListedTrial | ListedSlot], runs: Path
) -> tuple[list[ListedTrial], list[str]]:
    """Find out which trials slots are; and why that is not known of others, each reason once."""
    trials: list[ListedTrial] = []
    reasons: dict[str, None] = {}
    reader = SlotReader(runs)
    for each in entries:
        if isinstance(each, ListedTrial):
            trials.append(each)
            continue
        try:
            trial = reader.trial_of(experiment, each.slot)
        except NotYetError as error:
            reasons[str(error)] = None
            continue
        if isinstance(each.slot, RungSlot) and (each.slot.place, each.slot.seed) == (0, 0):
            prune_left(reader.bracket_of(each.slot))
        if trial is not None:
            trial, part = (
                trial_to_run(trial.model_dump(mode="json"), runs),
                reader.part_of(each.slot),
            )
            trials.append(ListedTrial(trial.folder, trial, part=part))
    return trials, list(reasons)


def _pending(entries: Sequence[ListedTrial], runs: Path) -> list[Planned]:
    """Choose what a task is to run; when it was started before, only what that has left."""
    chosen = []
    for entry, each in zip(entries, look_up([e.trial for e in entries], runs), strict=True):
        now = Marks.of(each.folder)
        if each.state not in ENDED or (entry.again and now.ended == entry.before.ended):
            afresh = entry.again == "all" and now.begun == entry.before.begun
            planned = replace(each, afresh=afresh, part=entry.part)
            chosen += [] if _has_paused(planned, runs) else [planned]
    return chosen


def _has_paused(planned: Planned, runs: Path) -> bool:
    """Look whether a trial has trained the part that is to be trained."""
    return planned.part > 1 and is_at(planned.trial, runs, planned.part)


def _progress(planned: Planned) -> tuple[int, float | None]:
    """Return something that changes when a trial comes to a checkpoint, or to an end."""
    saved = 0
    with suppress(OSError):
        saved = planned.folder.checkpoint_file.stat().st_mtime_ns
    return saved, planned.folder.ended_at


class JobQueue(PlannedQueue):
    """The trials of one task.

    Slurm starts a task again on another node when it has lost sight of the first, where its old
    self may live on. Where that holds its claims, it is waited for, since nobody else would run
    the trial; where claims are not seen from here, the trial is taken over. What another job works
    on is left to that job, for waiting costs as much as training; where only a heartbeat speaks for
    that, the next one is waited for, since the last of a killed process looks alike.

    Attributes:
        left: trials that other processes work on.
    """

    def __init__(
        self, pending: Iterable[Planned], job: str, restart: int = 0, runs: Path = Path()
    ) -> None:
        super().__init__(pending)
        self._job, self._restart, self._runs = job, restart, runs
        self._beats: dict[str, Heartbeat | None] = {}
        self.left: list[Planned] = []

    def is_elsewhere(self, planned: Planned) -> bool:
        if self._is_old_self(read_owner(planned.folder)):
            return planned.folder.is_claimed()
        return super().is_elsewhere(planned)

    def has_ended(self, planned: Planned) -> bool:
        """Look whether another process has done what was planned of a trial."""
        return _has_paused(planned, self._runs) or super().has_ended(planned)

    def leave(self, planned: Planned) -> None:
        """Leave a trial to the process that works on it, and wait only for an old self."""
        owner = read_owner(planned.folder)
        if self._is_old_self(owner) or not self._goes_on(planned):
            super().leave(planned)
        else:
            self._give_away(planned, owner)

    def ended(self, planned: Planned, end: End) -> None:
        """Be told how a trial has ended; one that was taken over is left to its new owner."""
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
        """Look whether it is this task, started before: one started later has taken over."""
        return owner is not None and owner.job == self._job != "" and owner.restart <= self._restart
