"""The processes of one trial: how they are started, meet, are watched, and end.

The process that a launcher starts is the first rank. It starts the others of its node, and through
``srun`` one process on each other node of its Slurm allocation, which starts those of that one.
They meet at a store of torch's in the first, on whatever port is free there. Only the first one
holds the run folder, listens to Ctrl-C, and says how the trial ended; the others end with it.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
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
    RankFailedError,
    RankLostError,
    UsageError,
    plural,
)
from deltagclip_cli.runs.allocation import allocation_for
from deltagclip_cli.training.ranks import Ranks
from deltagclip_cli.training.ranks.several import OtherRankError, Several, is_of_others

if TYPE_CHECKING:
    from deltagclip_cli.runs.hold import HeldFolder
    from deltagclip_cli.spec.trial import Trial

logger = logging.getLogger(__name__)

PERIOD_SECONDS = 2.0
SILENT_SECONDS = 30.0  # of a process that tells nothing at all: it is stopped, or its node is gone
BEHIND_SECONDS = 50.0  # of one for which the others wait
_ENDING_SECONDS = 20.0
_TOLD_SECONDS = 5.0  # until it is known why the others could not be reached
_ENDLESS = timedelta(days=30)  # who waits too long is found out by the watch
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Rendezvous:
    """The rank of a process, and where it meets the others of its trial.

    Attributes:
        leads: whether it starts the others of its node.
    """

    rank: int
    host: str
    port: int
    leads: bool = True

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
        store = Rendezvous(0, host, 0).store(is_master=True)
        rendezvous = Rendezvous(0, host, store.port)
    else:
        store = rendezvous.store()
    children = _Children(held.folder.path, trial, rendezvous, options)
    watch = Watch(rendezvous, trial, children)
    try:
        children.start()
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


class Watch:
    """Looks whether the others still come along, and tells them that this process does.

    A process that waits for another hears nothing of its end, or not for long. So a thread looks;
    when one is lost, it says so, and ends the children, which frees whoever waits for them.
    """

    def __init__(self, rendezvous: Rendezvous, trial: Trial, children: _Children) -> None:
        self._rendezvous, self._count, self._devices = rendezvous, trial.ranks, trial.devices
        self._children = children
        self._arrivals = 0
        self._is_over = threading.Event()
        self._found = threading.Event()
        self._looked, self._clock = time.monotonic(), 0.0
        self._lost = ""  # which rank, and what became of it
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def arrive(self) -> None:
        """Take notice that this process has come as far as to wait for the others."""
        self._arrivals += 1

    def meet(self, store: TCPStore) -> None:
        """Wait until all are there, and begin to watch them; raise if one cannot come."""
        mine = f"process {os.getpid()} on {socket.gethostname()}"
        store.set(f"who/{self._rendezvous.rank}", mine)
        everyone = [f"who/{number}" for number in range(self._count)]
        while not store.check(everyone):
            if store.check(["failed"]) or (lost := self._children.lost()):
                self._lost = lost if not store.check(["failed"]) else "another rank has failed"
                self._found.set()
                raise RankLostError(self._lost)
            time.sleep(0.05)
        self._store = store
        self._who = [store.get(each).decode() for each in everyone]
        self._thread.start()

    def end(self) -> None:
        """Watch no more."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()

    def explain(self, error: Exception) -> None:
        """Raise why another rank has made this one fail, if one has."""
        is_meeting = isinstance(error, RankLostError)
        if not is_meeting and not is_of_others(error):
            return
        self._wait_until_it_is_known()
        with suppress(RuntimeError):
            store = self._rendezvous.store()
            until = time.monotonic() + 1
            while not store.check(["failed"]) and time.monotonic() < until:
                time.sleep(0.05)
            if store.check(["failed"]):
                told = json.loads(store.get("failed"))
                said = f"rank {told['rank']} ({told['who']}): {told['reason']}"
                if told["kind"] == "usage":
                    raise UsageError(said) from error
                if told["kind"] == "lost":
                    raise RankLostError(said) from error
                raise RankFailedError(said, told["traceback"]) from error
        if not is_meeting:
            kind = LostNodeError if LostNodeError.reason in self._lost else RankLostError
            raise kind(self._lost or "another rank has ended") from error

    def _wait_until_it_is_known(self) -> None:
        """Wait until it is found which rank is lost, or one has said that it failed.

        Of one whose node is gone nothing tells but its silence.
        """
        are_far = self._count > self._devices
        until = time.monotonic() + _TOLD_SECONDS + (SILENT_SECONDS if are_far else 0)
        with suppress(RuntimeError):
            store = self._rendezvous.store()
            while time.monotonic() < until:
                if self._found.wait(0.1) or store.check(["failed"]):
                    return

    def _run(self) -> None:
        """Look again and again."""
        number, tick = self._rendezvous.rank, 0
        seen: dict[int, tuple[bytes, float]] = {}
        moved: dict[int, tuple[int, float]] = {}
        try:
            store = self._rendezvous.store()
            while not self._is_over.wait(PERIOD_SECONDS if tick else 0):
                tick += 1
                store.set(f"beat/{number}", f"{tick} {self._arrivals}")
                # It is there; else whoever has the store hangs.
                store.wait([f"beat/{number}"], timedelta(seconds=SILENT_SECONDS))
                self._lost = self._children.lost() or self._behind(store, seen, moved)
                if self._lost:
                    break
        except (RuntimeError, dist.DistError):  # the first rank, whose store it is, has ended
            self._lost = "rank 0 has ended"
        if self._lost and not self._is_over.is_set():
            self._give_up()

    def _behind(
        self,
        store: TCPStore,
        seen: dict[int, tuple[bytes, float]],
        moved: dict[int, tuple[int, float]],
    ) -> str:
        """Say which rank hangs, if one does."""
        # A process that was halted itself, as Slurm does to suspend a job, has heard nobody.
        elapsed, self._looked = time.monotonic() - self._looked, time.monotonic()
        now = self._clock = self._clock + min(elapsed, 2 * PERIOD_SECONDS)
        for other in range(self._count):
            beat = store.get(f"beat/{other}") if store.check([f"beat/{other}"]) else b"0 0"
            arrivals = int(beat.split()[1])
            if seen.get(other, (b"", 0))[0] != beat:
                seen[other] = beat, now
            if moved.get(other, (-1, 0))[0] != arrivals:
                moved[other] = arrivals, now
        most = max(arrivals for arrivals, _ in moved.values())
        for other, (arrivals, since) in moved.items():
            who = f"rank {other} ({self._who[other]})"
            if other // self._devices != self._rendezvous.rank // self._devices:
                who = f"{LostNodeError.reason}: {who}"
            if now - seen[other][1] > SILENT_SECONDS:
                return f"{who} has told nothing for {SILENT_SECONDS:.0f} seconds"
            if arrivals < most and now - since > BEHIND_SECONDS:
                return f"{who} hangs: the others wait for it since {BEHIND_SECONDS:.0f} seconds"
        return ""

    def _give_up(self) -> None:
        """Say which rank is lost, and free whoever waits for it; else end this process."""
        self._found.set()
        if self._rendezvous.rank == 0:
            logger.warning("%s.", self._lost[0].upper() + self._lost[1:])
        self._children.kill()
        if not self._is_over.wait(_ENDING_SECONDS):
            os._exit(ExitCode.STOPPED)


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
    store = rendezvous.store()
    try:
        run_trial(
            folder,
            folder.trial_to_run(),
            data_dir=data_dir,
            device=device,
            threads=threads,
            held=WitnessedFolder(folder),
            download=download,
            should_stop=lambda: False,
            rendezvous=rendezvous,
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
    return ExitCode.OK
