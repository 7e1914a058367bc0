"""The queue's answer on trials: which wait there, which run, and whose jobs are gone.

The files of a run folder are the truth. Slurm is asked only for what they cannot tell: whether the
job that a trial was submitted with is still alive. Where Slurm does not answer that is unknown, and
what is unknown is never taken for gone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deltagclip_cli.core import UsageError
from deltagclip_cli.plan.planned import Elsewhere, QueueState
from deltagclip_cli.runs.folder import ENDED, RunFolder, State
from deltagclip_cli.runs.hold import read_owner
from deltagclip_cli.slurm.array import Array, Entry, Head, Marks, open_arrays
from deltagclip_cli.slurm.awaited import AnySlot, SlotReader
from deltagclip_cli.slurm.client import (
    ArrayTask,
    MissingError,
    SlurmError,
    recorded_states,
    tasks_named,
)
from deltagclip_cli.slurm.handed import WORKER

if TYPE_CHECKING:
    from deltagclip_cli.spec.trial import Trial

_SECONDS_BETWEEN_QUESTIONS = 10.0
_UNKNOWN = "submitted; Slurm does not answer"


@dataclass(frozen=True)
class ArrayPlace:
    """The place where a trial was submitted, and how its run folder was ``before``."""

    array: Array
    job: str  # the number that Slurm gave to the array; empty if it was never written down
    task: int
    is_cancelled: bool
    before: Marks


@dataclass(frozen=True)
class Jobs(Elsewhere):
    """The submitted trials of a runs folder, and what Slurm says of their jobs."""

    # Where each trial was submitted last, or waits or runs from before, by its run folder relative
    # to the runs folder; a slot by that of its trial, or by its name while that is not known
    places: Mapping[str, ArrayPlace] = field(default_factory=dict)
    # By the name of the job and the number in the array; of one task submitted twice by hand, one
    # that is alive
    tasks: Mapping[tuple[str, int], ArrayTask] = field(default_factory=dict)
    is_missing: bool = False  # Slurm could not be asked because its commands are not here
    # All tasks that the queue tells of, also the second one of a place
    queue: Sequence[ArrayTask] = ()
    # That were asked about, with the first lines of their lists
    arrays: Mapping[Array, Head] = field(default_factory=dict)
    # By which the lists were read, so that a slot has one name in all of a submission
    slots: SlotReader | None = None

    @property
    def experiments(self) -> list[str]:
        return sorted({head.experiment for head in self.arrays.values()})

    def awaited(self, experiment: str) -> list[str]:
        found = []
        for name, place in self.places.items():
            task = self.tasks.get((place.array.job_name, place.task))
            may_run = self.problem or (task is not None and task.is_alive)
            if may_run and self.arrays[place.array].experiment == experiment:
                found.append(name)
        return found

    def standing(self, name: str, folder: RunFolder, state: State) -> QueueState:
        place = self.places.get(name)
        if place is None or self.is_missing or _ended_since(folder, state, place):
            return QueueState(state)
        if self.problem:
            begun = os.path.exists(folder.owner_file)
            return QueueState(State.RUNNING if begun else State.QUEUED, _UNKNOWN, in_a_job=True)
        task = self.tasks.get((place.array.job_name, place.task))
        if task is None or not task.is_alive:
            return self._gone(place, folder, state, task)
        again = f"restarted {task.restarts} ×" if task.restarts else ""
        reasons = (task.reason, again) if task.is_pending else (again,)
        state = State.QUEUED if task.is_pending else State.RUNNING
        return QueueState(state, ", ".join(filter(None, reasons)), True, task.node, asdict(task))

    def _gone(
        self, place: ArrayPlace, folder: RunFolder, state: State, task: ArrayTask | None
    ) -> QueueState:
        job = task.id if task else f"{place.job}_{place.task}"
        owner = read_owner(folder)
        if state is State.RUNNING and owner and owner.job == job and not folder.is_claimed():
            state = folder.state  # it was only the last heartbeat of this job
        if state in (State.RUNNING, *ENDED):
            return QueueState(state)  # a result that was to be replaced is kept
        if task is None and not place.job:
            return QueueState(state)  # it is being submitted at this moment, or never was
        words = ", ".join(filter(None, (task.state, task.reason))) if task else ""
        if folder.stopped_at not in (None, place.before.stopped):
            return QueueState(state)  # it has said itself why it ended
        if task.state == "CANCELLED" if task else place.is_cancelled:
            return QueueState(state, f"job {job} was cancelled")
        log = place.array.logs / f"{job}.log"
        told = f", see {log}" if os.path.exists(log) else ", and has left no log"
        return QueueState(State.LOST, f"job {job} is gone{f' ({words})' if words else ''}{told}")

    def trial_of(self, experiment: str, slot: AnySlot) -> Trial | None:
        """Return the trial of a slot, if it was known when the lists were read."""
        return self.slots.known(experiment, slot) if self.slots else None

    def job_of(self, name: str) -> str:
        """Return the number of the live job that has a trial or a slot; empty if none has."""
        place = self.places.get(name)
        task = self.tasks.get((place.array.job_name, place.task)) if place else None
        return task.job if task is not None and task.is_alive else ""

    def hint(self, waiting: Sequence[QueueState]) -> str:
        held = [e.job["job"] for e in waiting if e.job and "held" in e.reason.lower()]
        return f"scontrol release {','.join(sorted(set(held)))} lets them go" if held else ""

    def record_cancel(self, tasks: Iterable[ArrayTask]) -> None:
        """Remember that these were cancelled, which Slurm itself forgets after minutes."""
        numbers: dict[str, list[int]] = {}
        for task in tasks:
            numbers.setdefault(task.name, []).append(task.task)
        for array in self.arrays:
            if array.job_name in numbers:
                with suppress(OSError):
                    array.record_cancel(numbers[array.job_name])

    def alive(self, experiments: Iterable[str] = ()) -> list[ArrayTask]:
        """The tasks that wait or run, of all experiments or of some."""
        names = {
            array.job_name
            for array, head in self.arrays.items()
            if not experiments or head.experiment in experiments
        }
        return [task for task in self.queue if task.is_alive and task.name in names]


NO_JOBS = Jobs()


def _ended_since(folder: RunFolder, state: State, place: ArrayPlace) -> bool:
    """Look whether a trial has ended since; one that was to be run again had ended before."""
    return state in ENDED and folder.ended_at != place.before.ended


def find_jobs(runs: Path) -> Jobs:
    """Ask Slurm, once, about every trial of a runs folder that was submitted and may be in a queue.

    A list of trials that cannot be read is an error: what is in it may run.
    """
    jobs = jobs_in_sight(runs)
    if jobs.unread:
        raise UsageError(jobs.unread[0])
    return jobs


def jobs_in_sight(runs: Path) -> Jobs:
    """Find what :func:`find_jobs` does, for who only looks: as far as the lists can be read."""
    lists: dict[Array, tuple[Head, Sequence[Entry]]] = {}
    unread = []
    slots = SlotReader(runs)
    try:
        arrays = open_arrays(runs)
    except UsageError as error:
        return Jobs(unread=[str(error)])
    for array in arrays:  # before Slurm is asked about them
        try:
            head, entries = array.read()
        except UsageError as error:
            unread.append(str(error))
        else:
            lists[array] = head, [_located(head.experiment, each, slots) for each in entries]
    if not lists:
        return Jobs(unread=unread, slots=slots)
    heads = {array: head for array, (head, _) in lists.items()}
    try:
        queue = tasks_named(array.job_name for array in heads)
    except SlurmError as error:
        is_missing = isinstance(error, MissingError)
        places = _places(lists, {})
        unknown = Jobs(str(error), unread, places, arrays=heads, slots=slots)
        return replace(unknown, is_missing=is_missing)
    tasks: dict[tuple[str, int], ArrayTask] = {}
    for task in queue:
        before = tasks.get((task.name, task.task))
        if before is None or not before.is_alive:
            tasks[task.name, task.task] = task
    places = _places(lists, tasks)
    tasks = {**_forgotten(places, tasks), **tasks}
    return Jobs("", unread, places, tasks, queue=queue, arrays=heads, slots=slots)


def asked_rarely(runs: Path) -> Callable[[], Jobs]:
    """:func:`jobs_in_sight`, for who looks again and again: the controller serves many others."""
    asked_at, jobs = 0.0, Jobs()

    def ask() -> Jobs:
        nonlocal asked_at, jobs
        if not asked_at or time.monotonic() - asked_at > _SECONDS_BETWEEN_QUESTIONS:
            jobs, asked_at = jobs_in_sight(runs), time.monotonic()
        return jobs

    return ask


def _located(experiment: str, entry: Entry, slots: SlotReader) -> Entry:
    """Give an entry of a slot the folder of its trial, as soon as that is known."""
    trial = slots.known(experiment, entry.awaited) if entry.awaited is not None else None
    return entry if trial is None else replace(entry, folder=trial.folder)


def _places(
    lists: Mapping[Array, tuple[Head, Sequence[Entry]]],
    tasks: Mapping[tuple[str, int], ArrayTask],
) -> dict[str, ArrayPlace]:
    alive = {key for key, task in tasks.items() if task.is_alive}
    places: dict[str, ArrayPlace] = {}
    # Names of folders do not tell which is newer: two are of one second.
    for array, (head, entries) in sorted(lists.items(), key=lambda each: each[1][0].submitted):
        job, cancelled = array.job, array.cancelled
        for number, entry in enumerate(entries):
            task, older = head.task_of(number), places.get(entry.folder)
            overtaken = older is None or (older.array.job_name, older.task) not in alive
            if overtaken or (array.job_name, task) in alive:
                place = ArrayPlace(array, job, task, task in cancelled, entry.before)
                places[entry.folder] = place
    return places


def _forgotten(
    places: Mapping[str, ArrayPlace], known: Mapping[tuple[str, int], ArrayTask]
) -> dict[tuple[str, int], ArrayTask]:
    """Find tasks that the queue has forgotten in a database that has not, if there is one."""
    gone = {
        (place.array.job_name, place.task, place.job)
        for place in places.values()
        if place.job and (place.array.job_name, place.task) not in known
    }
    if not gone:
        return {}
    states = recorded_states({job for *_, job in gone})
    return {
        (name, task): ArrayTask(name, job, task, states[f"{job}_{task}"])
        for name, task, job in gone
        if f"{job}_{task}" in states
    }


def close_finished(runs: Path, jobs: Jobs) -> None:
    """Close the arrays that are not alive and hold no trial that a later one has not taken over.

    Then they are not read any more, however many submissions a folder has seen. While Slurm does
    not answer, none is closed.
    """
    if jobs.problem:
        return
    needed = {task.name for task in jobs.tasks.values() if task.is_alive}
    for name, place in jobs.places.items():
        folder = RunFolder(runs / name)
        is_over = folder.state is State.PRUNED or folder.path.name.startswith(WORKER)
        if not is_over and not _ended_since(folder, folder.state, place):
            needed.add(place.array.job_name)
    for array in jobs.arrays:
        if array.job_name not in needed:
            with suppress(OSError):
                array.close()
