"""Runs one trial in this process, from its run folder to its ``result.json``."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from deltagclip_cli.assembly import Parts, assemble, find_device
from deltagclip_cli.checkpoint import Checkpoints
from deltagclip_cli.environment import record_start
from deltagclip_cli.errors import TrialError, UsageError
from deltagclip_cli.files import remove_unfinished
from deltagclip_cli.history import where_to_continue, write_result
from deltagclip_cli.logs import EPOCHS, logged_to
from deltagclip_cli.recorder import Recorder
from deltagclip_cli.run_folder import RunFolder
from deltagclip_cli.trainer import Ending, Trainer, Watcher
from deltagclip_cli.trials import Trial

epoch_logger = logging.getLogger(EPOCHS)


@dataclass(frozen=True)
class Start:
    """Where a trial begins: after so many epochs and batches; and its size in epochs and steps."""

    epoch: int
    batch: int
    epochs: int
    steps: int


def run_trial(
    folder: RunFolder,
    trial: Trial,
    *,
    data_dir: Path,
    device: str,
    force: bool = False,
    watch: Callable[[Start], list[Watcher]],
    should_stop: Callable[[], bool],
) -> Ending:
    """Train ``trial`` in ``folder``, continuing it if there is a checkpoint.

    Everything that can be checked is checked before the folder is made.

    Args:
        folder: where its files go.
        trial: what to run.
        data_dir: where data sets lie.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        force: delete what is there and start again, once nothing speaks against it.
        watch: called when the training begins; gives those who are shown the progress.
        should_stop: asked after every step.

    Raises:
        UsageError: the data, the device or the folder cannot be used.
        TrialError: the trial failed; ``error.txt`` says why, with the traceback.
    """
    started = time.perf_counter()
    where = find_device(device)
    try:
        parts = assemble(trial, data_dir, where)
    except torch.OutOfMemoryError as error:
        raise TrialError(f"{folder.path}: the trial cannot start: {_explained(error)}") from error
    if force:
        folder.clear()
    folder.create(trial)
    with folder.claimed(), _failures_recorded(folder), logged_to(folder.log_file):
        remove_unfinished(folder.path)
        record_start(folder, where)
        checkpoints = Checkpoints(folder, trial.identity)
        state, kept = where_to_continue(folder, checkpoints)
        recorder = Recorder(folder, trial, kept)
        try:
            watchers = [_EpochLines(trial.epochs), *watch(_start(trial, parts, state))]
            trainer = Trainer(trial, parts, recorder, checkpoints, watchers, should_stop)
            if state is not None:
                trainer.load_state_dict(state)
            ending = trainer.train()
            recorder.sync()
        finally:
            recorder.close()
        if ending is not Ending.STOPPED:
            write_result(folder, trainer, ending, time.perf_counter() - started)
        return ending


def _start(trial: Trial, parts: Parts, state: Mapping[str, int] | None) -> Start:
    return Start(
        epoch=state["epoch"] if state else 0,
        batch=state["batch"] if state else 0,
        epochs=trial.epochs,
        steps=parts.train.steps,
    )


@contextmanager
def _failures_recorded(folder: RunFolder) -> Iterator[None]:
    with suppress(OSError):
        folder.error_file.unlink()
    try:
        yield
    except UsageError as error:
        folder.record_failure(error)
        raise
    except Exception as error:
        folder.record_failure(error)
        reason = _explained(error) if folder.path.exists() else _REMOVED
        raise TrialError(f"{folder.path}: the trial failed: {reason}") from error


_REMOVED = "the folder was removed while it was in use.\n  The same command starts the trial again."


def _explained(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return "the GPU's memory is full.\n  Use a smaller data.batch_size, or precision: bf16."
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full.\n  Free space and run the same command again: it continues."
    return (
        f"{type(error).__name__}: {error}.\n"
        "  The traceback is in error.txt there. The same command tries again."
    )


class _EpochLines:
    """Logs a line an epoch."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs

    def advanced(self, epoch: int, batch: int, samples: int) -> None: ...

    def finished_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        shown = "  ".join(
            f"{name} {metrics[name]:.4g}" for name in _LOGGED_METRICS if name in metrics
        )
        epoch_logger.info("epoch %d/%d  %s", epoch, self._epochs, shown)


_LOGGED_METRICS = (
    "train/loss",
    "train/accuracy",
    "test/loss",
    "test/accuracy",
    "perf/samples_per_second",
)
