"""How a trial was begun and gone on with, as its ``environment.json`` tells: an entry a start.

The identity of a trial says what is trained. What it is trained with is no part of it, for nobody
who moves to another machine wants another trial; but the bits of its numbers hang on it. It is kept
here, beside the identity: the number of threads is decided by the first start and never changes,
and of all else (:func:`circumstances`) readers say where it differs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json  # four times as fast as the standard library's

from deltagclip_cli.core import printable, read_file
from deltagclip_cli.runs.folder import RunFolder

Start = Mapping[str, Any]
"""What ``environment.describe`` told when a process began to work on a trial."""

THREADS = 1
"""Of the CPU, for each trial, where ``--threads`` says nothing else: the same on every machine and
beside any number of other trials, so that the bits are the same. benchmarks/threads.py tells what
that costs a trial that has a machine to itself, and what two threads cost on one that is busy."""

MOST_THREADS = 1024


def read_starts(folder: RunFolder) -> list[Start]:
    """The starts of a trial, the oldest first; none if the file is missing or damaged."""
    try:
        starts = from_json(read_file(folder.environment_file))
    except (OSError, ValueError):
        return []
    return [each for each in starts if isinstance(each, dict)] if isinstance(starts, list) else []


def threads_of(starts: Sequence[Start]) -> int | None:
    """The threads that a trial has; None if it never was begun, or if that cannot be read."""
    for start in reversed(starts):
        threads = start.get("threads")
        if type(threads) is int and 1 <= threads <= MOST_THREADS:
            return threads
    return None


def decided_threads(starts: Sequence[Start], wanted: int | None) -> int:
    """The threads that a trial is trained with: once it was begun, those that it has."""
    return threads_of(starts) or wanted or THREADS


def circumstances(start: Start) -> dict[str, str]:
    """All that changes the bits of a trial's numbers, in words; nothing that nobody knows.

    On a GPU, threads and processor change nothing.
    """
    device = str(start.get("device") or "")
    packages = start.get("packages")
    packages = packages if isinstance(packages, dict) else {}
    on_gpu = device.startswith("cuda")
    if on_gpu:
        device = re.sub(r"^cuda(:\d+)? ", "", device)  # which one of a kind is no matter
        parts = {"CUDA": start.get("cuda"), "cuDNN": start.get("cudnn")}
    else:
        device = device.partition(" ")[0].upper()  # what follows tells less than the processor
        parts = {"threads": start.get("threads"), "processor": start.get("processor")}
    told = {
        "device": device,
        **parts,
        "torch": packages.get("torch"),
        "transformers": packages.get("transformers"),
        "deltagclip_cli": start.get("deltagclip_cli"),
        "variables": _joined(start.get("variables")),
    }
    return {name: printable(str(value)) for name, value in told.items() if value}


def circumstances_of_all(starts: Sequence[Start]) -> dict[str, str]:
    """The circumstances of a trial: ``2.11, then 2.14`` where it went on in others."""
    found: dict[str, dict[str, None]] = {}
    for start in starts:
        for name, word in circumstances(start).items():
            found.setdefault(name, {})[word] = None
    return {name: ", then ".join(words) for name, words in found.items()}


def _joined(variables: object) -> str:
    if not isinstance(variables, dict):
        return ""
    return " ".join(f"{name}={value}" for name, value in variables.items()) or "none"
