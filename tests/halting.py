"""Halts processes, so that nothing of them runs any more."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

PATIENCE_SECONDS = 300.0  # the machine may be busy


def halt(pid: int) -> None:
    """Halt a process in the middle, and come back when it stands still, or has ended.

    The signal alone is not enough: each thread first comes to the end of what the system does for
    it, such as a write.
    """
    os.kill(pid, signal.SIGSTOP)
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_halted(pid):
        assert time.monotonic() < end, f"process {pid} does not halt"
        time.sleep(0.001)


def proceed(pid: int) -> None:
    """Let a halted process go on."""
    os.kill(pid, signal.SIGCONT)


def is_halted(pid: int) -> bool:
    """Whether every thread of a process has halted or ended."""
    return all(_state(thread) in "TtZX" for thread in Path(f"/proc/{pid}/task").glob("*/stat"))


def _state(stat: Path) -> str:
    with suppress(OSError):
        return stat.read_text().rpartition(") ")[2][0]
    return "X"
