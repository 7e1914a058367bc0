"""Runs one trial in this process, from its run folder to its ``result.json``."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from deltagclip_cli.core import (
    EPOCH_SECONDS,
    REGIMES,
    SPEED,
    TRAINED_METRICS,
    Check,
    ClaimedError,
    DeltaGClipError,
    ExitCode,
    FullDiskError,
    RunFolderError,
    TakenOverError,
    TrialError,
    UsageError,
    is_disk_full,
    more_is_better,
    stopped,
    unchecked,
    write_text,
)
from deltagclip_cli.runs.environment import decided_threads, read_starts, record_start
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.heartbeat import Pulse, Start
from deltagclip_cli.runs.hold import HeldFolder, Ownership, hold, remove_leftovers
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training.assembly import Parts, assemble, find_device
from deltagclip_cli.training.checkpoint import Checkpoints, where_to_continue
from deltagclip_cli.training.process import EPOCHS, StopRequest, left_to_others, logged_to
from deltagclip_cli.training.recorder import Recorder, is_step_record
from deltagclip_cli.training.trainer import Ending, Trainer, Watcher

logger = logging.getLogger(__name__)
epoch_logger = logging.getLogger(EPOCHS)


def work(
    folder: RunFolder,
    *,
    data_dir: Path,
    device: str,
    threads: int | None = None,
    force: bool = False,
    download: bool = True,
    stop: StopRequest,
    give_up: Callable[[], bool] = lambda: False,
    watchers: Sequence[Watcher] = (),
) -> ExitCode:
    """Run the trial that a folder was made for, unless it has a result; for launchers.

    Why it could not begin is written down in the folder, which nobody else would do.

    Args:
        folder: of the trial.
        data_dir, device, threads, download, watchers: as for :func:`run_trial`.
        force: run it although it has a result.
        stop: listens to signals while the trial runs, and stops it.
        give_up: asked after every step; when it says yes, the trial stops with a checkpoint.

    Raises:
        UsageError, TrialError: as :func:`run_trial`.
    """
    trial = folder.trial_to_run()  # before a lock is made in what is no run folder
    try:
        with left_to_others(folder.log_file), hold(folder) as held:
            result = folder.result()
            if not force and result is not None:
                if result.get("identity") != trial.identity:
                    raise RunFolderError(
                        f"{folder.result_file}: the result of another trial.\n"
                        "  Move or delete the run folder."
                    )
                held.remove_leavings()
                return _exit_code(result["status"], stop)
            held.forget_reasons()
            try:
                with stop.listening():
                    ending = run_trial(
                        folder,
                        trial,
                        data_dir=data_dir,
                        device=device,
                        threads=threads,
                        held=held,
                        force=force,
                        download=download,
                        watchers=watchers,
                        should_stop=lambda: stop() or give_up(),
                    )
            except ClaimedError:
                raise
            except DeltaGClipError as error:
                # Before the training begins nobody writes it down. After that a file is there, even
                # if the disk was too full to say more in it, or to make it.
                if not (folder.error_file.exists() or folder.stopped_file.exists()):
                    if is_disk_full(error):
                        held.record_stop("the disk is full")
                    else:
                        held.record_failure(error, str(error))
                raise
            return _exit_code(ending, stop)
    except ClaimedError as error:
        error.exit_code = ExitCode.CLAIMED  # for the launcher: it is no fault of the trial
        raise


def _exit_code(ending: str, stop: StopRequest) -> ExitCode:
    if ending == Ending.STOPPED:
        return stop.exit_code
    return ExitCode.FAILED if ending == Ending.DIVERGED else ExitCode.OK


def run_trial(
    folder: RunFolder,
    trial: Trial,
    *,
    data_dir: Path,
    device: str,
    threads: int | None = None,
    held: HeldFolder | None = None,
    force: bool = False,
    download: bool = True,
    watchers: Sequence[Watcher] = (),
    should_stop: Callable[[], bool],
) -> Ending:
    """Train ``trial`` in ``folder``, continuing it if there is a checkpoint.

    Everything that can be checked is checked before the folder is made. From then on the folder
    belongs to this process, until it ends or another takes it over.

    Args:
        folder: where its files go.
        trial: what to run.
        data_dir: where data sets lie.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: of the CPU, for a trial that was never begun; any other keeps its own. None for as
            many as usual.
        held: the same folder, if this process holds it already.
        force: delete what is there and start again, once nothing speaks against it.
        download: fetch data that are missing.
        watchers: are shown the progress.
        should_stop: asked after every step.

    Raises:
        UsageError: the data, the device or the folder cannot be used.
        ClaimedError: another process works in the folder, or has taken it over.
        TrialError: the trial failed; ``error.txt`` says why, with the traceback.
    """
    started = time.perf_counter()
    logger.info("%s · %s · seed %d → %s", trial.experiment, trial.label, trial.seed, folder.path)
    if not force:
        folder.check_files()
    where = find_device(device)
    torch.set_num_threads(decided_threads([] if force else read_starts(folder), threads))
    try:
        parts = assemble(trial, data_dir, where, download=download)
    except torch.OutOfMemoryError as error:
        raise TrialError(f"{folder.path}: the trial cannot start: {_explained(error)}") from error
    with (
        hold(folder, make=True) if held is None else nullcontext(held) as mine,
        left_to_others(folder.log_file),
        _owned(mine, trial, force) as check,
        logged_to(folder.log_file, check),
    ):
        result = folder.result()
        if result is not None:  # of another process, which was faster
            return Ending(result["status"])
        mine.remove_unfinished(check)
        torch.set_num_threads(decided_threads(read_starts(folder), threads))  # of who was faster
        record_start(folder, where, threads, check)
        trainer, ending = _train(folder, trial, parts, check, watchers, should_stop)
        if ending is not Ending.STOPPED:
            write_result(folder, trainer, ending, time.perf_counter() - started, check)
            with suppress(OSError):  # they only take room, and deltagclip clean removes them, too
                keep_last = trial.checkpoint.keep == "last"
                remove_leftovers(folder, keep_last=keep_last, check=check)
    if ending is Ending.STOPPED:
        logger.info("Stopped with a checkpoint in %s. The same command continues.", folder.path)
    return ending


def _train(
    folder: RunFolder,
    trial: Trial,
    parts: Parts,
    check: Check,
    watchers: Sequence[Watcher],
    should_stop: Callable[[], bool],
) -> tuple[Trainer, Ending]:
    """Go on where an earlier start ended, until the end or until asked to stop."""
    checkpoints = Checkpoints(folder, trial.identity, check)
    state, kept = where_to_continue(folder, checkpoints, check)
    start = _start(trial, parts, state)
    with (
        closing(Recorder(folder, trial, kept, check)) as recorder,
        closing(Pulse(folder, str(parts.device), start, check)) as pulse,
    ):
        all_watchers: list[Watcher] = [_EpochLines(), pulse, *watchers]
        for each in all_watchers:
            each.begin(start)
        trainer = Trainer(trial, parts, recorder, checkpoints, all_watchers, should_stop)
        if state is not None:
            trainer.load_state_dict(state)
        ending = trainer.train()
        recorder.sync()
    return trainer, ending


def _start(trial: Trial, parts: Parts, state: Mapping[str, int] | None) -> Start:
    return Start(
        epoch=state["epoch"] if state else 0,
        batch=state["batch"] if state else 0,
        epochs=trial.epochs,
        steps=parts.train.steps,
    )


@contextmanager
def _owned(held: HeldFolder, trial: Trial, force: bool) -> Iterator[Check]:
    """Own the folder of a trial, and write down why a training there ended with an error.

    What is not its fault only interrupts it. Nothing is written once the folder is another's, as
    the check that is given tells.
    """
    folder = held.folder
    if force:
        held.clear()
    held.keep(trial)
    ownership = Ownership(folder)
    try:
        ownership.take()
        held.forget_reasons()
        yield ownership.check
    except TakenOverError:
        raise
    except UsageError as error:
        if _may_write(ownership):
            held.record_failure(error, str(error))
        raise
    except Exception as error:
        is_full = is_disk_full(error)
        reason = _explained(error) if is_full or folder.path.exists() else _REMOVED
        if _may_write(ownership):
            if is_full:
                held.record_stop(reason)
            else:
                held.record_failure(error, reason)
        if is_full:
            raise FullDiskError(f"{folder.path}: the trial was interrupted: {reason}") from error
        raise TrialError(f"{folder.path}: the trial failed: {reason}") from error
    finally:
        ownership.release()


def _may_write(ownership: Ownership) -> bool:
    """Whether the folder still is ours, as far as that can be found out.

    Raises:
        TakenOverError: it is not, which may be why something else went wrong.
    """
    try:
        ownership.check()
    except OSError:
        return False
    return True


_REMOVED = "the folder was removed while it was in use.\n  The same command starts the trial again."


def _explained(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return "the GPU's memory is full.\n  Use a smaller data.batch_size, or precision: bf16."
    if is_disk_full(error):
        return "the disk is full.\n  Free space and run the same command again: it continues."
    return (
        f"{type(error).__name__}: {stopped(error)}\n"
        "  The traceback is in error.txt there. The same command tries again."
    )


def write_result(
    folder: RunFolder,
    trainer: Trainer,
    ending: Ending,
    seconds: float,
    check: Check = unchecked,
) -> None:
    """Write ``result.json``, the mark of a finished or diverged trial.

    Args:
        folder: whose ``metrics.jsonl`` is complete.
        trainer: at its end.
        ending: finished or diverged.
        seconds: wall time of this start, loading included.
        check: called before every write; raises an error if the folder is another's now.
    """
    records = [record for record in folder.metrics() if not is_step_record(record)]
    totals = trainer.regime_totals.tolist()
    result = {
        "status": ending,
        "identity": trainer.trial.identity,
        "epochs": trainer.epoch,
        "steps": trainer.step,
        "last": _metrics(records[-1]),
        "best": _best(records),
        "regimes": dict(zip(REGIMES, totals, strict=True)) if any(totals) else None,
        "diverged": asdict(trainer.divergence) if trainer.divergence else None,
        "seconds": {
            "epochs": sum(record[EPOCH_SECONDS] for record in records),
            "last_start": seconds,
        },
    }
    text = json.dumps(result, indent=1, allow_nan=False) + "\n"
    write_text(folder.result_file, text, check)


def _metrics(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if "/" in name}


def _best(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the best value of every metric with its epoch; of equal ones the first."""
    best: dict[str, dict[str, Any]] = {}
    for name in records[0]:
        reached = [(r[name], r["epoch"]) for r in records if r.get(name) is not None]
        if not name.startswith(("train/", "test/")) or not reached:
            continue
        pick = max if more_is_better(name) else min
        value, epoch = pick(reached, key=lambda pair: pair[0])
        best[name] = {"value": value, "epoch": epoch}
    return best


MOST_LINES = 20


class _EpochLines:
    """Logs a line an epoch, of which a file or pipe is shown few: ``log.txt`` has them all."""

    def begin(self, start: Start) -> None:
        self._epochs = start.epochs

    def advanced(self, epoch: int, batch: int, samples: int) -> None: ...

    def finished_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        shown = "  ".join(
            f"{name} {metrics[name]:.4g}" for name in (*TRAINED_METRICS, SPEED) if name in metrics
        )
        few = {"is_told": _part(epoch, self._epochs) > _part(epoch - 1, self._epochs)}
        epoch_logger.info("epoch %d/%d  %s", epoch, self._epochs, shown, extra=few)


def _part(epoch: int, epochs: int) -> int:
    """How many of the lines that are shown are due after an epoch."""
    return epoch * min(MOST_LINES, epochs) // epochs
