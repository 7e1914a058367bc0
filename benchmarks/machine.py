"""What a figure was measured on; printed beside every benchmark's table."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import torch


def describe_machine() -> str:
    """Processor or GPU, cores, and the versions that matter."""
    where = f"{_processor()}, {os.cpu_count()} cores"
    if torch.cuda.is_available():
        where = f"{torch.cuda.get_device_name()}, {where}"
    threads = f"{torch.get_num_threads()} threads"
    return f"{where}, {threads}; Python {platform.python_version()}, torch {torch.__version__}"


def torch_import_seconds() -> float:
    """What a new process needs to load torch: the yardstick for what must not need it."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - begin


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
