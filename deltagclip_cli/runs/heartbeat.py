"""How far a running trial is: ``progress.json``, written by its worker for whoever looks on."""

from __future__ import annotations

import json
import math
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter

from deltagclip_cli.core import Check, TakenOverError, read_file, unchecked
from deltagclip_cli.runs.folder import STRICT, RunFolder

SECONDS_BETWEEN_BEATS = 1.0
_LONG_SILENCE_SECONDS = 60.0  # after which a beat proves nothing


@dataclass(frozen=True)
class Start:
    """Where a trial begins: after so many epochs and batches; and its size in epochs and steps."""

    epoch: int
    batch: int
    epochs: int
    steps: int


@dataclass(frozen=True)
class Heartbeat:
    """The state of a running trial at one moment.

    Args:
        host: where it runs.
        pid: its process there.
        device: ``cpu``, ``cuda:0``, ...
        epoch: the epoch that it is in, from 1.
        epochs: how many there will be.
        done: the share of all its steps that are made.
        metrics: of the last whole epoch.
        samples_per_second: since the last beat; None before the first step.
        seconds_left: at the speed of this start; None before its first step.
        time: of this beat, in seconds since 1970.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    host: str
    pid: int
    device: str
    epoch: int
    epochs: int
    done: float
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    samples_per_second: float | None = None
    seconds_left: float | None = None
    time: float = 0.0

    @property
    def age_seconds(self) -> float:
        """How long ago it was written; long, if the process is stopped or in a long evaluation."""
        return max(0.0, time.time() - self.time)


_HEARTBEAT = TypeAdapter(Heartbeat)


def read_heartbeat(folder: RunFolder) -> Heartbeat | None:
    """The last beat of the process that works in ``folder``; None if none does."""
    beat = last_heartbeat(folder)
    return beat if beat is not None and is_worked_on(folder) else None


def last_heartbeat(folder: RunFolder) -> Heartbeat | None:
    """The last beat of whoever works in ``folder``, or did when it was killed."""
    try:
        return _HEARTBEAT.validate_json(read_file(folder.progress_file))
    except (OSError, ValueError):
        return None


def is_worked_on(folder: RunFolder) -> bool:
    """Whether a process works in ``folder``, here or on another machine, as far as can be seen."""
    return folder.is_claimed() or is_beating_elsewhere(folder)


def is_beating_elsewhere(folder: RunFolder) -> bool:
    """Whether a process on another machine works in ``folder``: it has said so lately."""
    beat = last_heartbeat(folder)
    if beat is None or beat.host == socket.gethostname():
        return False
    # Of a clock that is far ahead, a beat would prove something for as long as that.
    return abs(time.time() - beat.time) < _LONG_SILENCE_SECONDS


class Pulse:
    """Writes the heartbeat of a training; a watcher of the trainer.

    Args:
        folder: the run folder, which this process has claimed.
        device: what it trains on.
        start: where it begins.
        check: called before every write; raises an error if the folder is another's now.
    """

    def __init__(
        self, folder: RunFolder, device: str, start: Start, check: Check = unchecked
    ) -> None:
        self._folder = folder
        self._check = check
        self._steps = start.steps
        self._begun_at = self._beaten_at = time.monotonic()
        self._begun_done = (start.epoch * start.steps + start.batch) / (start.epochs * start.steps)
        self._samples = 0
        self._beat = Heartbeat(
            host=socket.gethostname(),
            pid=os.getpid(),
            device=device,
            epoch=min(start.epoch + 1, start.epochs),
            epochs=start.epochs,
            done=self._begun_done,
        )
        self._write()

    def begin(self, start: Start) -> None: ...

    def advanced(self, epoch: int, batch: int, samples: int) -> None:
        """A batch was trained on."""
        self._samples += samples
        now = time.monotonic()
        if now - self._beaten_at < SECONDS_BETWEEN_BEATS:
            return
        done = ((epoch - 1) * self._steps + batch) / (self._beat.epochs * self._steps)
        speed = self._samples / (now - self._beaten_at)
        left = (1 - done) * (now - self._begun_at) / (done - self._begun_done)
        self._beat = replace(
            self._beat, epoch=epoch, done=done, samples_per_second=speed, seconds_left=left
        )
        self._beaten_at, self._samples = now, 0
        self._write()

    def finished_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """An epoch ended; the next beat tells of it."""
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._beat = replace(self._beat, metrics=finite)

    def close(self) -> None:
        """Remove the file: the process works here no longer."""
        with suppress(OSError, TakenOverError):
            self._check()
            self._folder.progress_file.unlink()

    def _write(self) -> None:
        # Not forced to the disk: it is for now. A full disk is the metrics' to report.
        text = json.dumps(asdict(replace(self._beat, time=time.time())))
        temporary = self._folder.progress_file.with_name(f".progress.{os.getpid()}.part")
        try:
            self._check()
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self._folder.progress_file)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
