"""Runs one trial in this process, from its run folder to its ``result.json``."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from deltagclip_cli.core import (
    ClaimedError,
    DeltaGClipError,
    ExitCode,
    FullDiskError,
    LostDeviceError,
    RankFailedError,
    RankLostError,
    RunFolderError,
    TakenOverError,
    TrialError,
    UsageError,
    is_disk_full,
    stopped,
)
from deltagclip_cli.parts.making import own_lines
from deltagclip_cli.runs.environment import (
    amend_start,
    decided_threads,
    inexact_of,
    inexactness,
    program_of,
    read_starts,
    record_start,
)
from deltagclip_cli.runs.hold import HeldFolder, hold
from deltagclip_cli.training.assembly import assemble, find_device
from deltagclip_cli.training.checkpoints import Checkpoints
from deltagclip_cli.training.ended import result_of
from deltagclip_cli.training.exactness import inexact_operation
from deltagclip_cli.training.pausing import Pause
from deltagclip_cli.training.process import StopRequest, left_to_others, logged_in
from deltagclip_cli.training.program import chosen_program, has_bf16
from deltagclip_cli.training.ranks import Ranks
from deltagclip_cli.training.sinks import (
    Beginning,
    Sink,
    make_recording,
)
from deltagclip_cli.training.trainer import Ending, Trainer

if TYPE_CHECKING:
    from deltagclip_cli.runs.folder import RunFolder
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.training.assembly import Parts
    from deltagclip_cli.training.member import Member
    from deltagclip_cli.training.ranks.process_group import Rendezvous

logger = logging.getLogger(__name__)

_OF_SHARDS = re.compile(r"DTensor|Sharding propagation failed")
_REMOVED = "the folder was removed while it was in use.\n  The same command starts the trial again."


def work(
    folder: RunFolder,
    *,
    data_dir: Path,
    device: str,
    threads: int | None = None,
    force: bool = False,
    download: bool = True,
    part: int = 1,
    stop: StopRequest,
    give_up: Callable[[], bool] = lambda: False,
    sinks: Sequence[Sink] = (),
    member: Member | None = None,
) -> ExitCode:
    """Run the trial that a folder was made for, unless it has a result; for launchers.

    Why it could not begin is written down in the folder, which nobody else would do.

    Args:
        force: run it although it has a result.
        part: stop with a checkpoint once one in so many of its evaluations is made, if not 1.
        stop: listens to signals while the trial runs, and stops it.
        give_up: asked after every step; when it says yes, the trial stops with a checkpoint.
        member: the trial's, of a stack that others train in as well.
    """
    trial = folder.trial_to_run()  # before a lock is made in what is no run folder
    try:
        with left_to_others(folder.log_file), hold(folder) as held:
            if not force and (result := folder.result()) is not None:
                if result.get("identity") != trial.identity:
                    raise RunFolderError(
                        f"{folder.result_file}: the result of another trial.\n"
                        "  Move or delete the run folder."
                    )
                return _exit_code(result["status"], stop)
            held.forget_reasons()
            pause = Pause(part)
            with _refusals_recorded(held), stop.listening():
                ending = run_trial(
                    folder,
                    trial,
                    data_dir=data_dir,
                    device=device,
                    threads=threads,
                    held=held,
                    force=force,
                    download=download,
                    sinks=[*sinks, pause],
                    should_stop=lambda: pause.is_reached or stop() or give_up(),
                    member=member,
                )
            if ending is Ending.STOPPED and pause.is_reached:
                held.record_stop(pause.reason)
                return ExitCode.PAUSED
            return _exit_code(ending, stop)
    except ClaimedError as error:
        error.exit_code = ExitCode.CLAIMED  # for the launcher: it is no fault of the trial
        raise


def work_together(
    folders: Sequence[RunFolder],
    *,
    data_dir: Path,
    device: str,
    threads: int | None = None,
    force: Collection[RunFolder] = (),
    download: bool = True,
    part: int = 1,
    stop: StopRequest,
    give_up: Callable[[RunFolder], bool] = lambda folder: False,
    sinks: Callable[[RunFolder], Sequence[Sink]] = lambda folder: (),
) -> dict[RunFolder, ExitCode]:
    """:func:`work`, or for several folders :func:`.stack.run_stack`, which says what is what.

    Raises:
        DeltaGClipError: a single trial failed; of several, each one's error is logged.
    """
    options: dict[str, Any] = {"data_dir": data_dir, "device": device, "threads": threads}
    options |= {"download": download, "part": part, "stop": stop}
    first, *others = folders
    if others:
        from deltagclip_cli.training.stack import run_stack  # which few trials need

        return run_stack(folders, **options, force=force, give_up=give_up, sinks=sinks)
    ask = partial(give_up, first)
    code = work(first, **options, force=first in force, give_up=ask, sinks=sinks(first))
    return {first: code}


@contextmanager
def _refusals_recorded(held: HeldFolder) -> Iterator[None]:
    """Write down why a training could not begin.

    Of one that began a file tells already, even if the disk was too full to say more in it.
    """
    folder = held.folder
    try:
        yield
    except ClaimedError:
        raise
    except DeltaGClipError as error:
        if not (folder.error_file.exists() or folder.stopped_file.exists()):
            if is_disk_full(error):
                held.record_stop("the disk is full")
            elif isinstance(error, LostDeviceError):
                held.record_stop(error.reason)
            else:
                held.record_failure(error, str(error))
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
    sinks: Sequence[Sink] = (),
    should_stop: Callable[[], bool],
    member: Member | None = None,
    rendezvous: Rendezvous | None = None,
) -> Ending:
    """Train ``trial`` in ``folder``, continuing it if there is a checkpoint.

    Everything that can be checked is checked before the folder is made. From then on the folder
    belongs to this process, until it ends or another takes it over.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: of the CPU, for a trial that was never begun; any other keeps its own. None for as
            many as usual.
        held: the same folder, if this process holds it already.
        force: delete what is there and start again, once nothing speaks against it.
        sinks: are told of it beside those of the table.
        member: the trial's, of the stack that it trains in. Without one, a trial that wants a stack
            has one to itself.
        rendezvous: of this process among those that train the trial, if another has started it.

    Raises:
        UsageError: the data, the device or the folder cannot be used.
        ClaimedError: another process works in the folder, or has taken it over.
        TrialError: the trial failed; ``error.txt`` says why, with the traceback.
    """
    if trial.stack is not None and member is None:
        from deltagclip_cli.training.stack import alone  # which few trials need

        job = partial(
            run_trial,
            folder,
            trial,
            data_dir=data_dir,
            device=device,
            threads=threads,
            held=held,
            force=force,
            download=download,
            sinks=sinks,
            should_stop=should_stop,
        )
        return alone(trial, folder, find_device(device), job, afresh=force)
    started = time.perf_counter()
    logger.info("%s · %s · seed %d → %s", trial.experiment, trial.label, trial.seed, folder.path)
    if not force:
        folder.check_files()
    where = find_device(device, 0 if rendezvous is None else rendezvous.rank % trial.devices)
    starts = [] if force else read_starts(folder)
    torch.set_num_threads(decided_threads(starts, threads))
    loaded = None
    if member is not None:
        loaded = member.load(trial, data_dir, where, download=download)
    assembled = partial(assemble, trial, data_dir, where, download=download, loaded=loaded)
    try:
        parts = assembled(inexact=dict.fromkeys(inexact_of(starts), ""))
    except RuntimeError as error:
        is_lost = is_device_lost(error)
        if not is_lost and not isinstance(error, torch.OutOfMemoryError):
            raise
        kind = LostDeviceError if is_lost else TrialError
        raise kind(f"{folder.path}: the trial cannot start: {explained(error)}") from error
    with (
        hold(folder, make=True) if held is None else nullcontext(held) as mine,
        left_to_others(folder.log_file),
        _failures_recorded(mine, trial, force),
        logged_in(mine),
        _ranks(mine, trial, where, rendezvous, [data_dir, device, threads, download]) as ranks,
    ):
        # of another process, which was faster
        if (earlier := ranks.same(folder.result)) is not None:
            return Ending(earlier["status"])
        mine.remove_unfinished()
        starts = ranks.same(partial(read_starts, folder))
        torch.set_num_threads(decided_threads(starts, threads))
        train = partial(
            _train,
            mine,
            trial,
            device=where,
            threads=threads,
            sinks=sinks,
            should_stop=should_stop,
            started=started,
            member=member,
            ranks=ranks,
        )
        inexact = None
        try:
            ending = train(parts)
        except Exception as error:
            operation = inexact_operation(error)
            if operation is None:
                raise
            inexact = {operation: own_lines(error)}
        if inexact is not None:
            logger.warning(
                "The training has come to %s: it goes back to its last checkpoint, and allows it.",
                *inexact,
            )
            del parts  # whose memory the others need
            ending = train(assembled(inexact=inexact))
    if ending is Ending.STOPPED:
        logger.info("Stopped with a checkpoint. The same command continues in %s.", folder.path)
    return ending


def _train(
    held: HeldFolder,
    trial: Trial,
    parts: Parts,
    *,
    device: torch.device,
    threads: int | None,
    sinks: Sequence[Sink],
    should_stop: Callable[[], bool],
    started: float,
    member: Member | None,
    ranks: Ranks,
) -> Ending:
    """Train the parts of a trial from its last checkpoint on, and write its result at its end."""
    folder = held.folder
    starts = ranks.same(partial(read_starts, folder))
    if not {*parts.inexact} <= {*inexact_of(starts)}:
        lines = "".join(parts.inexact.values())
        logger.warning(inexactness([*parts.inexact], str(device), lines))
    if trial.precision == "bf16" and not starts and not has_bf16(device):
        logger.warning(
            "The %s has no instructions for bf16: it takes several times as long as with "
            "--set precision=fp32.",
            "processor" if device.type == "cpu" else "GPU",
        )
    checkpoints = Checkpoints(held, trial.identity)
    state, records = ranks.same(checkpoints.where_to_continue)
    parts = ranks.spread(trial, parts)
    saving = ranks.saving(checkpoints.beside(device), held)
    recording = make_recording(held, sinks, saving.save, rank=ranks.number)
    if member is None:
        make_program = ranks.program(partial(chosen_program, trial, parts, program_of(starts)))
    else:
        make_program = member.make_program
    trainer = Trainer(trial, parts, recording, should_stop, make_program)
    conditions = {} if member is None else dict(member.conditions)
    conditions |= {"data": parts.fingerprint, **ranks.conditions}
    if parts.inexact:
        conditions["inexact"] = [*parts.inexact]
    record_start(held, device, trainer.program.name, threads, conditions)
    result: dict[str, Any] | None = None
    try:
        step = 0 if state is None else state["step"]
        if member is not None:
            member.begin(step, partial(amend_start, held))
        recording.begin(Beginning(trial, str(device), trainer.course, step, records))
        if state is not None:
            trainer.load_state_dict(ranks.loaded(state, folder))
        ending = trainer.train()
        saving.wait()
        recording.sync()
        if ending is not Ending.STOPPED:
            # The others do not read what the first one may not have brought to their disk yet.
            result = ranks.same(lambda: result_of(trainer, ending, folder.metrics(), started))
    finally:
        saving.close()
        parts.close()  # before the folder is given back, which its processes have open
        recording.end(result)
    if result is not None:
        text = json.dumps(result, indent=1, allow_nan=False) + "\n"
        held.write(folder.result_file, text)
        with suppress(OSError):  # they only take room, and deltagclip clean removes them, too
            held.remove_leftovers(keep_last=trial.checkpoint.keep == "last")
    return ending


def _ranks(
    held: HeldFolder,
    trial: Trial,
    device: torch.device,
    rendezvous: Rendezvous | None,
    options: Sequence[Any],
) -> AbstractContextManager[Ranks]:
    """Meet the other processes that train a trial, if there may be any."""
    if not trial.is_shared:
        return nullcontext(Ranks())
    from deltagclip_cli.training.ranks.process_group import process_group  # which few trials need

    return process_group(held, trial, device, rendezvous, options)


@contextmanager
def _failures_recorded(held: HeldFolder, trial: Trial, force: bool) -> Iterator[None]:
    """Own the folder of a trial, and write down why a training there ended with an error.

    What is not its fault only interrupts it.
    """
    folder = held.folder
    if force:
        held.clear()
    held.keep(trial)
    try:
        held.take()
        held.forget_reasons()
        yield
    except TakenOverError:
        raise
    except UsageError as error:
        held.record_failure(error, str(error))
        raise
    except (Exception, SystemExit) as error:  # as of code of one's own that ends the process
        is_full = is_disk_full(error)
        reason = explained(error) if is_full or folder.path.exists() else _REMOVED
        if is_full:
            held.record_stop(reason)
            raise FullDiskError(f"{folder.path}: the trial was interrupted: {reason}") from error
        if is_device_lost(error) or isinstance(error, RankLostError):
            held.record_stop(reason)
            kind = type(error) if isinstance(error, RankLostError) else LostDeviceError
            raise kind(f"{folder.path}: the trial was interrupted: {reason}") from error
        held.record_failure(error, reason)
        raise TrialError(f"{folder.path}: the trial failed: {reason}") from error


# CUDA's words for a device, or for MPS on it, that is no more; of a broken kernel it has others.
_LOST_WORDS = (
    "uncorrectable ECC error",
    "uncorrectable NVLink error",
    "no CUDA-capable device is detected",
    "busy or unavailable",
    "GPU is lost",
    "hardware stack error",
    "system not yet initialized",
    "unknown error",
    "MPS client",
    "MPS server",
)


def is_device_lost(error: BaseException) -> bool:
    """Return whether an error says that a GPU cannot be used any more, whoever uses it."""
    words = str(error)
    is_cuda = isinstance(error, RuntimeError) and "CUDA" in words
    return is_cuda and any(each in words for each in _LOST_WORDS)


def explained(error: BaseException) -> str:
    """Return why a trial failed, or was interrupted, and what to do."""
    if isinstance(error, RankLostError):
        return f"{error}\n  The same command continues."
    if isinstance(error, RankFailedError):
        return f"{error.reason}\n  The traceback is in error.txt there."
    if is_device_lost(error):
        return (
            f"{LostDeviceError.reason}: {str(error).strip().splitlines()[0]}\n"
            "  Look at nvidia-smi, and for Xid in the kernel's log. The same command continues, "
            "on another GPU too."
        )
    if isinstance(error, torch.OutOfMemoryError):
        return "the GPU's memory is full.\n  Use a smaller data.batch_size, or precision: bf16."
    if isinstance(error, MemoryError) or "DefaultCPUAllocator: can't allocate" in str(error):
        return "the memory of this machine is full.\n  Use a smaller data.batch_size."
    if is_disk_full(error):
        return "the disk is full.\n  Free space and run the same command again: it continues."
    if _OF_SHARDS.search(str(error)):
        words = str(error).strip().splitlines()[0]
        return (
            f"torch lacks an operation on tensors that parallel: fsdp has divided: {words}\n"
            "  Write parallel: ddp, or change the optimizer or the network; the traceback in "
            "error.txt there says whose operation it is."
        )
    return (
        f"{type(error).__name__}: {stopped(error)}\n"
        "  The traceback is in error.txt there. The same command tries again."
    )
