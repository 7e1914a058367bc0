"""What a figure was measured on; printed beside every benchmark's table."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time

import torch

from deltagclip_cli.runs.environment import processor


def describe_machine() -> str:
    """Processor or GPU, cores, and the versions that matter."""
    where = f"{processor()}, {os.cpu_count()} cores"
    if torch.cuda.is_available():
        where = f"{torch.cuda.get_device_name()}, {where}"
    threads = f"{torch.get_num_threads()} threads"
    return f"{where}, {threads}; Python {platform.python_version()}, torch {torch.__version__}"


def torch_import_seconds() -> float:
    """What a new process needs to load torch: the yardstick for what must not need it."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - begin
