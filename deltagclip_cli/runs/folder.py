"""The folder of one trial: the only place that knows the names of the files in it.

It is only read here; who holds it writes in it, as a ``HeldFolder``.

Its path is ``runs/<experiment>/<optimizer label>/seed-<n>-<hash8>/``; :class:`RunFolder` names its
files. A state is derived from these files and stored nowhere. Whatever lies there in their place,
and whatever is in them, is described and never waited for: a reader of many folders reads the
others.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from deltagclip_cli.core import (
    RunFolderError,
    check_opens,
    is_claimed,
    mark_of,
    open_file,
    read_file,
)
from deltagclip_cli.spec.trial import Trial, differing_keys, read_trial


class State(StrEnum):
    """The states that the files of a run folder tell.

    They do not say that a trial is queued or lost, which the queue of a cluster tells; nor that it
    is running, which they tell only to who asks for its claim.
    """

    NEW = "new"
    """It was not begun."""
    QUEUED = "queued"
    """Slurm has its job in the queue."""
    LOST = "lost"
    """Its job is gone and left no word; the same ``sweep`` submits it again."""
    RUNNING = "running"
    """A process works in the folder now."""
    INTERRUPTED = "interrupted"
    """It stopped or was killed, and goes on from its checkpoint."""
    FAILED = "failed"
    """An error ended it; ``--retry-failed`` runs it again."""
    PRUNED = "pruned"
    """A search gave it up; a plain ``sweep`` finishes it."""
    DIVERGED = "diverged"
    """Its loss became infinite or no number, which is a result."""
    FINISHED = "finished"
    """It came to its end."""


# Run again only if asked to. What a search gave up is not among them: a plan wants it finished.
ENDED = (State.FINISHED, State.DIVERGED, State.FAILED)

SEARCH_JOURNAL = "search.journal"
"""Of a search with TPE, in the folder of an experiment."""

EVENT_FILES = "events.out.tfevents."
"""The beginnings of the names of TensorBoard's files, which say what ``metrics.jsonl`` does."""

_MOST_BYTES = 4096  # of a reason
_LONG_SILENCE_SECONDS = 60.0  # after which a heartbeat proves nothing


class _File:
    """A file of a run folder: its name, and what it holds."""

    def __init__(self, name: str, holds: str) -> None:
        self.name, self.holds = name, holds

    def __get__(self, folder: RunFolder, kind: type[RunFolder]) -> Path:
        return folder.path / self.name


@dataclass(frozen=True)
class RunFolder:
    """The files of one trial under ``path``."""

    path: Path

    @classmethod
    def of(cls, runs: Path, trial: Trial) -> RunFolder:
        """Return the folder of ``trial`` below the runs folder, whether it is there or not."""
        return cls(runs / trial.folder)

    trial_file = _File(
        "trial.yaml",
        "the resolved trial, with all defaults; written first, so that a folder says what it is",
    )
    environment_file = _File(
        "environment.json",
        "of each start: versions, git commit, device, processor, threads, host, command line",
    )
    metrics_file = _File(
        "metrics.jsonl", "one line an evaluation, mostly an epoch: the truth that statistics read"
    )
    damaged_metrics_file = _File(
        "metrics.damaged.jsonl", "what was damaged in it, so that the trial had to begin again"
    )
    checkpoint_file = _File(
        "checkpoint.pt", "where to continue: model, optimizer, schedule, position and random state"
    )
    previous_checkpoint_file = _File("checkpoint.previous.pt", "the checkpoint before it")
    next_checkpoint_file = _File("checkpoint.next.pt", "the next one, while it is being written")
    log_file = _File("log.txt", "what the worker said")
    error_file = _File("error.txt", "why it failed, its first line in short, with the traceback")
    stopped_file = _File("stopped.txt", "why it was interrupted")
    pruned_file = _File("pruned.txt", "why a search gave it up")
    progress_file = _File("progress.json", "how far it is; there while a process works here")
    lock_file = _File(".lock", "held by the process that works here")
    owner_file = _File(
        "owner.json", "names that process; stays if it was killed or its machine was lost"
    )
    result_file = _File(
        "result.json",
        "last and best metrics, regimes, times; written last: the mark of a trial that has ended",
    )
    certificate_file = _File(
        "certificate.json", "what of the convergence theorem held; written by `certify`"
    )

    def shards_folder(self, step: int) -> Path:
        """Return the folder with the parts of the checkpoint at a step, of a divided network."""
        return self.path / f"shards-{step}"

    def shards_folders(self) -> list[Path]:
        """Return those that are there, the newest last."""
        found = {each: each.name.removeprefix("shards-") for each in self.path.glob("shards-*")}
        steps = {each: int(step) for each, step in found.items() if step.isdecimal()}
        return sorted(steps, key=steps.__getitem__)

    def event_files(self) -> list[Path]:
        """List TensorBoard's files, oldest first."""
        return sorted(self.path.glob(f"{EVENT_FILES}*"))

    @property
    def state(self) -> State:
        result = self.result()
        if result is not None:
            return State(result["status"])
        if self.obstacle or self.error_file.exists():
            return State.FAILED
        if self.pruned_file.exists():
            return State.PRUNED
        traces = (self.metrics_file, self.stopped_file, self.result_file)  # which is damaged
        return State.INTERRUPTED if any(file.exists() for file in traces) else State.NEW

    @property
    def reason(self) -> str:
        """The reason why the trial did not come to its end, in a line; empty if none is known."""
        result, problem = read_result(self.result_file)
        if result is not None:
            if early := result.get("ended_early"):
                best = early["best"]
                said = f"ended early: {early['metric']} was best at step {best['step']:,}"
                return said + mark_of(early["metric"])
            if not (at := result["diverged"]):
                return ""
            place = f"step {at['step']} (epoch {at['epoch']})"
            return f"the loss in {at['where']} was not finite at {place}"
        if obstacle := self.obstacle:
            return obstacle
        for file in (self.error_file, self.pruned_file, self.stopped_file):
            with suppress(OSError), open_file(file) as opened:
                return opened.readline(_MOST_BYTES).decode(errors="replace").rstrip()
        return problem

    @property
    def obstacle(self) -> str:
        """Name what lies in the place of a file, or keeps one from being read; mostly nothing."""
        ours = {each.name for each in vars(RunFolder).values() if isinstance(each, _File)}
        try:
            # The dot asks for the right to open what is listed.
            names = sorted(os.listdir(os.path.join(self.path, ".")))
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"the run folder cannot be read: {error.strerror}"
        for name in names:
            if name in ours or name.startswith(EVENT_FILES):
                try:
                    check_opens(self.path / name)
                except OSError as error:
                    return f"{name} cannot be read: {error.strerror}"
        return ""

    def check_files(self) -> None:
        """Check that nothing lies where a trial reads and writes its files."""
        if obstacle := self.obstacle:
            raise RunFolderError(
                f"{self.path}: {obstacle}.\n  Move it away, or name another folder with --runs DIR."
            )

    @property
    def begun_at(self) -> float | None:
        """The time of its first beginning, in seconds since 1970; None if it was never begun."""
        return _written_at(self.trial_file)

    @property
    def stopped_at(self) -> float | None:
        """The time of its interruption, in seconds since 1970; None if it did not say so."""
        return _written_at(self.stopped_file)

    @property
    def ended_at(self) -> float | None:
        """The time of its end or failure, in seconds since 1970; None if there is none."""
        return _written_at(self.result_file, self.error_file, self.pruned_file)

    def is_claimed(self) -> bool:
        """Tell whether a process works in the folder now."""
        return is_claimed(self.lock_file)

    def check(self, trial: Trial) -> None:
        """Check that the folder was made for ``trial``."""
        there = self.trial()
        if there.identity != trial.identity:
            differences = differing_keys(there.settings, trial.settings)
            raise RunFolderError(
                f"{self.path}: made from another spec: {', '.join(differences)}.\n"
                "  Move or delete that folder, or name another one with --runs DIR."
            )

    def trial(self) -> Trial:
        """Read the trial that the folder was made for, as it was written then.

        That what it names exists in this version, only :meth:`trial_to_run` checks.
        """
        return read_trial(self.trial_file)

    def trial_to_run(self) -> Trial:
        """Read the trial that the folder was made for, if it can be run here."""
        return read_trial(self.trial_file, to_run=True)

    def result(self) -> dict[str, Any] | None:
        """Read ``result.json``; None if it is missing, empty, torn or no result."""
        return read_result(self.result_file)[0]

    def metrics(self) -> Iterator[dict[str, Any]]:
        """Yield the records of ``metrics.jsonl``, up to the first line that is none.

        Each has an ``epoch``, a ``step``, a ``time`` and metrics, which are numbers or None.
        """
        with suppress(FileNotFoundError):
            for line in lines_of(self.metrics_file):
                record = read_record(line)
                if record is None:
                    return
                yield record


def _written_at(*files: Path) -> float | None:
    """Return when the first of some files that is there was written."""
    for file in files:
        with suppress(OSError):
            return file.stat().st_mtime
    return None


STRICT = ConfigDict(strict=True, allow_inf_nan=False, extra="allow", defer_build=True)
"""How JSON is read that this program wrote: of the right types, and without what is no number."""

_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Passes = Annotated[  # over the data
    float,
    Field(ge=0, lt=2**63),
    AfterValidator(lambda number: int(number) if number.is_integer() else number),
]
_Number = Annotated[int, Field(ge=-(2**63), lt=2**63)] | float
_RECORD = TypeAdapter(dict[str, _Number | None], config=STRICT)
_MOST_BYTES_OF_A_LINE = 2**20  # of metrics.jsonl; a longer one is no record


class _Part(BaseModel):
    model_config = STRICT


class _Reached(_Part):
    value: float
    epoch: _Passes


class _Divergence(_Part):
    where: str
    step: _Count
    epoch: _Count


class _Place(_Part):
    value: float | None
    epoch: _Passes
    step: _Count


class _EndedEarly(_Part):
    metric: str
    evaluations: _Count
    best: _Place


class _Seconds(_Part):
    epochs: Annotated[float, Field(ge=0, lt=1e12)]


class Result(_Part):
    """The shape of ``result.json``, to which later versions may add."""

    status: Literal["finished", "diverged"]
    """``finished``, or ``diverged`` where a loss was not finite."""
    identity: str
    """The hash of all that the spec says of its numbers (SHA-256)."""
    epochs: _Passes
    """Passes over the data that were made, which may be a fraction."""
    steps: _Count
    """Optimizer steps that were made."""
    last: dict[str, float | None]
    """Each metric at the end; null if it was not finite."""
    best: dict[str, _Reached]
    """By metric its best ``value``, and the ``epoch`` and ``step`` that it was measured at."""
    regimes: dict[str, _Count] | None
    """Steps that were plain, clipped and floored; null if the optimizer does not tell."""
    diverged: _Divergence | None
    """Null, or ``where`` (training or evaluation), ``step`` and ``epoch``."""
    ended_early: _EndedEarly | None = None
    """With ``early_stopping``: the ``metric``, its ``best``, the ``evaluations`` since then."""
    seconds: _Seconds
    """Of all ``epochs``, evaluation included, whatever interrupted them; of the ``last_start``."""


def read_result(file: Path) -> tuple[dict[str, Any] | None, str]:
    """Read a ``result.json``, or return what is wrong with it; neither if it is missing."""
    try:
        return Result.model_validate_json(read_file(file)).model_dump(exclude_defaults=True), ""
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, f"{file.name} cannot be read: {error.strerror}"
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        place = [".".join(map(str, fault["loc"]))] if fault["loc"] else []
        return None, ": ".join([f"{file.name} is damaged", *place, fault["msg"]])


def read_record(line: bytes) -> dict[str, Any] | None:
    """Read a line of ``metrics.jsonl``; None if it is no record."""
    try:
        record = _RECORD.validate_json(line)
    except ValidationError:
        return None
    is_counted = type(record.get("step")) is int
    is_whole = record.get("epoch") is not None and record.get("time") is not None
    return record if is_counted and is_whole else None


def lines_of(file: Path) -> Iterator[bytes]:
    """Yield the lines of a file of records without their ends, as far as they have an end."""
    with open_file(file) as opened:
        for line in iter(partial(opened.readline, _MOST_BYTES_OF_A_LINE), b""):
            if not line.endswith(b"\n"):
                return
            yield line.removesuffix(b"\n")


@dataclass(frozen=True)
class Heartbeat:
    """The state of a running trial at one moment, as ``progress.json`` has it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    host: str
    pid: int
    device: str  # ``cpu``, ``cuda:0``, ...
    epoch: int  # the epoch that it is in, from 1
    epochs: int  # how many there will be
    done: float  # the share of all its steps that are made
    step: int = 0  # how many these are; like the next two, told since a spec may count in steps
    steps: int = 0
    unit: Literal["epoch", "step"] = "epoch"  # in which it is told of
    metrics: Mapping[str, float | None] = field(default_factory=dict)  # of the last evaluation
    samples_per_second: float | None = None  # since the last beat; None before the first step
    seconds_left: float | None = None  # at the speed of this start; None before its first step
    time: float = 0.0  # of this beat, in seconds since 1970

    @property
    def age_seconds(self) -> float:
        """The time since it was written; long if the process is stopped, or evaluates for long."""
        return max(0.0, time.time() - self.time)


_HEARTBEAT = TypeAdapter(Heartbeat)


def read_heartbeat(folder: RunFolder) -> Heartbeat | None:
    """Return the last beat of the process that works in ``folder``; None if none does."""
    beat = last_heartbeat(folder)
    return beat if beat is not None and is_worked_on(folder) else None


def last_heartbeat(folder: RunFolder) -> Heartbeat | None:
    """Return the last beat of whoever works in ``folder``, or did when it was killed."""
    with suppress(OSError, ValueError):
        return _HEARTBEAT.validate_json(read_file(folder.progress_file))
    return None


def is_worked_on(folder: RunFolder) -> bool:
    """Return whether a process works in ``folder``, here or elsewhere, as far as can be seen."""
    if folder.is_claimed():
        return True
    beat = last_heartbeat(folder)
    if beat is None or beat.host == socket.gethostname():
        return False
    # Of a clock that is far ahead, a beat would prove something for as long as that.
    return abs(time.time() - beat.time) < _LONG_SILENCE_SECONDS
