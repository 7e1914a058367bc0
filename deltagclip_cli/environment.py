"""Where and with what a trial ran: enough to explain a number that will not come out again."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from pydantic_core import from_json

from deltagclip_cli import __version__
from deltagclip_cli.files import Check, read_file, unchecked, write_text
from deltagclip_cli.run_folder import RunFolder

_PACKAGES = ("torch", "torchvision", "numpy", "tensorboard", "transformers", "tokenizers")


def describe(device: torch.device) -> dict[str, Any]:
    """Versions, git state, device, host, SLURM ids and command line of this process.

    Of the environment variables only SLURM's ids are taken, and of git not the remote's address:
    both may hold secrets.
    """
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "folder": os.getcwd(),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "deltagclip_cli": __version__,
        "packages": {name: _version(name) for name in _PACKAGES},
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "device": _device_name(device),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "git": _git_state(),
        "slurm": {k: v for k, v in os.environ.items() if k.startswith("SLURM_") and "ID" in k},
    }


def record_start(folder: RunFolder, device: torch.device, check: Check = unchecked) -> None:
    """Add an entry for this start to ``environment.json``, a list with the oldest start first."""
    starts = [*_earlier_starts(folder), describe(device)]
    write_text(folder.environment_file, json.dumps(starts, indent=1) + "\n", check)


def _earlier_starts(folder: RunFolder) -> list[Any]:
    try:
        starts = from_json(read_file(folder.environment_file))
    except (OSError, ValueError):
        return []
    return starts if isinstance(starts, list) else []


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} {torch.cuda.get_device_name(device)}"
    return f"{device} {platform.processor() or platform.machine()}"


def _git_state() -> dict[str, Any] | None:
    """Commit and dirtiness of the repository around the working folder; None outside of one."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        capture_output=True,
        text=True,
        errors="replace",  # git status shows names of files
        check=True,
        timeout=10,
    )
    return done.stdout.strip()
