"""Writes what a trial measures: ``metrics.jsonl``, the truth, and the same for TensorBoard."""

from __future__ import annotations

import json
import math
import os
import socket
import time
import zlib
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import IO, Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import hparams

from deltagclip_cli.core import Check, unchecked, write_text
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.trial import Trial

STEP_PREFIX = "step/"


class Recorder:
    """Appends records to the files of a run folder.

    A record is one flat JSON object with ``epoch``, ``step`` (optimizer steps so far), ``time``
    (seconds since 1970) and metrics. A record of an epoch holds ``train/...``, ``test/...``,
    ``optim/...`` and ``perf/...``; one made between epochs holds the same names under ``step/``.
    TensorBoard's axis is the epoch for the first kind and the step for the second.

    On a restart both files are written anew from the records that the checkpoint covers. Event
    readers that know nothing of restarts so find every step once.

    Args:
        folder: the run folder; must exist.
        trial: whose settings become TensorBoard's hyper-parameters.
        kept: the records of an interrupted run that stay.
        check: called before every write; raises an error if the folder is another's now.
    """

    def __init__(
        self,
        folder: RunFolder,
        trial: Trial,
        kept: Iterable[Mapping[str, Any]],
        check: Check = unchecked,
    ) -> None:
        kept = list(kept)
        self.records, self.checksum = len(kept), checksum(kept)
        self._check = check
        check()
        for path in folder.event_files():
            path.unlink()
        with ExitStack() as files:
            self._metrics = files.enter_context(_reopened(folder, kept, check))
            check()
            self._events = files.enter_context(closing(EventFile(folder.path)))
            self._write_hyper_parameters(trial)
            for record in kept:
                self._write_events(record)
            self._events.flush()
            self._files = files.pop_all()

    def record(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Append one record; values that are not finite become null."""
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        record = {"epoch": epoch, "step": step, "time": time.time(), **finite}
        self._check()
        self._metrics.write(_line(record))
        self._metrics.flush()
        self.records, self.checksum = self.records + 1, checksum([record], self.checksum)
        self._write_events(record)
        self._events.flush()

    def sync(self) -> None:
        """Bring everything written so far to the disk. Call it before a checkpoint counts on it."""
        os.fsync(self._metrics.fileno())

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def _write_events(self, record: Mapping[str, Any]) -> None:
        for name, value in record.items():
            if "/" in name and value is not None:
                axis = "step" if name.startswith(STEP_PREFIX) else "epoch"
                scalar = Summary(value=[Summary.Value(tag=name, simple_value=value)])
                self._events.write(scalar, step=record[axis], seconds=record["time"])

    def _write_hyper_parameters(self, trial: Trial) -> None:
        # SummaryWriter.add_hparams would make a second run, named by the time; these are its
        # records in the run itself. The first, which describes the experiment, is left out:
        # TensorBoard takes one run's for all, and would not show what other optimizers have.
        values = {**dict(_flat(trial.settings, "")), "label": trial.label}
        _, start, end = hparams(values, {})  # type: ignore[no-untyped-call]
        for summary in (start, end):
            self._events.write(summary, step=0, seconds=time.time())


class EventFile:
    """A file of TensorBoard events.

    Not torch's ``SummaryWriter``, whose thread meets a full disk where nobody can catch it.

    Args:
        folder: where it is made.
    """

    def __init__(self, folder: Path) -> None:
        # An open TensorBoard goes on to a file whose name is new and sorts behind the others.
        now = f"{time.time():.6f}"
        name = f"events.out.tfevents.{now}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("wb")
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def write(self, summary: Summary, *, step: int, seconds: float) -> None:
        """Append a summary, made so many seconds after 1970."""
        self._write(Event(wall_time=seconds, step=step, summary=summary))

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())

    def flush(self) -> None:
        """Let readers see what was written."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def checksum(records: Iterable[Mapping[str, Any]], before: int = 0) -> int:
    """Of the lines of some records, which follow others with the checksum ``before``."""
    for record in records:
        before = zlib.crc32(_line(record).encode(), before)
    return before


def is_step_record(record: Mapping[str, Any]) -> bool:
    """Whether a record was made between epochs."""
    return any(name.startswith(STEP_PREFIX) for name in record)


def _reopened(folder: RunFolder, kept: list[Mapping[str, Any]], check: Check) -> IO[str]:
    # A new file each time: what a process that was taken over has open is no longer in the folder.
    write_text(folder.metrics_file, "".join(_line(record) for record in kept), check)
    return folder.metrics_file.open("a", encoding="utf-8")


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, allow_nan=False) + "\n"


def _flat(value: Any, prefix: str) -> Iterable[tuple[str, bool | int | float | str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, (bool, int, float, str)):
        yield prefix, value
    elif value is not None:
        yield prefix, json.dumps(value)
