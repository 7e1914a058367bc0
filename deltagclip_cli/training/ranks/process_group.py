"""The processes of one trial: how they are started, meet, and end.

The process that a launcher starts is the first rank. It starts the others of its node, and through
``srun`` one process on each other node of its Slurm allocation, which starts those of that one.
They meet at a store of torch's in the first, on whatever port is free there. Only the first one
holds the run folder, listens to Ctrl-C, and says how the trial ended; the others end with it.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, TCPStore

from deltagclip_cli.core import (
    DeviceError,
    ExitCode,
    LostNodeError,
    UsageError,
    plural,
)
from deltagclip_cli.runs.allocation import allocation_for
from deltagclip_cli.training.ranks import Ranks
from deltagclip_cli.training.ranks.several import OtherRankError, Several, is_of_others
from deltagclip_cli.training.ranks.watch import Beats, Watch

if TYPE_CHECKING:
    from deltagclip_cli.runs.hold import HeldFolder
    from deltagclip_cli.spec.trial import Trial

_ENDING_SECONDS = 20.0
_ENDLESS = timedelta(days=30)  # who waits too long is found out by the watch
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Rendezvous:
    """The rank of a process, and where it meets the others of its trial.

    Attributes:
        leads: whether it starts the others of its node.
        beats: tell the others that it is there, from its start on.
    """

    rank: int
    host: str
    port: int
    leads: bool = True
    beats: Beats | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def store(self, *, is_master: bool = False) -> TCPStore:
        """Connect to the store where they meet, or make it."""
        return TCPStore(
            self.host, self.port, None, is_master, timedelta(seconds=300), wait_for_workers=False
        )


def rendezvous_at(address: str, rank: int | None, devices: int | None) -> Rendezvous:
    """Return the rendezvous of a process that another has started.

    Args:
        address: ``HOST:PORT``.
        rank: of the process; None if it is the first of a node.
        devices: of each node, for the first process of one. Slurm tells which node it is, and where
            it was started from.
    """
    host, _, port = address.rpartition(":")
    leads = rank is None
    if rank is None:
        assert devices is not None, "whoever starts it says one of both"
        rank = devices * (int(os.environ["SLURM_PROCID"]) + 1)
        host = os.environ.get("SLURM_LAUNCH_NODE_IPADDR", host)
    return Rendezvous(rank, host, int(port), leads)


@contextmanager
def process_group(
    held: HeldFolder,
    trial: Trial,
    device: torch.device,
    rendezvous: Rendezvous | None,
    options: Sequence[Any],
) -> Iterator[Ranks]:
    """Meet the other ranks of a trial, and part from them at the end.

    Args:
        device: of this process.
        rendezvous: of this process; None for the first, which makes the place to meet.
        options: those of :func:`~deltagclip_cli.training.worker.run_trial` that the others get:
            the folder of data, the device, the threads, and whether they may download.

    Raises:
        DeviceError: there are not so many devices, or nodes, here.
        RankLostError: another rank has ended, or hangs.
        RankFailedError: another rank has failed.
    """
    _check_devices(trial, device, is_first=rendezvous is None)
    # NCCL would end the process where another is lost, before the watch has said which.
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")
    if trial.nodes == 1 and sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if rendezvous is None:
        host = "localhost" if trial.nodes == 1 else socket.gethostname()
        place = Rendezvous(0, host, 0).store(is_master=True)
        rendezvous = Rendezvous(0, host, place.port)
    beats = rendezvous.beats or Beats(rendezvous, trial.ranks)
    children = _Children(held.folder.path, trial, rendezvous, options)
    watch = Watch(held, trial, rendezvous, children, beats)
    try:
        children.start()
        store = rendezvous.store()
        watch.meet(store)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=PrefixStore("group", store),
            rank=rendezvous.rank,
            world_size=trial.ranks,
            timeout=_ENDLESS,
        )
        try:
            ranks = _made(trial, device, watch)
            yield ranks
            ranks.part()
        except BaseException:
            if device.type == "cuda":  # to part in order, NCCL would wait for who waits for this
                with suppress(RuntimeError):
                    dist.distributed_c10d._abort_process_group()
            raise
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
    except OtherRankError:
        raise
    except Exception as error:
        watch.explain(error)
        raise
    finally:
        watch.end()
        beats.end()
        children.end()


def _made(trial: Trial, device: torch.device, watch: Watch) -> Several:
    if trial.parallel == "fsdp":
        from deltagclip_cli.training.ranks.shards import Shards

        ranks: Several = Shards(device, watch.arrive)
    else:
        from deltagclip_cli.training.ranks.replicas import Replicas

        ranks = Replicas(watch.arrive)
    from deltagclip_cli.runs.environment import own_code

    ranks.check_alike(
        {
            "trial": trial.identity,
            "version of the code": own_code(),
            "torch": torch.__version__,
            "kind of device": device.type,
        }
    )
    return ranks


def _check_devices(trial: Trial, device: torch.device, *, is_first: bool) -> None:
    if is_first and trial.devices > 1 and device.index is not None:
        raise DeviceError(
            f"--device {device} is one device, and devices is {trial.devices}.\n"
            "  Write --device cuda, and say by CUDA_VISIBLE_DEVICES which GPUs are used."
        )
    if device.type == "cuda" and trial.devices > torch.cuda.device_count():
        raise DeviceError(
            f"devices is {trial.devices}, but torch sees "
            f"{plural(torch.cuda.device_count(), 'CUDA device')} here.\n"
            "  Write fewer devices, or check nvidia-smi and CUDA_VISIBLE_DEVICES."
        )


class _Children:
    """The processes that one of a trial starts."""

    def __init__(
        self, folder: Path, trial: Trial, rendezvous: Rendezvous, options: Sequence[Any]
    ) -> None:
        self._rendezvous, self._trial = rendezvous, trial
        data, device, threads, download = options
        # Without -P, a file of the folder that is called like a module would be taken for it.
        self._words = [sys.executable, "-P", "-m", "deltagclip_cli", "worker", str(folder)]
        self._words += ["--data", str(data)]
        self._words += ["--device", device, "--rendezvous", str(rendezvous)]
        self._words += [] if threads is None else ["--threads", str(threads)]
        self._words += [] if download else ["--no-download"]
        self._started: dict[subprocess.Popen[bytes], str] = {}

    def start(self) -> None:
        """Start the other ranks of this node if this is its first, and if of all, of all nodes."""
        number, devices = self._rendezvous.rank, self._trial.devices
        if not self._rendezvous.leads:
            return
        for other in range(number + 1, number + devices):
            self._start([*self._words, "--rank", str(other)], f"rank {other}")
        if number == 0 and self._trial.nodes > 1:
            nodes = self._trial.nodes
            words = [*self._words, "--devices", str(devices)]
            command = allocation_for(nodes).on_others(nodes, words)
            self._start(command, f"{LostNodeError.reason}: the step on the other nodes")

    def _start(self, command: Sequence[str], name: str) -> None:
        # In a session of its own, for Ctrl-C is for the first rank alone. What it reads ends with
        # this process.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        )
        self._started[process] = name

    def lost(self) -> str:
        """Say which has ended otherwise than it should, if one has."""
        for process, name in self._started.items():
            code = process.poll()
            if code:
                how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
                return f"{name} (process {process.pid}) has ended with {how}"
        return ""

    def kill(self) -> None:
        """End all of them at once."""
        for process in self._started:
            with suppress(OSError):
                process.kill()

    def end(self) -> None:
        """Wait a while until they have ended, then end them."""
        until = time.monotonic() + (_ENDING_SECONDS if sys.exc_info()[0] is None else 0)
        for process in self._started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
        self.kill()
        for process in self._started:
            process.wait()


def attend(
    path: Path,
    rendezvous: Rendezvous,
    *,
    data_dir: Path,
    device: str,
    threads: int | None,
    download: bool,
) -> ExitCode:
    """Train the trial of a run folder together with the process that holds it."""
    from deltagclip_cli.runs.folder import RunFolder
    from deltagclip_cli.runs.hold import WitnessedFolder
    from deltagclip_cli.training.worker import explained, is_device_lost, run_trial

    if sys.platform == "linux":  # nobody would end it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if not rendezvous.leads and select.select([0], [], [], 0)[0]:
            return ExitCode.STOPPED  # whoever started it had ended before that
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(each, signal.SIG_IGN)  # the first one hears them, and tells the others
    warnings.simplefilter("ignore")  # the first one gives them
    folder = RunFolder(path)
    trial = folder.trial_to_run()
    beats = Beats(rendezvous, trial.ranks)
    store = rendezvous.store()
    try:
        run_trial(
            folder,
            trial,
            data_dir=data_dir,
            device=device,
            threads=threads,
            held=WitnessedFolder(folder),
            download=download,
            should_stop=lambda: False,
            rendezvous=replace(rendezvous, beats=beats),
        )
    except OtherRankError:
        return ExitCode.OK
    except BaseException as error:
        cause = error.__cause__ or error
        kind = "usage" if isinstance(cause, UsageError) else "failed"
        if is_device_lost(cause) or is_of_others(cause):
            kind = "lost"
        told = {
            "rank": rendezvous.rank,
            "who": f"process {os.getpid()} on {socket.gethostname()}",
            "kind": kind,
            "reason": str(cause) if kind == "usage" else explained(cause).partition("\n")[0],
            "traceback": "".join(traceback.format_exception(cause)),
        }
        with suppress(RuntimeError):
            if not (kind == "lost" and is_of_others(cause)):  # that is told by who is lost
                store.compare_set("failed", "", json.dumps(told))
        return ExitCode.FAILED
    finally:
        beats.end()
    return ExitCode.OK
