"""The launcher that starts workers on this machine, one for each slot."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import DeltaGClipError, DeviceError, UsageError
from deltagclip_cli.launch.forkserver import Fork, ForkServer
from deltagclip_cli.launch.launcher import StayingLauncher
from deltagclip_cli.launch.slots import Slot, devices_of
from deltagclip_cli.launch.supervisor import Queue, Supervisor
from deltagclip_cli.runs.environment import THREADS
from deltagclip_cli.spec.trial import distinct_inputs

if TYPE_CHECKING:
    from deltagclip_cli.launch.sweep_view import QuietView
    from deltagclip_cli.plan.planned import Unit
    from deltagclip_cli.spec.data_settings import Data
    from deltagclip_cli.spec.trial import Trial

logger = logging.getLogger(__name__)

CONTROL_GROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # Linux's, of containers and batch jobs
_PATIENCE_SECONDS = 60.0  # with a GPU that is asked whether it still computes
DEVICES = Path("/dev")
_IS_GPU = re.compile(r"\d+$|GPU-|MIG-")
MOST_DEFAULT_JOBS = 8  # each holds a copy of torch and of the data


class LocalLauncher(StayingLauncher):
    """Runs each trial, or each stack of trials, in a worker process of its own."""

    takes = StayingLauncher.takes | {"jobs", "gpus", "trials_per_gpu"}

    @cached_property
    def runner(self) -> LocalRunner:
        asked = self.request
        return LocalRunner(
            asked.data,
            self.stop,
            jobs=asked.jobs,
            gpus=asked.gpus,
            trials_per_gpu=asked.trials_per_gpu,
            threads=asked.threads,
            fail_fast=asked.fail_fast,
        )


@dataclass
class LocalRunner:
    """Runs each unit in a worker process of its own, as many at a time as there are slots."""

    data_dir: Path
    should_stop: Callable[[], bool]  # when it says yes, trials are stopped with a checkpoint
    _: KW_ONLY
    jobs: int | None = None  # this and the next three as find_slots takes them
    gpus: str | None = None
    trials_per_gpu: int | None = 1  # None for as many as fit, which prepare() finds out
    threads: int | None = None
    local_data: Path | None = None  # a folder of this machine to copy data to, and to read there
    fail_fast: bool = False
    download: bool = True
    _environment: Mapping[str, str] = field(default_factory=dict, init=False)  # for workers

    @cached_property
    def slots(self) -> Sequence[Slot]:
        """The GPUs, shares of them, or shares of the CPU."""
        threads = self.threads or THREADS
        return find_slots(self.jobs, self.gpus, self.trials_per_gpu, threads)

    @cached_property
    def _server(self) -> ForkServer:
        return ForkServer()

    def prepare(self, trials: Sequence[Trial]) -> None:
        """Load every data set once, which downloads, copies and decodes what is not there yet.

        Find out how many trials a GPU has room for, if that was left open.
        """
        distinct = distinct_inputs(trials)
        if self.local_data is not None:
            logger.info("copying data to %s", self.local_data)
            data = [each.data for each in distinct]
            self.call(_copy, data, self.data_dir, self.local_data)
        for each in distinct:
            self.call(_load, each, self._data_dir, self.download)
        if self.trials_per_gpu is None:
            self.trials_per_gpu = self._trials_that_fit(trials)
            del self.slots

    def _trials_that_fit(self, trials: Sequence[Trial]) -> int:
        """Measure how many trials each GPU has room for; more than cores or trials are no use."""
        from deltagclip_cli.launch.capacity import kinds, measure
        from deltagclip_cli.launch.mps import MOST_CLIENTS

        gpus = [slot.device for slot in self.slots if slot.device != "cpu"]
        trials = [each for each in trials if each.ranks == 1]  # others have whole GPUs
        limits = [available_cores() // max(1, len(gpus)), -(-len(trials) // max(1, len(gpus)))]
        most = max(1, min(*limits, MOST_CLIENTS))
        if not gpus or most == 1:
            return 1
        try:
            memory = self.call(measure, kinds(trials), self._data_dir, gpus)
        except DeltaGClipError as error:
            reason = str(error).partition("\n")[0]
            logger.warning("One trial has each GPU: how much it takes is not known (%s).", reason)
            return 1
        if memory is None:  # asked to stop
            return 1
        logger.info(
            "%d at a time on each GPU: one takes up to %.1f GB there, %.1f GB are free.",
            min(memory.trials, most),
            memory.needed / 1e9,
            memory.free / 1e9,
        )
        return int(min(memory.trials, most))

    @property
    def _data_dir(self) -> Path:
        return self.local_data or self.data_dir

    def call(
        self,
        function: Callable[..., Any],
        *arguments: object,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Any:
        """Call a function in a process that has loaded torch; None if asked to stop."""
        asked = self.should_stop
        if asked():
            return None
        self._server.open()
        return self._server.call(function, *arguments, should_stop=lambda: asked() or should_stop())

    def run(self, queue: Queue, watcher: QuietView) -> None:
        with self._sharing() as self._environment:
            Supervisor(
                queue,
                self.slots,
                self._start,
                watcher,
                self.should_stop,
                fail_fast=self.fail_fast,
                answers=self._answers,
            ).run()

    def _sharing(self) -> AbstractContextManager[Mapping[str, str]]:
        """Let processes that share a GPU use it at once; gives what they need in their environment.

        It comes before the first of them: what began without it would keep the others out.
        """
        devices = [slot.device for slot in self.slots if slot.device != "cpu"]
        if len(set(devices)) == len(devices):
            return nullcontext({})
        from deltagclip_cli.launch.mps import mps

        return mps()

    def _answers(self, slot: Slot) -> bool:
        """Look whether the device of a slot can still be used, by a process of its own."""
        end = time.monotonic() + _PATIENCE_SECONDS
        try:
            return bool(
                self.call(
                    _compute,
                    slot.device,
                    self._environment,
                    should_stop=lambda: time.monotonic() > end,
                )
            )
        except DeltaGClipError:
            return False

    def _start(self, unit: Unit, slot: Slot) -> Fork:
        paths = [str(each.folder.path) for each in unit]
        words = ["worker", *(f"./{each}" if each[0] == "-" else each for each in paths)]
        words += ["--data", str(self._data_dir), "--device", slot.device]
        chosen = {"CUDA_VISIBLE_DEVICES": _visible(slot)} if slot.device == "cuda" else {}
        words += ["--threads", str(self.threads)] if self.threads else []
        words += ["--force"] if unit[0].afresh else []
        words += ["--part", str(unit[0].part)] if unit[0].part > 1 else []
        words += [] if self.download else ["--no-download"]
        environment = {**self._environment, **chosen}
        return self._server.start(words, unit[0].folder.log_file, environment)


def _visible(slot: Slot) -> str:
    """Return the CUDA_VISIBLE_DEVICES of a trial that has some of those GPUs that are visible."""
    there = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    numbers = [each.removeprefix("cuda:") for each in devices_of(slot.parts)]
    return ",".join(there[int(each)] if any(there) else each for each in numbers)


def _copy(data: Sequence[Data], source: Path, target: Path) -> None:
    from deltagclip_cli.parts.datasets.staging import copied

    copied(data, source, target)


def _compute(device: str, environment: Mapping[str, str]) -> bool:
    """Compute something on a device."""
    os.environ.update(environment)
    import torch

    return float(torch.ones(2, device=device).sum()) == 2.0


def _load(trial: Trial, data_dir: Path, download: bool) -> None:
    from deltagclip_cli.training.loaded import load_dataset

    try:
        load_dataset(trial.data, data_dir, model=trial.model, download=download)
    except UsageError as error:
        raise UsageError(f"data {trial.data.name}: {error}\n  Nothing was started.") from None


def find_slots(
    jobs: int | None, gpus: str | None, trials_per_gpu: int | None, threads: int = THREADS
) -> list[Slot]:
    """Find the slots that were asked for: one for each GPU; without any, what cores allow.

    Args:
        jobs: trials at a time on the CPU; None to look for GPUs first.
        gpus: ``all``, or numbers such as ``0,2`` as torch counts them; None for all there are.
        trials_per_gpu: how many trials, or stacks, share one GPU; None for one as long as nobody
            knows how many fit, and for none where there is no GPU.
    """
    if jobs is not None and (gpus is not None or trials_per_gpu != 1):
        raise DeviceError(
            "--jobs: trials run on the CPU or on GPUs, not on both in one sweep.\n"
            "  Leave out --jobs, or --gpus and --trials-per-gpu."
        )
    if jobs is not None:
        return _cpu_slots(jobs)
    there, shares = count_gpus(), trials_per_gpu or 1
    if gpus is None and not there and shares == 1:
        return _cpu_slots(max(1, min(available_cores() // threads, MOST_DEFAULT_JOBS)))
    chosen = _chosen_gpus("all" if gpus is None else gpus, there)
    if shares == 1:
        return [Slot(f"cuda:{gpu}", f"cuda:{gpu}") for gpu in chosen]
    # One on each GPU before a second on any: a sweep shorter than its slots spreads out.
    places = [(share, gpu) for share in range(shares) for gpu in chosen]
    return [Slot(f"cuda:{gpu} {share}", f"cuda:{gpu}") for share, gpu in places]


def _cpu_slots(jobs: int) -> list[Slot]:
    return [Slot(f"cpu {number}", "cpu") for number in range(jobs)]


def _chosen_gpus(gpus: str, there: int) -> list[int]:
    if gpus == "all":
        chosen = list(range(there))
    else:
        words = gpus.split(",")
        if not all(word.strip().isdecimal() for word in words):
            raise DeviceError(f"--gpus {gpus}: expected 'all', or numbers such as 0,2.")
        chosen = list(dict.fromkeys(int(word) for word in words))
    if not chosen or max(chosen) >= there:
        raise DeviceError(
            f"--gpus {gpus}: GPUs visible here: {there or 'none'}.\n"
            "  Check nvidia-smi and CUDA_VISIBLE_DEVICES, or use --jobs N to train on the CPU."
        )
    return chosen


def count_gpus() -> int:
    """Count the GPUs that torch would see, by the driver: torch takes seconds to load."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        words = (word.strip() for word in visible.split(","))
        return sum(1 for _ in takewhile(_IS_GPU.match, words))  # CUDA reads no further either
    program = shutil.which("nvidia-smi")
    if program is None:  # a container may have the GPUs alone
        return sum(1 for each in DEVICES.glob("nvidia[0-9]*") if each.name[6:].isdecimal())
    try:
        done = subprocess.run(
            [program, "-L"], capture_output=True, text=True, errors="replace", timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    return sum(line.startswith("GPU ") for line in lines)


def available_cores() -> int:
    """Count the cores that its affinity, container and batch job allow this process."""
    has_affinity = hasattr(os, "sched_getaffinity")
    limits = [len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1]
    with suppress(OSError, ValueError):  # no such file, or "max"
        quota, period = CONTROL_GROUP_LIMIT.read_text().split()
        limits.append(int(quota) // int(period))
    share = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE", "")
    if share.isdecimal() and int(
        share
    ):  # what Slurm gave to this job, which not every cluster enforces
        limits.append(int(share))
    return max(1, min(limits))
