"""Slots: the shares of a machine that one trial at a time runs on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from deltagclip_cli.core import DeviceError
from deltagclip_cli.runs.environment import THREADS

CONTROL_GROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # Linux's, of containers and batch jobs
_IS_GPU = re.compile(r"\d+$|GPU-|MIG-")
MOST_DEFAULT_JOBS = 8  # each holds a copy of torch and of the data


@dataclass(frozen=True)
class Slot:
    """A place for one trial at a time; ``device`` is the worker's ``--device``."""

    name: str
    device: str


def find_slots(
    jobs: int | None, gpus: str | None, trials_per_gpu: int, threads: int = THREADS
) -> list[Slot]:
    """Find the slots that were asked for: one for each GPU; without any, what cores allow.

    Args:
        jobs: trials at a time on the CPU; None to look for GPUs first.
        gpus: ``all``, or numbers such as ``0,2`` as torch counts them; None for all there are.
        trials_per_gpu: how many share one GPU.
        threads: of the CPU that each trial has.

    Raises:
        DeviceError: there is no such GPU, or CPU and GPUs were both asked for.
    """
    if jobs is not None and (gpus is not None or trials_per_gpu > 1):
        raise DeviceError(
            "--jobs: trials run on the CPU or on GPUs, not on both in one sweep.\n"
            "  Leave out --jobs, or --gpus and --trials-per-gpu."
        )
    if jobs is not None:
        return _cpu_slots(jobs)
    there = count_gpus()
    if gpus is None and not there and trials_per_gpu == 1:
        return _cpu_slots(max(1, min(available_cores() // threads, MOST_DEFAULT_JOBS)))
    chosen = _chosen_gpus("all" if gpus is None else gpus, there)
    if trials_per_gpu == 1:
        return [Slot(f"cuda:{gpu}", f"cuda:{gpu}") for gpu in chosen]
    # One on each GPU before a second on any: a sweep shorter than its slots spreads out.
    shares = [(share, gpu) for share in range(trials_per_gpu) for gpu in chosen]
    return [Slot(f"cuda:{gpu} {share}", f"cuda:{gpu}") for share, gpu in shares]


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
    if program is None:
        return 0
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
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min(cores, _container_limit() or cores, _share_of_job() or cores))


def _share_of_job() -> int | None:
    """Return the cores that Slurm gave to this job, which not every cluster enforces."""
    words = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE", "")
    return int(words) if words.isdecimal() else None


def _container_limit() -> int | None:
    try:
        quota, period = CONTROL_GROUP_LIMIT.read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no such file, or "max"
        return None
