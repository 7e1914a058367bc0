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

from deltagclip_cli.run_folder import RunFolder, State
from deltagclip_cli.slurm.commands import (
    MissingError,
    SlurmError,
    Task,
    recorded_states,
    tasks_named,
)
from deltagclip_cli.slurm.submission import Array, Head, open_arrays

_SECONDS_BETWEEN_QUESTIONS = 10.0
_UNKNOWN = "submitted; Slurm does not answer"


@dataclass(frozen=True)
class Place:
    """Where a trial was submitted last: the array, the first line of its list, and the task."""

    array: Array
    head: Head
    task: int


@dataclass(frozen=True)
class Standing:
    """How a trial stands with Slurm added to what its files say.

    Args:
        state: of the trial.
        reason: why, if the queue knows that better than the files; else empty.
        is_queued: whether it waits or runs in a job, or may do so.
        task: the task that it waits or runs in, as Slurm tells of it.
    """

    state: State
    reason: str = ""
    is_queued: bool = False
    task: Task | None = None


@dataclass(frozen=True)
class Jobs:
    """The submitted trials of a runs folder, and what Slurm says of their jobs.

    Args:
        places: where each trial was submitted last, by its run folder relative to the runs folder.
        tasks: by the name of the job and the number in the array; of one task submitted twice by
            hand, one that is alive.
        problem: why Slurm could not be asked; empty if it was, or if nothing is submitted.
        is_missing: whether that is because its commands are not here.
        queue: all tasks that the queue tells of, also the second one of a place.
        arrays: those that were asked about.
    """

    places: Mapping[str, Place] = field(default_factory=dict)
    tasks: Mapping[tuple[str, int], Task] = field(default_factory=dict)
    problem: str = ""
    is_missing: bool = False
    queue: Sequence[Task] = ()
    arrays: Sequence[Array] = ()

    def standing(self, name: str, folder: RunFolder, state: State) -> Standing:
        """How a trial stands.

        Args:
            name: of its run folder, relative to the runs folder.
            folder: its run folder.
            state: what the files there say.
        """
        place = self.places.get(name)
        if place is None or self.is_missing or _ended_since(folder, state, place.head.submitted):
            return Standing(state)
        if self.problem:
            begun = folder.owner_file.exists()
            return Standing(State.RUNNING if begun else State.QUEUED, _UNKNOWN, is_queued=True)
        task = self.tasks.get((place.array.job_name, place.task))
        if task is not None and task.is_alive:
            return _alive(task)
        return self._gone(place, folder, state, task)

    def _gone(self, place: Place, folder: RunFolder, state: State, task: Task | None) -> Standing:
        if state in (State.RUNNING, State.FINISHED, State.DIVERGED, State.FAILED):
            return Standing(state)  # a result that was to be replaced is kept
        if task is None and not place.array.job:
            return Standing(state)  # it is being submitted at this moment, or never was
        job = task.id if task else f"{place.array.job}_{place.task}"
        words = ", ".join(filter(None, (task.state, task.reason))) if task else ""
        if folder.stopped_at is not None and folder.stopped_at > place.head.submitted:
            return Standing(state)  # it has said itself why it ended
        if task is not None and task.state == "CANCELLED":
            return Standing(state, f"job {job} was cancelled")
        log = place.array.logs / f"{job}.log"
        told = f", see {log}" if log.exists() else ", and has left no log"
        return Standing(State.LOST, f"job {job} is gone{f' ({words})' if words else ''}{told}")

    def alive(self, experiments: Iterable[str] = ()) -> list[Task]:
        """The tasks that wait or run, of all experiments or of some."""
        names = {
            place.array.job_name
            for place in self.places.values()
            if not experiments or place.head.experiment in experiments
        }
        return [task for task in self.queue if task.is_alive and task.name in names]


def _ended_since(folder: RunFolder, state: State, moment: float) -> bool:
    """Whether a trial has ended since then; one that was to be run again had ended before."""
    if state not in (State.FINISHED, State.DIVERGED, State.FAILED):
        return False
    return (folder.ended_at or 0.0) >= moment


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
    arrays = open_arrays(runs)
    if not arrays:
        return Jobs()
    places = _places(arrays)
    try:
        queue = tasks_named(array.job_name for array in arrays)
    except MissingError as error:
        return Jobs(places, {}, str(error), is_missing=True)
    except SlurmError as error:
        return Jobs(places, {}, str(error))
    tasks = _by_place(queue)
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


def _places(arrays: Iterable[Array]) -> dict[str, Place]:
    places = {}
    read = [(array, *array.read()) for array in arrays]
    # Names of folders do not tell which is newer: clocks are put back, and two are of one second.
    for array, head, folders in sorted(read, key=lambda each: each[1].submitted):
        for number, folder in enumerate(folders):
            places[folder] = Place(array, head, number // head.pack)
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
        (place.array.job_name, place.task, place.array.job)
        for place in places.values()
        if (place.array.job_name, place.task) not in known and place.array.job
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

    Then they are not read any more, however many submissions a folder has seen.
    """
    needed = {task.name for task in jobs.tasks.values() if task.is_alive}
    for name, place in jobs.places.items():
        folder = RunFolder(runs / name)
        if not _ended_since(folder, folder.state, place.head.submitted):
            needed.add(place.array.job_name)
    for array in jobs.arrays:
        if array.job_name not in needed:
            with suppress(OSError):
                array.close()
