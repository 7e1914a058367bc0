"""Sinks: where a trial records what it measures; each is told of the beginning, steps and the end.

One more sink is one file here and one line in :data:`TABLE`. Those of the run folder are in this
file: ``metrics.jsonl``, ``progress.json`` and the lines of its log.

A record is a flat dictionary with ``epoch``, ``step`` (optimizer steps so far), ``time`` (seconds
since 1970) and metrics: numbers, or None for one that is not finite. The record of an epoch, or of
what else lies between two evaluations, holds ``train/...``, ``test/...``, ``optim/...`` and
``perf/...``, and as ``epoch`` how many passes over the data are made, which may be a fraction. One
made between evaluations holds the same names under ``step/``, and the pass that it lies in.
"""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import (
    EVALUATED,
    SPEED,
    TRAINED_METRICS,
    TakenOverError,
    load_target,
    shown_metrics,
)
from deltagclip_cli.runs.folder import Heartbeat
from deltagclip_cli.training.process import EPOCHS

if TYPE_CHECKING:
    from deltagclip_cli.runs.hold import HeldFile, HeldFolder
    from deltagclip_cli.spec.trial import Course, Trial

TABLE = {
    "metrics": "deltagclip_cli.training.sinks:JsonLines",
    "tensorboard": "deltagclip_cli.training.sinks.tensorboard_events:TensorBoardEvents",
    "heartbeat": "deltagclip_cli.training.sinks:HeartbeatWriter",
    "log": "deltagclip_cli.training.sinks:EpochLines",
}
"""The sinks of every trial: name -> ``"module:attribute"``, called with the held run folder."""

STEP_PREFIX = "step/"
SECONDS_BETWEEN_BEATS = 1.0
MOST_LINES = 50  # of a trial that a file or a pipe is shown, the first and the last aside

logger = logging.getLogger(EPOCHS)

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Beginning:
    """The facts of a trial whose training begins, or goes on after an interruption."""

    trial: Trial
    device: str  # ``cpu``, ``cuda:0``, ...
    course: Course
    step: int = 0  # how many steps are made
    # Of earlier starts, that stay: what a sink was told behind them is told again
    records: Sequence[Record] = ()

    @property
    def hyper_parameters(self) -> dict[str, bool | int | float | str]:
        """The settings of the trial by their dotted names, and its label."""
        return {**self.trial.flat_settings, "label": self.trial.label}


class Sink:
    """Takes what a trial records; whatever a sink does not override, it does not care for."""

    def begin(self, beginning: Beginning) -> None:
        """Begin, or go on behind ``beginning.records``."""

    def batch(self, step: int, samples: int) -> None:
        """Take notice of a step, by its number from 1, and of how many samples it took."""

    def step(self, record: Record) -> None:
        """Take the record of some steps, every ``log_every`` of them."""

    def epoch(self, record: Record) -> None:
        """Take the record of an epoch that has ended."""

    def sync(self) -> None:
        """Bring what was recorded to the disk: a checkpoint is about to count on it."""

    def end(self, result: Mapping[str, Any] | None) -> None:
        """End, with the result of the trial, or without one if it was stopped.

        This is called as well if an error ends it, even one in :meth:`begin`.
        """


class Recording:
    """Tells all sinks what a trainer tells; ``keep`` writes the state of a checkpoint."""

    def __init__(self, sinks: Sequence[Sink], keep: Callable[[dict[str, Any]], None]) -> None:
        self._sinks, self._keep = sinks, keep
        self._records, self._checksum = 0, 0  # of all starts

    def begin(self, beginning: Beginning) -> None:
        self._records, self._checksum = len(beginning.records), checksum(beginning.records)
        for sink in self._sinks:
            sink.begin(beginning)

    def batch(self, step: int, samples: int) -> None:
        for sink in self._sinks:
            sink.batch(step, samples)

    def step(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        named = {STEP_PREFIX + name: value for name, value in values.items()}
        record = self._counted(epoch, step, named)
        for sink in self._sinks:
            sink.step(record)

    def epoch(self, epoch: float, step: int, values: Mapping[str, float]) -> None:
        record = self._counted(epoch, step, values)
        for sink in self._sinks:
            sink.epoch(record)

    def _counted(self, epoch: float, step: int, values: Mapping[str, float]) -> Record:
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        record = {"epoch": epoch, "step": step, "time": time.time(), **finite}
        self._records, self._checksum = self._records + 1, checksum([record], self._checksum)
        return record

    def count(self) -> dict[str, int]:
        """Return what a checkpoint has to know of the records of all starts."""
        return {"records": self._records, "checksum": self._checksum}

    def sync(self) -> None:
        for sink in self._sinks:
            sink.sync()

    def save(self, state: dict[str, Any]) -> None:
        """Write a checkpoint, behind the records that it counts on."""
        self.sync()
        self._keep(state)

    def end(self, result: Mapping[str, Any] | None) -> None:
        """Tell every sink of the end, even if another one fails at it."""
        with ExitStack() as stack:
            for sink in self._sinks:
                stack.callback(sink.end, result)


def make_recording(
    held: HeldFolder,
    more: Sequence[Sink],
    keep: Callable[[dict[str, Any]], None],
    *,
    rank: int = 0,
) -> Recording:
    """Make what a trial is recorded with: the sinks of the table, and more of them.

    Here and nowhere else it is decided which process of a trial records: the one of rank 0. What of
    a checkpoint each of them has to ``keep`` is its own.
    """
    if rank:
        return Recording((), keep)
    return Recording([*(load_target(each)(held) for each in TABLE.values()), *more], keep)


class HeartbeatWriter(Sink):
    """Writes the heartbeat of a training."""

    def __init__(self, held: HeldFolder) -> None:
        self._held = held

    def begin(self, beginning: Beginning) -> None:
        self._course = course = beginning.course
        self._begun_at = self._beaten_at = time.monotonic()
        self._begun_done = beginning.step / course.steps
        self._samples = 0
        self._beat = Heartbeat(
            host=socket.gethostname(),
            pid=os.getpid(),
            device=beginning.device,
            epoch=course.pass_of(min(beginning.step + 1, course.steps)),
            epochs=course.pass_of(course.steps),
            step=beginning.step,
            steps=course.steps,
            unit=course.clock,
            done=self._begun_done,
        )
        self._held.beat(self._beat)

    def batch(self, step: int, samples: int) -> None:
        self._samples += samples
        now = time.monotonic()
        if now - self._beaten_at < SECONDS_BETWEEN_BEATS:
            return
        done = step / self._course.steps
        speed = self._samples / (now - self._beaten_at)
        left = (1 - done) * (now - self._begun_at) / (done - self._begun_done)
        self._beat = replace(
            self._beat,
            epoch=self._course.pass_of(step),
            step=step,
            done=done,
            samples_per_second=speed,
            seconds_left=left,
        )
        self._beaten_at, self._samples = now, 0
        self._held.beat(self._beat)

    def epoch(self, record: Record) -> None:
        """Let the next beat tell of it."""
        metrics = {name: value for name, value in record.items() if "/" in name}
        self._beat = replace(self._beat, metrics=metrics)

    def end(self, result: Mapping[str, Any] | None) -> None:
        with suppress(OSError, TakenOverError):
            self._held.remove(self._held.folder.progress_file)


class EpochLines(Sink):
    """Logs a line an epoch, of which a file or pipe is shown some: ``log.txt`` has them all."""

    def __init__(self, held: HeldFolder) -> None: ...

    def begin(self, beginning: Beginning) -> None:
        self._course = beginning.course

    def epoch(self, record: Record) -> None:
        course, step = self._course, record["step"]
        counted = {"number": course.rounds(step), "of": course.rounds(course.steps)}
        logger.info("%s  %s", course.told(step), in_words(record), extra=counted)


def in_words(record: Record) -> str:
    """Return the metrics of an epoch that a line about it tells."""
    return "  ".join(
        f"{name} not finite" if record[name] is None else f"{name} {record[name]:.4g}"
        for name in (*shown_metrics(record, TRAINED_METRICS, *EVALUATED), SPEED)
        if name in record
    )


def is_among(number: int, of: int, every: int | None = None) -> bool:
    """Return whether a line is among those to show: the first, the last, and every so-manieth.

    Args:
        number: of the line, from 1.
        of: how many lines there are in all.
        every: the distance of two; None for the least round one that leaves about fifty or fewer.
    """
    if every is None:
        rounded = (digit * 10**power for power in count() for digit in (1, 2, 5))
        every = next(each for each in rounded if of <= each * MOST_LINES)
    return number in (1, of) or number % every == 0


class JsonLines(Sink):
    """Writes the records into the run folder.

    The file is begun anew at each start, with the records that stay. What a process that was taken
    over has open is no longer in the folder then.
    """

    def __init__(self, held: HeldFolder) -> None:
        self._held = held
        self._file: HeldFile | None = None

    def begin(self, beginning: Beginning) -> None:
        path = self._held.folder.metrics_file
        with self._held.whole(path) as file:
            file.writelines(map(line, beginning.records))
        self._file = self._held.append(path)

    def step(self, record: Record) -> None:
        assert self._file is not None, "begin() comes first"
        self._file.write(line(record))

    epoch = step

    def sync(self) -> None:
        assert self._file is not None, "begin() comes first"
        self._file.sync()

    def end(self, result: Mapping[str, Any] | None) -> None:
        if self._file is not None:
            self._file.close()


def line(record: Record) -> bytes:
    """Return a record as it is written in ``metrics.jsonl``."""
    return (json.dumps(record, allow_nan=False) + "\n").encode()


def checksum(records: Iterable[Record], before: int = 0) -> int:
    """Return that of the lines of records, which follow others with the checksum ``before``."""
    for record in records:
        before = zlib.crc32(line(record), before)
    return before


def is_step_record(record: Record) -> bool:
    """Return whether a record was made between epochs."""
    return any(name.startswith(STEP_PREFIX) for name in record)
