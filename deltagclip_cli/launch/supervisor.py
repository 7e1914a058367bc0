"""Keep every slot busy until a queue has nothing left to run, whatever becomes of the workers."""

from __future__ import annotations

import logging
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Protocol

from deltagclip_cli.core import (
    ClaimedError,
    ExitCode,
    LostDeviceError,
    RunFolderError,
    TrialError,
    UnwritableError,
    is_disk_full,
)
from deltagclip_cli.launch.slots import FreeSlots
from deltagclip_cli.plan.planned import Fits, Unit, has_room, take_unit
from deltagclip_cli.runs.folder import ENDED, RunFolder, State, is_worked_on, last_heartbeat
from deltagclip_cli.runs.hold import HeldFolder, Owner, create, hold, read_owner

if TYPE_CHECKING:
    from deltagclip_cli.launch.slots import Slot
    from deltagclip_cli.launch.sweep_view import QuietView
    from deltagclip_cli.plan.planned import Planned

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_UNTIL_NEXT_LOOK = 1.0  # at a trial that another process runs
_UNKNOWN = 255  # multiprocessing's exit code where the fork server was killed before the worker
_NO_FAULTS = (ExitCode.STOPPED, ExitCode.INTERRUPTED, _UNKNOWN)
_CRASHES = {
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGSEGV,
    signal.SIGSYS,
}
_SAVED = "stopped with a checkpoint"
_FULL = "the disk is full, or cannot be written any more"
_DISK_FULL = ("disk is full", "No space left on device")


@dataclass(frozen=True)
class End:
    """The end of a trial, in a line; ``elsewhere`` if another process works on it still.

    One that is ``paused`` has trained the part that was to be trained.
    """

    state: State
    reason: str = ""
    elsewhere: bool = False
    paused: bool = False


class Queue(Protocol):
    """Hands out units of trials; several may run at once, in this process or in others."""

    def take(self, fits: Fits = has_room) -> Unit:
        """Return the trials to start next, in one worker; none if there are none at the moment.

        Args:
            fits: asked of those that come into question, in their order.
        """

    def ended_elsewhere(self) -> list[Planned]:
        """Return trials that other processes ended before they were taken; each once."""

    def is_over(self) -> bool:
        """Say whether no trial will come any more once those that run have ended."""

    def give_up(self, planned: Planned) -> str:
        """Say why a running trial is to be pruned, again and again; empty to let it run."""

    def ended(self, planned: Planned, end: End) -> None:
        """Be told how a trial that was taken has ended."""


class PlannedQueue:
    """The trials of a plan, in its order, with those beside each that fit into a stack with it.

    A trial that another process works on is looked at again later: it may be finished there, or be
    left for us. One that has ended before is run again, unless that was after this queue was made:
    then another process has done so.

    Attributes:
        any_failed: whether a trial failed, or could not even be begun.
    """

    def __init__(self, pending: Iterable[Planned]) -> None:
        self._pending: deque[Planned] = deque()
        self._elsewhere: deque[Planned] = deque()
        self._ended_before: dict[str, float | None] = {}
        self._looked = 0.0
        self.any_failed = False
        self._ended_elsewhere: list[Planned] = []
        self.add(pending)

    def add(self, pending: Iterable[Planned]) -> None:
        """Put more trials behind those that are there."""
        for each in pending:
            self._pending.append(each)
            if each.state in ENDED:
                self._ended_before[each.trial.folder] = each.folder.ended_at

    def take(self, fits: Fits = has_room) -> Unit:
        now = time.monotonic()
        if self._elsewhere and now - self._looked > _SECONDS_UNTIL_NEXT_LOOK:
            self._looked = now
            self._pending.extend(self._elsewhere)
            self._elsewhere.clear()
        return take_unit(self._pending, self._is_ours, fits)

    def _is_ours(self, planned: Planned) -> bool:
        """Look whether a trial is to be run here and now, and put it where it belongs if not."""
        if self.is_elsewhere(planned):
            self.leave(planned)
        elif self.has_ended(planned):
            self._ended_elsewhere.append(planned)
        else:
            return True
        return False

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

    def has_ended(self, planned: Planned) -> bool:
        """Look whether another process has ended the trial since it was planned."""
        result, state = planned.folder.result(), planned.folder.state
        if result is not None and result.get("identity") != planned.trial.identity:
            return False  # another trial's, as the worker will say
        if state not in ENDED or state is not planned.state:
            return state in ENDED
        # It is to be run again, once. Clocks of other machines say nothing, so a change does.
        return planned.folder.ended_at != self._ended_before.get(planned.trial.folder)


class Worker(Protocol):
    """A process that runs one unit of trials."""

    @property
    def pid(self) -> int:
        """The number of the process, which is asked for when it has just been started."""

    @property
    def sentinel(self) -> int:
        """Ready, for ``multiprocessing.connection.wait``, when the process has ended."""

    @property
    def exit_code(self) -> int | None:
        """None while it runs; the negative number of the signal that killed it, if one did."""

    def stop(self) -> None:
        """Ask it to stop where it can go on later."""

    def kill(self) -> None:
        """End it at once."""

    def forget(self) -> None:
        """Free what it held, after its end or a kill."""

    def last_words(self) -> str:
        """Return what it said at last, after its end; empty if nothing."""


@dataclass
class _Member:
    """A trial that a worker runs, alone or with others."""

    planned: Planned
    found: Owner | None  # of the run folder, when the worker was started
    ended_before: float | None  # when an earlier start ended there
    pid: int = 0  # of the worker
    pruned: str = ""

    def was_taken_over(self) -> bool:
        """Look whether a process has the run folder that was neither there before nor is ours."""
        owner = read_owner(self.planned.folder)
        if owner is None or owner == self.found:
            return False
        return (owner.host, owner.pid) != (socket.gethostname(), self.pid)

    def has_ended(self) -> bool:
        """Look whether it has ended while its worker goes on, with others or to an end."""
        folder = self.planned.folder
        if folder.ended_at in (None, self.ended_before) or folder.is_claimed():
            return False
        return folder.state in ENDED


@dataclass
class _Job:
    """A worker, and those of its trials that have not ended."""

    members: list[_Member]
    slot: Slot
    worker: Worker
    given_up: bool = field(default=False, init=False)

    @property
    def unit(self) -> Unit:
        return tuple(each.planned for each in self.members)


class Supervisor:
    """Runs the units of a queue on slots, each by a worker that ``start`` starts there.

    Each trial of a unit is told of for itself, as soon as it has ended. When ``should_stop`` says
    yes, the workers are asked to stop, and no others are started; with ``fail_fast``, likewise
    after the first trial that fails, diverges or is killed.

    Args:
        answers: asked of a slot whose worker has lost its device; if not, it is not used again.
    """

    def __init__(
        self,
        queue: Queue,
        slots: Sequence[Slot],
        start: Callable[[Unit, Slot], Worker],
        watcher: QuietView,
        should_stop: Callable[[], bool],
        *,
        fail_fast: bool,
        answers: Callable[[Slot], bool] = lambda slot: True,
    ) -> None:
        self._queue, self._start, self._watcher = queue, start, watcher
        self._should_stop, self._fail_fast = should_stop, fail_fast
        self._free = FreeSlots(slots, answers)
        self._jobs: list[_Job] = []
        self._stopping = False

    def run(self) -> None:
        """Run everything, and return when no worker is left.

        A second Ctrl-C kills the workers; whatever else ends this before lets them save.
        """
        try:
            while True:
                if self._should_stop():
                    self._stop()
                if not self._stopping:
                    self._fill_slots()
                if not self._jobs and (self._stopping or self._queue.is_over()):
                    break
                if not self._jobs and (not self._free or self._free.has_too_few):
                    left = "Too few GPUs are" if self._free else "No GPU is"
                    logger.warning("%s left that answer: no more trials are started.", left)
                    break
                self._show()
                self._look()
        except (Exception, SystemExit):  # as of the watcher: the workers may save
            self._stop()
            for job in self._jobs:
                wait([job.worker.sentinel])
            raise
        finally:
            for job in self._jobs:
                saved = job.worker.exit_code == ExitCode.STOPPED
                job.worker.kill()
                job.worker.forget()
                for member in job.members:
                    folder = member.planned.folder
                    with suppress(RunFolderError), hold(folder) as held:
                        if folder.result() is None and not member.was_taken_over():
                            held.record_stop(_SAVED if saved else "killed with the sweep")

    def _show(self) -> None:
        self._watcher.looked([(job.unit, job.slot) for job in self._jobs])

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            for job in self._jobs:
                job.worker.stop()

    def _fill_slots(self) -> None:
        while self._free and not self._should_stop():
            unit = self._free.next_unit(self._queue.take)
            for other in self._queue.ended_elsewhere():
                self._watcher.ended(other, End(other.folder.state, other.folder.reason))
            if not unit:
                return
            self._begin(unit, self._free.take(unit))

    def _begin(self, unit: Unit, slot: Slot) -> None:
        """Make the run folders of a unit, and start a worker for those that could be made."""
        members = []
        for planned in unit:
            folder = planned.folder
            try:
                create(folder, planned.trial)
                members.append(_Member(planned, read_owner(folder), folder.ended_at))
            except (RunFolderError, OSError) as error:
                self._conclude(planned, _not_started(folder, error))
        started, worker = tuple(member.planned for member in members), None
        try:
            worker = self._start(started, slot) if started else None
        except (RunFolderError, OSError) as error:
            for planned in started:
                self._conclude(planned, _not_started(planned.folder, error))
        if worker is None:
            self._free.give_back(slot)
            return
        for member in members:
            member.pid = worker.pid
        job = _Job(members, slot, worker)
        self._jobs.append(job)
        self._watcher.started(job.unit, slot)
        self._show()

    def _look(self) -> None:
        if self._jobs:
            wait([job.worker.sentinel for job in self._jobs], timeout=_SECONDS_BETWEEN_LOOKS)
        else:  # what is left is run by others
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        for job in list(self._jobs):
            exit_code = job.worker.exit_code
            if exit_code is not None:
                self._jobs.remove(job)
                job.worker.forget()
                if exit_code == ExitCode.STOPPED and not self._stopping:
                    self._ask_to_give_up(job)
                ends = [self._end(job, member, exit_code) for member in job.members]
                is_lost = any(LostDeviceError.reason in end.reason for end in ends)
                self._free.give_back(job.slot, is_doubtful=is_lost and not self._stopping)
                for member, end in zip(job.members, ends, strict=True):
                    self._conclude(member.planned, end)
            else:
                self._conclude_early(job)
                if self._ask_to_give_up(job) and not job.given_up:
                    job.given_up = True
                    job.worker.stop()

    def _conclude_early(self, job: _Job) -> None:
        """Tell of those that have ended while their worker runs."""
        for member in [each for each in job.members if each.has_ended()]:
            job.members.remove(member)
            folder = member.planned.folder
            self._conclude(member.planned, End(folder.state, folder.reason))

    def _ask_to_give_up(self, job: _Job) -> bool:
        """Ask whether trials are to be pruned; true if all of them are, for they stop together."""
        for member in job.members:
            member.pruned = member.pruned or self._queue.give_up(member.planned)
        return bool(job.members) and all(member.pruned for member in job.members)

    def _conclude(self, planned: Planned, end: End) -> None:
        self._watcher.ended(planned, end)
        self._queue.ended(planned, end)
        if self._stopping or end.elsewhere or end.paused:
            return
        if any(words in end.reason for words in _DISK_FULL):
            logger.warning("The disk is full: no more trials are started.")
            self._stop()
        elif self._fail_fast and end.state not in (State.FINISHED, State.PRUNED):
            logger.warning("%s: %s; --fail-fast stops the others.", planned.name, end.state)
            self._stop()

    def _end(self, job: _Job, member: _Member, exit_code: int) -> End:
        """Read from the files how a trial ended, and write down what is known only here."""
        folder = member.planned.folder
        result = folder.result()
        if member.has_ended() or (result is not None and result != member.planned.result):
            return End(folder.state, folder.reason)
        try:
            with hold(folder) as held:
                if exit_code != ExitCode.CLAIMED and not member.was_taken_over():
                    return self._written_down(job.worker, member, exit_code, held)
        except ClaimedError:
            pass
        except UnwritableError:
            return End(folder.state, folder.reason or _unexplained(folder))
        return End(folder.state, elsewhere=True)

    def _written_down(
        self, worker: Worker, member: _Member, exit_code: int, held: HeldFolder
    ) -> End:
        """Return how a trial ended, and say it in the folder if its worker did not do so."""
        folder, result = held.folder, held.folder.result()
        if result is not None:
            if result != member.planned.result:  # another process was faster
                return End(folder.state, folder.reason)
            # It was to be replaced, and the worker ended before it was deleted.
            return End(State.FAILED, f"{self._explained(exit_code)}; the earlier result is kept")
        if member.pruned and folder.state is not State.FAILED:
            held.record_pruning(member.pruned)
            return End(State.PRUNED, member.pruned)
        if exit_code == ExitCode.PAUSED and folder.state is State.INTERRUPTED:
            return End(State.INTERRUPTED, folder.reason, paused=True)
        if not folder.reason:
            self._write_reason(worker, member, exit_code, held)
        if not folder.reason and folder.path.exists():
            return End(State.INTERRUPTED, _FULL)  # of which no file could be made
        return End(folder.state, folder.reason or _unexplained(folder))

    def _write_reason(
        self, worker: Worker, member: _Member, exit_code: int, held: HeldFolder
    ) -> None:
        """Say in the folder how a worker ended that did not say so itself."""
        words, reason = worker.last_words(), self._explained(exit_code)
        # The worker's own file, in which no word fits; or it had not come as far as that.
        if held.folder.stopped_file.exists() or any(full in words for full in _DISK_FULL):
            held.record_stop(_FULL)
        elif not _is_its_fault(member, exit_code):
            held.record_stop(reason)
        else:
            said = f"{reason}: {_essence(words)}" if words else reason
            held.record_failure(TrialError(words or reason), said)

    def _explained(self, exit_code: int) -> str:
        if exit_code in (ExitCode.STOPPED, ExitCode.INTERRUPTED):
            return _SAVED
        if self._stopping and exit_code == -signal.SIGTERM:
            return "stopped before its training began"
        if exit_code == _UNKNOWN:
            return "how its worker ended is not known: the process that would tell was killed"
        if exit_code >= 0:
            return f"the worker ended with exit code {exit_code}"
        if exit_code == -signal.SIGKILL:
            return "killed by SIGKILL, by hand or by the system for want of memory"
        try:
            return f"killed by {signal.Signals(-exit_code).name}"
        except ValueError:  # most of the real-time signals have no name
            return f"killed by signal {-exit_code}"


def _is_its_fault(member: _Member, exit_code: int) -> bool:
    """Judge whether a worker ended by its own doing, so that it would do so again.

    One that crashes while it trains goes on from its last checkpoint.
    """
    if exit_code >= 0:
        return exit_code not in _NO_FAULTS
    beat = last_heartbeat(member.planned.folder)
    has_begun = beat is not None and (beat.host, beat.pid) == (socket.gethostname(), member.pid)
    return -exit_code in _CRASHES and not has_begun


def _essence(words: str) -> str:
    """Return the first line of an error message of ours, or the last of a traceback."""
    lines = [line.strip("│ ") for line in words.splitlines()]
    lines = [line for line in lines if any(map(str.isalnum, line))]
    ours = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (ours or lines or [""])[-1]


def _not_started(folder: RunFolder, error: RunFolderError | OSError) -> End:
    """Write down why a trial was not started; only its own files can make it a failed one."""
    reason = str(error)
    if isinstance(error, ClaimedError):
        return End(folder.state, elsewhere=True)
    if isinstance(error, UnwritableError):
        return End(State.INTERRUPTED if is_disk_full(error) else State.FAILED, reason)
    is_its_own = isinstance(error, RunFolderError)
    with suppress(RunFolderError), hold(folder) as held:
        if is_its_own:
            held.record_failure(error, reason)
        else:
            held.record_stop(reason)
    return End(State.FAILED if is_its_own else folder.state, reason)


def _unexplained(folder: RunFolder) -> str:
    """Say why there is no reason in the folder, although one was just written there."""
    return _FULL if folder.path.exists() else "the run folder was removed while the trial ran"
