"""``environment.json``: with what a trial was begun and gone on with; an entry for each start.

The identity of a trial says what is trained. What it is trained with is no part of it, for nobody
who moves to another machine wants another trial; but the bits of its numbers hang on it. It is kept
here, beside the identity: the number of threads is decided by the first start and never changes,
and of all else (:func:`circumstances`) readers say where it differs. Only a process that trains
calls :func:`describe`, and has loaded torch then.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json  # four times as fast as the standard library's

from deltagclip_cli import __version__
from deltagclip_cli.core import listed, plural, printable, read_file

if TYPE_CHECKING:
    import torch

    from deltagclip_cli.runs.folder import RunFolder
    from deltagclip_cli.runs.hold import HeldFolder

logger = logging.getLogger(__name__)

Start = Mapping[str, Any]
"""What ``environment.describe`` told when a process began to work on a trial."""

THREADS = 1
"""Of the CPU, for each trial, where ``--threads`` says nothing else: the same on every machine and
beside any number of other trials, so that the bits are the same. benchmarks/threads.py tells what
that costs a trial that has a machine to itself, and what two threads cost on one that is busy."""

MOST_THREADS = 1024

INEXACT = "inexact operations"
"""The name of the circumstance that tells which operations of a trial have no deterministic kernel;
starts without any do not have it."""


DEVICES = "devices"
"""The name of the circumstance that tells how many devices trained a trial together, and how;
starts on one device do not have it."""

WHERE_NOT_TOLD = {INEXACT: "none", DEVICES: "1"}
"""What circumstances are that starts do not have."""


def read_starts(folder: RunFolder) -> list[Start]:
    """Return the starts of a trial, oldest first; none if the file is missing or damaged."""
    try:
        starts = from_json(read_file(folder.environment_file))
    except (OSError, ValueError):
        return []
    return [each for each in starts if isinstance(each, dict)] if isinstance(starts, list) else []


def threads_of(starts: Sequence[Start]) -> int | None:
    """Return the threads of a trial; None if it was never begun, or if that cannot be read."""
    for start in reversed(starts):
        threads = start.get("threads")
        if type(threads) is int and 1 <= threads <= MOST_THREADS:
            return threads
    return None


def stack_of(starts: Sequence[Start], places: int) -> tuple[int, int] | None:
    """Return the place of a trial in a stack, and how many places were computed at once.

    None if it was never begun in a stack of so many places, or if that cannot be read.
    """
    for start in reversed(starts):
        told = start.get("stack")
        told = told if isinstance(told, dict) else {}
        place, at_once = told.get("place"), told.get("at_once")
        if type(place) is type(at_once) is int and 0 <= place < places and 1 <= at_once <= places:
            return place, at_once
    return None


def decided_threads(starts: Sequence[Start], wanted: int | None) -> int:
    """Return the threads that a trial is trained with: once it was begun, those that it has."""
    return threads_of(starts) or wanted or THREADS


def program_of(starts: Sequence[Start]) -> str | None:
    """Return what carries out the steps of a trial (``eager``, ``compiled``, ``captured``).

    None if it was never begun. Where nobody wrote it down, it was as torch does it.
    """
    for start in reversed(starts):
        program = start.get("program", "eager")
        if isinstance(program, str):
            return program
    return None


def inexact_of(starts: Sequence[Start]) -> list[str]:
    """Return the operations of a trial that are known to have no deterministic kernel."""
    found = [each.get("inexact") for each in starts]
    names = [name for each in found if isinstance(each, list) for name in each]
    return sorted({str(name) for name in names})


def inexactness(operations: Sequence[str], device: str, lines: str = "") -> str:
    """Say which operations have no deterministic kernel, what that means, and what to do.

    ``lines`` are those of a user's own code that say where, each behind a line break.
    """
    has, it = ("has", "It runs") if len(operations) == 1 else ("have", "They run")
    on_gpu = device.startswith("cuda")
    attention = " Attention takes its plain kernel, which is exact beside them and slower."
    return (
        f"{listed(operations)} {has} no deterministic kernel on a {'GPU' if on_gpu else 'CPU'}. "
        f"{it} all the same, so that a trial may have other numbers when it is run again."
        f"{attention if on_gpu else ''}{lines}\n"
        "  Use another operation for the same bits each time. If you need not have them, "
        "determinism: fast takes the fastest kernels of all."
    )


def circumstances(start: Start) -> dict[str, str]:
    """Return all that changes the bits of a trial's numbers, in words, as far as it is known.

    On a GPU, threads and processor change nothing.
    """
    device, packages = str(start.get("device") or ""), start.get("packages")
    packages = packages if isinstance(packages, dict) else {}
    if device.startswith("cuda"):
        device = re.sub(r"^cuda(:\d+)? ", "", device)  # which one of a kind is no matter
        parts = {"CUDA": start.get("cuda"), "cuDNN": start.get("cudnn")}
    else:
        device = device.partition(" ")[0].upper()  # what follows tells less than the processor
        parts = {"threads": start.get("threads"), "processor": start.get("processor")}
    told = {
        "device": device,
        "program": start.get("program", "eager"),
        **parts,
        "torch": packages.get("torch"),
        "transformers": packages.get("transformers"),
        "deltagclip_cli": start.get("deltagclip_cli"),
        "code": start.get("code"),
        "data": start.get("data"),
    }
    if inexact := inexact_of([start]):
        told[INEXACT] = " ".join(inexact)
    ranks = start.get("ranks")
    if isinstance(ranks, dict):
        told[DEVICES] = f"{ranks.get('count')} ({ranks.get('parallel')})"
    stack = start.get("stack")
    if isinstance(stack, dict) and stack.get("at_once") != stack.get("places"):
        told["stack"] = f"{stack.get('at_once')} of {stack.get('places')} at once"
    variables = start.get("variables")
    if isinstance(variables, dict):
        words = " ".join(f"{name}={value}" for name, value in variables.items())
        told["variables"] = words or "none"
    return {name: printable(str(value)) for name, value in told.items() if value}


def circumstances_of_all(starts: Sequence[Start]) -> dict[str, str]:
    """Return the circumstances of a trial: ``2.11, then 2.14`` where it went on in others."""
    found: dict[str, dict[str, None]] = {}
    told = [circumstances(start) for start in starts]
    for each in told:
        if any(DEVICES in other for other in told):
            each.setdefault(DEVICES, WHERE_NOT_TOLD[DEVICES])
        for name, word in each.items():
            found.setdefault(name, {})[word] = None
    return {name: ", then ".join(words) for name, words in found.items()}


_ROOMS = ("core", "source", "spec", "optim", "parts", "theory", "training")  # of what trains
_PACKAGES = ("torch", "torchvision", "numpy", "tensorboard", "transformers", "tokenizers")
_VARIABLES = (  # that make libraries compute otherwise
    "OMP_DYNAMIC",
    "OMP_THREAD_LIMIT",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)


def describe(device: torch.device, program: str = "eager") -> dict[str, Any]:
    """Return versions, git state, device, host, SLURM ids and command line of this process.

    Of the environment variables only SLURM's ids and those of numeric libraries are taken, and of
    git not the remote's address: both may hold secrets.
    """
    import torch

    folder, kind = None, platform.processor() or platform.machine()
    with suppress(FileNotFoundError):  # it was removed, which is no obstacle
        folder = os.getcwd()
    if device.type == "cuda":
        kind = torch.cuda.get_device_name(device)
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "folder": folder,
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "deltagclip_cli": __version__,
        "code": own_code(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "device": f"{device} {kind}",
        "program": program,
        "processor": f"{processor()} ({torch.backends.cpu.get_cpu_capability()})",
        "cpus": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "git": _git_state(),
        "slurm": {k: v for k, v in os.environ.items() if k.startswith("SLURM_") and "ID" in k},
    }


def record_start(
    held: HeldFolder,
    device: torch.device,
    program: str,
    threads: int | None = None,
    conditions: Mapping[str, Any] | None = None,
) -> None:
    """Add an entry for this start to ``environment.json``, a list with the oldest start first.

    Of whatever lets the trial go on otherwise than it was begun, or than was wished, such as with
    the ``threads`` that were asked for, the log tells. ``program`` is the name of what carries out
    its steps; ``conditions`` are kept beside it.
    """
    folder = held.folder
    earlier, now = read_starts(folder), {**describe(device, program), **(conditions or {})}
    if folder.checkpoint_file.exists():
        _tell_of_change(folder, earlier, now)
    if threads is not None and threads != now["threads"]:
        logger.warning(
            f"The trial keeps the {plural(now['threads'], 'thread')} that it was begun with, as "
            f"others give other bits; --force begins again with {threads}."
        )
    if ranks := now.get("ranks"):
        logger.info(f"Trains on {plural(ranks['count'], 'device')} ({ranks['parallel']}).")
    if device.type == "cpu":
        may_have_more = not (threads or earlier or ranks) and now["threads"] < now["cpus"]
        more = f"; --threads N takes more of the {now['cpus']} cores" if may_have_more else ""
        logger.info("Trains on the CPU with %s%s.", plural(now["threads"], "thread"), more)
    held.write(folder.environment_file, json.dumps([*earlier, now], indent=1) + "\n")


def amend_start(held: HeldFolder, conditions: Mapping[str, Any]) -> None:
    """Change what the last entry tells, where a trial goes on otherwise than it was begun."""
    file = held.folder.environment_file
    *earlier, now = read_starts(held.folder)
    held.write(file, json.dumps([*earlier, {**now, **conditions}], indent=1) + "\n")


def _tell_of_change(folder: RunFolder, earlier: Sequence[Start], now: Start) -> None:
    if threads_of(earlier) is None:
        logger.warning(
            f"{folder.environment_file} is missing or damaged, so that nobody knows how many "
            f"threads the trial was begun with; it goes on with {now['threads']}."
        )
        return
    before, here = ({DEVICES: "1", **circumstances(each)} for each in (earlier[-1], now))
    changed = [
        f"{name} {here[name]} ({before[name]} before)"
        for name in here
        if before.get(name, here[name]) != here[name]
    ]
    if changed:
        logger.warning(
            "Goes on with %s: its bits are no longer those of a trial that nothing interrupted.",
            ", ".join(changed),
        )


@cache
def own_code() -> str:
    """Return a mark of the code of this program that numbers hang on; an edit makes another."""
    package, digest = Path(__file__).parents[1], hashlib.sha256()
    for file in sorted(each for room in _ROOMS for each in (package / room).rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:8]


@cache
def _version(package: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(package)
    return None


def processor() -> str:
    """Return the model of the CPU."""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(errors="replace")
        if found := re.search(r"^model name\s*:(.*)", text, re.MULTILINE):
            return found[1].strip()
    return platform.processor() or platform.machine()


def _git_state() -> dict[str, Any] | None:
    """Return commit and dirtiness of the repository around the working folder, if there is one."""
    commit, dirty = None, False
    with suppress(OSError, subprocess.SubprocessError):
        for line in _git_status().splitlines():
            if line.startswith("# branch.oid "):
                commit = line.split()[-1]
            dirty = dirty or not line.startswith("#")
    return None if commit in (None, "(initial)") else {"commit": commit, "dirty": dirty}


def _git_status() -> str:
    return subprocess.run(
        ["git", "status", "--porcelain=v2", "--branch", "--no-ahead-behind"],
        capture_output=True,
        text=True,
        errors="replace",  # it shows names of files
        check=True,
        timeout=10,
    ).stdout
