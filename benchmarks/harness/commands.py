"""Whole commands, run as users run them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

IMPORT_TORCH = [sys.executable, "-c", "import torch"]
"""The yardstick for what must not need torch."""

_PROGRAM = """
import sys
from deltagclip_cli.commands.app import app
sys.argv[0] = "deltagclip"
try:
    app()
finally:
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    print(status["VmHWM"].split()[0], file=sys.stderr)
"""


def deltagclip(*words: str) -> list[str]:
    """The words that run a command of ours."""
    return [sys.executable, "-m", "deltagclip_cli", *words]


def command(words: list[str], folder: Path | None = None) -> Callable[[], object]:
    """A contender that runs a program to its end."""

    def run() -> None:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{words} ended with {done.returncode}\n{done.stderr}")

    return run


def seconds_and_megabytes(*words: str) -> tuple[float, float]:
    """The time of a command of ours from its start to its end, and its memory at its peak."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *words], check=True, capture_output=True, text=True
    )
    return time.perf_counter() - begin, int(done.stderr.split()[-1]) / 1000
