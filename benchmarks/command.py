"""The whole command, as a user runs it."""

from __future__ import annotations

import subprocess
import sys
import time

PROGRAM = """
import sys
from deltagclip_cli.commands.app import app
sys.argv[0] = "deltagclip"
try:
    app()
finally:
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    print(status["VmHWM"].split()[0], file=sys.stderr)
"""


def measured(*words: str) -> tuple[float, float]:
    """Seconds and peak memory (MB) of ``deltagclip`` with some words, from its start to its end."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], check=True, capture_output=True, text=True
    )
    return time.perf_counter() - begin, int(done.stderr.split()[-1]) / 1000
