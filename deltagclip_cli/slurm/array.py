"""Submissions: what was given to Slurm at one time, in a folder that outlives the jobs.

::

    runs/.slurm/<time>-<random>/
      <experiment>-<n>.sbatch   the script of an array job; ``sbatch FILE`` submits it by hand
      <experiment>-<n>.jsonl    its trials and slots: a line on the array, then one for each
      <experiment>-<n>.job      the number that Slurm gave to it
      <experiment>-<n>.cancelled  the tasks that were cancelled
      <experiment>-<n>.over     its jobs are gone, and there is nothing left to tell of them
      logs/                     what its tasks print

Jobs are found by their names, which hold those of array and submission: so also one that was
submitted by hand, or by a process that died before it could write down the number. Nobody asks
for the jobs of an array that is over.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic_core import from_json

from deltagclip_cli.core import UsageError, plural, read_file, subfolders, write_text
from deltagclip_cli.runs.folder import STRICT, RunFolder
from deltagclip_cli.slurm.awaited import FOLDER, AnySlot, RungSlot
from deltagclip_cli.spec.trial import Trial, trial_to_run
from deltagclip_cli.tuning.stages import FreshSlot

if TYPE_CHECKING:
    from deltagclip_cli.spec.slurm_settings import Resources


@dataclass(frozen=True)
class Marks:
    """When the files of a run folder were written that say how far it is.

    They are compared for equality only: the clocks of login nodes, compute nodes and disks differ.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    begun: float | None = None  # the first one; None if it is not there
    stopped: float | None = None  # the one that says that the trial was interrupted
    ended: float | None = None  # the one that says that the trial ended or failed

    @classmethod
    def of(cls, folder: RunFolder) -> Self:
        """Look when they were written."""
        return cls(folder.begun_at, folder.stopped_at, folder.ended_at)


@dataclass(frozen=True)
class ListedTrial:
    """A trial in the list of an array, with its run folder relative to the runs folder."""

    folder: str
    trial: Trial
    # Run it although it had ended when it was submitted: ``failed`` where it can go on, ``all``
    # from its beginning; else empty
    again: str = ""
    before: Marks = Marks()  # how its run folder was when it was submitted
    part: int = 1  # pause once one in so many of its evaluations is made
    # It stands for whatever is handed out to the task, which is like it
    is_handed: bool = False

    def as_data(self) -> dict[str, Any]:
        """Return what its line holds."""
        trial = self.trial.model_dump(mode="json")
        listed = {"folder": self.folder, "again": self.again, "before": asdict(self.before)}
        more = {"part": self.part} if self.part > 1 else {}
        more |= {"handed": True} if self.is_handed else {}
        return {**listed, **more, "trial": trial}


@dataclass(frozen=True)
class ListedSlot:
    """A slot in the list of an array; its task finds out which trial it is."""

    folder: str  # its name in the place of a run folder
    slot: AnySlot

    def as_data(self) -> dict[str, Any]:
        """Return what its line holds."""
        key = "rung" if isinstance(self.slot, RungSlot) else "slot"
        return {"folder": self.folder, key: self.slot}


@dataclass(frozen=True)
class Head:
    """The first line of a list: ``count`` trials or slots, of which each task runs ``pack``.

    Of trials that stack, a task runs ``pack`` stacks, and so more trials.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    experiment: str
    pack: Annotated[int, Field(gt=0)]
    submitted: float  # in seconds since 1970
    count: Annotated[int, Field(ge=0)]
    # How many trials each task has; empty where that is pack, as in lists of earlier versions
    sizes: tuple[Annotated[int, Field(gt=0)], ...] = ()

    @property
    def tasks(self) -> int:
        return len(self.sizes) or -(-self.count // self.pack)

    @property
    def most(self) -> int:
        """The number of trials of its largest task."""
        return max(self.sizes, default=self.pack)

    def task_of(self, entry: int) -> int:
        """Return the task that runs an entry, by its number in the list."""
        return bisect_right(self._starts, entry) - 1 if self.sizes else entry // self.pack

    def entries_of(self, task: int) -> slice:
        """Return which entries of the list a task runs."""
        if not self.sizes:
            return slice(task * self.pack, (task + 1) * self.pack)
        if task >= self.tasks:
            return slice(0)
        return slice(self._starts[task], self._starts[task] + self.sizes[task])

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(self.sizes[:-1])]


@dataclass(frozen=True)
class Entry:
    """The part of a line that says where its trial stands, and is quickly read."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    folder: str  # of a slot, its name
    before: Marks = Marks()
    slot: FreshSlot | None = None
    rung: RungSlot | None = None

    @property
    def awaited(self) -> AnySlot | None:
        """The slot that it is, if it is one."""
        return self.slot or self.rung


_HEAD, _ENTRY = TypeAdapter(Head), TypeAdapter(Entry)
_MOST_BYTES = 2**30  # of a list


@dataclass(frozen=True)
class Array:
    """The files of one array job, whose common path without an ending is ``path``."""

    path: Path

    @property
    def runs(self) -> Path:
        return self.path.parents[2]

    @property
    def job_name(self) -> str:
        """The name of the job in Slurm."""
        return f"{self.path.name}.{self.path.parent.name}"

    @property
    def script(self) -> Path:
        """The file for ``sbatch``."""
        return self.path.with_suffix(".sbatch")

    @property
    def list_file(self) -> Path:
        """The file that its tasks read."""
        return self.path.with_suffix(".jsonl")

    @property
    def logs(self) -> Path:
        """The folder for what tasks print."""
        return self.path.parent / "logs"

    @property
    def job(self) -> str:
        """The number that Slurm gave to it; empty if it was never written down."""
        with suppress(OSError):
            return read_file(self.path.with_suffix(".job")).decode(errors="replace").strip()
        return ""

    @property
    def is_over(self) -> bool:
        """True if it has been closed."""
        return self.path.with_suffix(".over").exists()

    def close(self) -> None:
        """Remember that its jobs are gone."""
        self.path.with_suffix(".over").touch()

    @property
    def cancelled(self) -> frozenset[int]:
        """The tasks that were cancelled."""
        with suppress(OSError, ValueError):
            return frozenset(map(int, read_file(self.path.with_suffix(".cancelled")).split()))
        return frozenset()

    def record_cancel(self, tasks: Iterable[int]) -> None:
        """Remember which tasks were cancelled, which Slurm forgets after minutes."""
        words = map(str, sorted(self.cancelled | set(tasks)))
        write_text(self.path.with_suffix(".cancelled"), " ".join(words) + "\n")

    def record_job(self, job: str) -> None:
        """Write down the number that Slurm gave to it."""
        write_text(self.path.with_suffix(".job"), f"{job}\n")

    def write(self, head: Head, entries: Sequence[ListedTrial | ListedSlot], script: str) -> None:
        """Make the files that a job needs, the folder for its logs first."""
        self.logs.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(asdict(head)), *(json.dumps(each.as_data()) for each in entries)]
        write_text(self.list_file, "".join(f"{line}\n" for line in lines))
        write_text(self.script, script)

    def discard(self) -> None:
        """Delete the files of an array that was refused, and folders that are empty by then."""
        for file in (self.script, self.list_file):
            file.unlink(missing_ok=True)
        if not any(self.path.parent.glob("*.sbatch")):  # else others need the folder of the logs
            with suppress(OSError):
                self.logs.rmdir()
                self.path.parent.rmdir()

    def read(self) -> tuple[Head, list[Entry]]:
        """Read the first line of the list; and how the run folders of its trials were before."""
        with self._readable():
            head, lines = self._lines()
            return head, [_ENTRY.validate_json(line) for line in lines]

    def entries(self, task: int) -> tuple[Head, list[ListedTrial | ListedSlot]]:
        """Read the trials and slots of one task."""
        with self._readable():
            head, lines = self._lines()
            entries = [self._entry(line) for line in lines[head.entries_of(task)]]
        if not entries:
            raise UsageError(f"{self.list_file}: there is no task {task}, only {head.tasks}.")
        return head, entries

    def _entry(self, line: bytes) -> ListedTrial | ListedSlot:
        entry = _ENTRY.validate_json(line)
        if entry.awaited is not None:
            return ListedSlot(entry.folder, entry.awaited)
        written = from_json(line)
        trial, part = trial_to_run(written["trial"], self.runs), written.get("part", 1)
        is_handed = written.get("handed", False)
        return ListedTrial(entry.folder, trial, written["again"], entry.before, part, is_handed)

    def _lines(self) -> tuple[Head, list[bytes]]:
        first, *lines = read_file(self.list_file, _MOST_BYTES).splitlines()
        return _HEAD.validate_json(first), lines

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UsageError(f"{self.list_file}: cannot be read: {error.strerror}.") from None
        except (ValueError, TypeError, KeyError):
            raise UsageError(
                f"{self.list_file}: this is no list of trials, or not a whole one.\n"
                f"  Delete {self.path.parent} once its jobs are gone, and submit the sweep again."
            ) from None


def new_submission(runs: Path) -> Path:
    """Name a folder for a submission that nobody else has; it is made when the first array is."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return runs.absolute() / FOLDER / f"{stamp}-{secrets.token_hex(4)}"


def open_arrays(runs: Path) -> list[Array]:
    """List every array that has not been closed, by name."""
    folder, arrays = runs.absolute() / FOLDER, []
    try:
        for submission in (folder / name for name in _if_there(subfolders, folder)):
            names = [name for name in _if_there(os.listdir, submission) if name.endswith(".jsonl")]
            arrays += [Array((submission / name).with_suffix("")) for name in sorted(names)]
        return [array for array in arrays if not array.is_over]
    except OSError as error:
        raise UsageError(f"{error.filename}: cannot be read: {error.strerror}.") from None


def _if_there(names: Callable[[Path], list[str]], folder: Path) -> list[str]:
    try:
        return names(folder)
    except FileNotFoundError:
        return []


_GRES, _DEPENDENCY = "--gres=", "--dependency="
_SAME_NAMES = ("partition", "account", "qos", "constraint", "nodes", "mem", "time")


def render(
    array: Array,
    head: Head,
    resources: Resources,
    command: Sequence[str],
    folder: Path,
    after: Sequence[str] = (),
) -> str:
    """Write the text of a script whose tasks run a command in a folder.

    Args:
        after: the numbers of jobs that must have ended, in whatever way, before its tasks begin.
    """
    for path in (folder, array.runs):
        # After a line break would be another line of the script; where the name of a log has a
        # backslash, Slurm replaces nothing in it.
        if not str(path).isprintable() or (path == array.runs and "\\" in str(path)):
            raise UsageError(
                f"{str(path)!r}: no job can be submitted from or for a folder with such a name.\n"
                "  Rename it, or name another: --spec FILE, --runs DIR."
            )
    lines = [
        "#!/bin/bash",
        f"# {plural(head.count, 'trial')} of {head.experiment}, {head.most} a task."
        " To submit it by hand:",
        f"#   sbatch {shlex.quote(str(array.script))}",
        *(f"#SBATCH --{option}" for option in _options(array, head, resources, folder)),
        *_own_options(resources, after),
        "",
        "trap '' USR1  # comes before the time limit; the program has its own answer to it",
        *resources.setup,
        f"exec {shlex.join(command)}",
    ]
    return "\n".join(lines) + "\n"


def _options(array: Array, head: Head, resources: Resources, folder: Path) -> Iterator[str]:
    logs = _quoted(str(array.logs).replace("%", "%%"))  # which begins a replacement
    throttle = f"%{resources.throttle}" if resources.throttle else ""
    yield f"job-name={array.job_name}"
    yield f"array=0-{head.tasks - 1}{throttle}"
    yield f"output={logs}/%A_%a.log"
    yield f"chdir={_quoted(str(folder))}"
    yield "open-mode=append"  # else a restart would delete what was printed before it
    yield "requeue"
    yield f"signal=B:USR1@{resources.notice_seconds}"
    for name in _SAME_NAMES:
        value = getattr(resources, name)
        if value is not None:
            yield f"{name}={_quoted(str(value))}"
    if resources.cpus is not None:
        yield f"cpus-per-task={resources.cpus}"
    gres = [f"gpu:{resources.gpus}"] if resources.gpus else []
    gres += [each.removeprefix(_GRES) for each in resources.sbatch if each.startswith(_GRES)]
    if gres:
        yield f"gres={','.join(gres)}"  # of two such options, sbatch would forget the first


def _own_options(resources: Resources, after: Sequence[str]) -> Iterator[str]:
    """Yield the lines of options that have no key; those that may be there once are one line."""
    awaited = [f"afterany:{':'.join(after)}"] if after else []
    for option in resources.sbatch:
        if after and option.startswith(_DEPENDENCY):
            awaited.append(option.removeprefix(_DEPENDENCY))
        elif not option.startswith(_GRES):
            yield f"#SBATCH {option}"
    if awaited:
        yield f"#SBATCH {_DEPENDENCY}{','.join(awaited)}"


def _quoted(text: str) -> str:
    """Quote text for a script of sbatch, which reads it not quite as a shell does."""
    if re.fullmatch(r"[A-Za-z0-9_./:-]+", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
