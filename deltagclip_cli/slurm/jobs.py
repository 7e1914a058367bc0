"""What the queue says of trials: which wait there, which run, and whose jobs are gone.

The files of a run folder are the truth. Slurm is asked only for what they cannot tell: whether the
job that a trial was submitted with is still alive. Where Slurm does not answer that is unknown, and
what is unknown is never taken for gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from deltagclip_cli.run_folder import ENDED, RunFolder, State
from deltagclip_cli.slurm.commands import (
    MissingError,
    SlurmError,
    Task,
    recorded_states,
    tasks_named,
)
from deltagclip_cli.slurm.submission import Array, Head, Marks, open_arrays

_SECONDS_BETWEEN_QUESTIONS = 10.0
_UNKNOWN = "submitted; Slurm does not answer"


@dataclass(frozen=True)
class Place:
    """Where a trial was submitted.

    Args:
        array: its files.
        job: the number that Slurm gave to it; empty if it was never written down.
        is_cancelled: whether the array was cancelled.
        task: the number in the array.
        before: how the run folder was then.
    """

    array: Array
    job: str
    is_cancelled: bool
    task: int
    before: Marks


@dataclass(frozen=True)
class Standing:
    """How a trial stands with Slurm added to what its files say.

    Args:
        state: of the trial.
        reason: why, if the queue knows that better than the files; else empty.
        in_a_job: whether it waits or runs in a job, or may do so.
        task: the task that it waits or runs in, as Slurm tells of it.
    """

    state: State
    reason: str = ""
    in_a_job: bool = False
    task: Task | None = None


@dataclass(frozen=True)
class Jobs:
    """The submitted trials of a runs folder, and what Slurm says of their jobs.

    Args:
        places: where each trial was submitted last, or waits or runs from before, by its run folder
            relative to the runs folder.
        tasks: by the name of the job and the number in the array; of one task submitted twice by
            hand, one that is alive.
        problem: why Slurm could not be asked; empty if it was, or if nothing is submitted.
        is_missing: whether that is because its commands are not here.
        queue: all tasks that the queue tells of, also the second one of a place.
        arrays: those that were asked about, with the first lines of their lists.
    """

    places: Mapping[str, Place] = field(default_factory=dict)
    tasks: Mapping[tuple[str, int], Task] = field(default_factory=dict)
    problem: str = ""
    is_missing: bool = False
    queue: Sequence[Task] = ()
    arrays: Mapping[Array, Head] = field(default_factory=dict)

    @property
    def experiments(self) -> list[str]:
        """The names of those with arrays."""
        return sorted({head.experiment for head in self.arrays.values()})

    def awaited(self, experiment: str) -> list[str]:
        """The trials of an experiment that wait or run, or may do so, like ``places``."""
        return [
            name
            for name, place in self.places.items()
            if self.arrays[place.array].experiment == experiment
            and (self.problem or self._is_alive(place))
        ]

    def _is_alive(self, place: Place) -> bool:
        task = self.tasks.get((place.array.job_name, place.task))
        return task is not None and task.is_alive

    def standing(self, name: str, folder: RunFolder, state: State) -> Standing:
        """How a trial stands.

        Args:
            name: of its run folder, relative to the runs folder.
            folder: its run folder.
            state: what the files there say.
        """
        place = self.places.get(name)
        if place is None or self.is_missing or _ended_since(folder, state, place):
            return Standing(state)
        if self.problem:
            begun = folder.owner_file.exists()
            return Standing(State.RUNNING if begun else State.QUEUED, _UNKNOWN, in_a_job=True)
        task = self.tasks.get((place.array.job_name, place.task))
        if task is not None and task.is_alive:
            return _alive(task)
        return self._gone(place, folder, state, task)

    def _gone(self, place: Place, folder: RunFolder, state: State, task: Task | None) -> Standing:
        if state in (State.RUNNING, *ENDED):
            return Standing(state)  # a result that was to be replaced is kept
        if task is None and not place.job:
            return Standing(state)  # it is being submitted at this moment, or never was
        job = task.id if task else f"{place.job}_{place.task}"
        words = ", ".join(filter(None, (task.state, task.reason))) if task else ""
        if folder.stopped_at not in (None, place.before.stopped):
            return Standing(state)  # it has said itself why it ended
        if task.state == "CANCELLED" if task else place.is_cancelled:
            return Standing(state, f"job {job} was cancelled")
        log = place.array.logs / f"{job}.log"
        told = f", see {log}" if log.exists() else ", and has left no log"
        return Standing(State.LOST, f"job {job} is gone{f' ({words})' if words else ''}{told}")

    def record_cancel(self, tasks: Iterable[Task]) -> None:
        """Remember that these were cancelled, which Slurm itself forgets after minutes."""
        names = {task.name for task in tasks}
        for array in self.arrays:
            if array.job_name in names:
                with suppress(OSError):
                    array.record_cancel()

    def alive(self, experiments: Iterable[str] = ()) -> list[Task]:
        """The tasks that wait or run, of all experiments or of some."""
        names = {
            array.job_name
            for array, head in self.arrays.items()
            if not experiments or head.experiment in experiments
        }
        return [task for task in self.queue if task.is_alive and task.name in names]


def _ended_since(folder: RunFolder, state: State, place: Place) -> bool:
    """Whether a trial has ended since; one that was to be run again had ended before."""
    return state in ENDED and folder.ended_at != place.before.ended


def _alive(task: Task) -> Standing:
    again = f"restarted {task.restarts} ×" if task.restarts else ""
    if task.is_pending:
        return Standing(State.QUEUED, ", ".join(filter(None, (task.reason, again))), True, task)
    return Standing(State.RUNNING, again, True, task)


def find_jobs(runs: Path) -> Jobs:
    """Ask Slurm, once, about every trial of a runs folder that was submitted and may be in a queue.

    Raises:
        UsageError: a list of trials cannot be read.
    """
    lists = {array: array.read() for array in open_arrays(runs)}
    if not lists:
        return Jobs()
    arrays = {array: head for array, (head, _) in lists.items()}
    try:
        queue = tasks_named(array.job_name for array in lists)
    except SlurmError as error:
        is_missing = isinstance(error, MissingError)
        return Jobs(_places(lists, {}), {}, str(error), is_missing, arrays=arrays)
    tasks = _by_place(queue)
    places = _places(lists, tasks)
    return Jobs(places, {**_forgotten(places, tasks), **tasks}, queue=queue, arrays=arrays)


def asked_rarely(runs: Path) -> Callable[[], Jobs]:
    """:func:`find_jobs` for whoever looks again and again: the controller serves many others."""
    asked_at, jobs = 0.0, Jobs()

    def ask() -> Jobs:
        nonlocal asked_at, jobs
        if not asked_at or time.monotonic() - asked_at > _SECONDS_BETWEEN_QUESTIONS:
            jobs, asked_at = find_jobs(runs), time.monotonic()
        return jobs

    return ask


def _places(
    lists: Mapping[Array, tuple[Head, Mapping[str, Marks]]], tasks: Mapping[tuple[str, int], Task]
) -> dict[str, Place]:
    alive = {key for key, task in tasks.items() if task.is_alive}
    places: dict[str, Place] = {}
    # Names of folders do not tell which is newer: two are of one second.
    for array, (head, folders) in sorted(lists.items(), key=lambda each: each[1][0].submitted):
        name, job, is_cancelled = array.job_name, array.job, array.is_cancelled
        for number, (folder, before) in enumerate(folders.items()):
            task, older = number // head.pack, places.get(folder)
            overtaken = older is None or (older.array.job_name, older.task) not in alive
            if overtaken or (name, task) in alive:
                places[folder] = Place(array, job, is_cancelled, task, before)
    return places


def _by_place(tasks: Iterable[Task]) -> dict[tuple[str, int], Task]:
    found: dict[tuple[str, int], Task] = {}
    for task in tasks:
        before = found.get((task.name, task.task))
        if before is None or not before.is_alive:
            found[task.name, task.task] = task
    return found


def _forgotten(
    places: Mapping[str, Place], known: Mapping[tuple[str, int], Task]
) -> dict[tuple[str, int], Task]:
    """Tasks that the queue has forgotten, as far as there is a database that has not."""
    gone = {
        (place.array.job_name, place.task, place.job)
        for place in places.values()
        if place.job and (place.array.job_name, place.task) not in known
    }
    if not gone:
        return {}
    states = recorded_states({job for *_, job in gone})
    return {
        (name, task): Task(name, job, task, states[f"{job}_{task}"])
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
        if not _ended_since(folder, folder.state, place):
            needed.add(place.array.job_name)
    for array in jobs.arrays:
        if array.job_name not in needed:
            with suppress(OSError):
                array.close()
