"""Writes what a trial measures: ``metrics.jsonl``, the truth, and the same for TensorBoard."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from typing import IO, Any

from torch.utils.tensorboard.summary import hparams
from torch.utils.tensorboard.writer import SummaryWriter

from deltagclip_cli.files import write_text
from deltagclip_cli.run_folder import RunFolder
from deltagclip_cli.trials import Trial

HPARAM_METRICS = ("test/accuracy", "test/loss", "train/accuracy", "train/loss")
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
    """

    def __init__(self, folder: RunFolder, trial: Trial, kept: Iterable[Mapping[str, Any]]) -> None:
        kept = list(kept)
        for path in folder.event_files():
            path.unlink()
        self._metrics = _reopened(folder, kept)
        self._events = SummaryWriter(str(folder.path), purge_step=0, max_queue=1000)
        self._write_hyper_parameters(trial)
        for record in kept:
            self._write_events(record)

    def record(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Append one record; values that are not finite become null."""
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        record = {"epoch": epoch, "step": step, "time": time.time(), **finite}
        self._metrics.write(_line(record))
        self._metrics.flush()
        self._write_events(record)

    def sync(self) -> None:
        """Bring everything written so far to the disk. Call it before a checkpoint counts on it."""
        self._metrics.flush()
        os.fsync(self._metrics.fileno())
        self._events.flush()

    def close(self) -> None:
        """Close the files."""
        self._metrics.close()
        self._events.close()

    def _write_events(self, record: Mapping[str, Any]) -> None:
        for name, value in record.items():
            if "/" in name and value is not None:
                axis = "step" if name.startswith(STEP_PREFIX) else "epoch"
                self._events.add_scalar(name, value, record[axis], walltime=record["time"])

    def _write_hyper_parameters(self, trial: Trial) -> None:
        # SummaryWriter.add_hparams would make a second run, named by the time; these are the same
        # three records in the run itself.
        values = dict(_flat(trial.settings, ""))
        values["label"] = trial.label
        metrics = {name: 0.0 for name in HPARAM_METRICS if _is_measured(name, trial)}
        for summary in hparams(values, metrics):  # type: ignore[no-untyped-call]
            self._events._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]


def is_step_record(record: Mapping[str, Any]) -> bool:
    """Whether a record was made between epochs."""
    return any(name.startswith(STEP_PREFIX) for name in record)


def _is_measured(name: str, trial: Trial) -> bool:
    return not name.endswith("accuracy") or trial.task.name == "classify"


def _reopened(folder: RunFolder, kept: list[Mapping[str, Any]]) -> IO[str]:
    write_text(folder.metrics_file, "".join(_line(record) for record in kept))
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
