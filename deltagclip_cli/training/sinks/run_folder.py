"""The sink of the run folder: ``metrics.jsonl``, ``progress.json`` and the lines of its log."""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from deltagclip_cli.core import SPEED, TRAINED_METRICS, TakenOverError
from deltagclip_cli.runs.folder import Heartbeat
from deltagclip_cli.runs.hold import HeldFile, HeldFolder
from deltagclip_cli.training.process import EPOCHS
from deltagclip_cli.training.sinks import Beginning, Record, Sink, line

SECONDS_BETWEEN_BEATS = 1.0
MOST_LINES = 20  # of a trial that a file or a pipe is shown

logger = logging.getLogger(EPOCHS)


class HeartbeatWriter(Sink):
    """Writes the heartbeat of a training."""

    def __init__(self, held: HeldFolder) -> None:
        self._held = held

    def begin(self, beginning: Beginning) -> None:
        self._steps, epochs = beginning.steps, beginning.trial.epochs
        self._begun_at = self._beaten_at = time.monotonic()
        done = beginning.epoch * self._steps + beginning.batch
        self._begun_done = done / (epochs * self._steps)
        self._samples = 0
        self._beat = Heartbeat(
            host=socket.gethostname(),
            pid=os.getpid(),
            device=beginning.device,
            epoch=min(beginning.epoch + 1, epochs),
            epochs=epochs,
            done=self._begun_done,
        )
        self._held.beat(self._beat)

    def batch(self, epoch: int, batch: int, samples: int) -> None:
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
        self._held.beat(self._beat)

    def epoch(self, record: Record) -> None:
        """Let the next beat tell of it."""
        metrics = {name: value for name, value in record.items() if "/" in name}
        self._beat = replace(self._beat, metrics=metrics)

    def end(self, result: Mapping[str, Any] | None) -> None:
        with suppress(OSError, TakenOverError):
            self._held.remove(self._held.folder.progress_file)


class EpochLines(Sink):
    """Logs a line an epoch, of which a file or pipe is shown few: ``log.txt`` has them all."""

    def __init__(self, held: HeldFolder) -> None: ...

    def begin(self, beginning: Beginning) -> None:
        self._epochs = beginning.trial.epochs

    def epoch(self, record: Record) -> None:
        epoch = record["epoch"]
        shown = "  ".join(
            f"{name} {math.nan if record[name] is None else record[name]:.4g}"
            for name in (*TRAINED_METRICS, SPEED)
            if name in record
        )
        most = min(MOST_LINES, self._epochs)
        is_told = epoch * most // self._epochs > (epoch - 1) * most // self._epochs
        line = "epoch %d/%d  %s"
        logger.info(line, epoch, self._epochs, shown, extra={"is_told": is_told})


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
