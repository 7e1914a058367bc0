"""For the scripts that are no benchmarks of the package yet."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.harness.machine import describe_machine as describe_machine


def torch_import_seconds() -> float:
    """What a new process needs to load torch: the yardstick for what must not need it."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - begin
