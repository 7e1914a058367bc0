"""What figures are measured on, and of which state of the code."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from deltagclip_cli.runs.environment import processor

ROOT = Path(__file__).parents[2]
_PACKAGES = ("torch", "numpy", "transformers", "triton")


def describe_machine() -> str:
    """Processor or GPU, cores, and the versions that matter, in one line."""
    import torch

    here = machine("cuda" if torch.cuda.is_available() else "cpu")
    where = ", ".join([*([here["gpu"]] if "gpu" in here else []), here["processor"]])
    python, torch_version = versions()["python"], versions()["torch"]
    return f"{where}, {here['cores']} cores; Python {python}, torch {torch_version}"


def machine(device: str) -> dict[str, Any]:
    """The processor, its cores and memory, and the GPU if it is measured."""
    found: dict[str, Any] = {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
    }
    if device == "cuda":  # by the driver: who asks torch for it holds memory there from then on
        question = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        with suppress(OSError):
            said = subprocess.run(question, capture_output=True, text=True).stdout
            found["gpu"] = said.partition("\n")[0].strip()
    return found


def versions() -> dict[str, str]:
    """Of Python and of those packages that decide over speed, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> dict[str, Any] | None:
    """The commit that is checked out, and whether code was changed since; None elsewhere."""
    try:
        name, day = _git("show", "-s", "--format=%h %cs", "HEAD").split()
        changed = _git("status", "--porcelain", "--", "deltagclip_cli", "benchmarks/*.py")
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"name": name, "day": day, "changed": bool(changed)}


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
