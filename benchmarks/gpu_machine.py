"""Tells what a machine with a GPU has: devices, drivers, programs and packages.

python benchmarks/gpu_machine.py --records FILE --device cuda

What is asked of torch comes last, a line each, so that a torch that cannot be loaded, or that finds
no GPU, hides nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
PROGRAMS = ("nvidia-smi", "nvidia-cuda-mps-control", "g++", "gcc", "nvcc", "git")
OF_A_GPU = (
    "name", "driver_version", "memory.total", "memory.used", "compute_mode", "mig.mode.current",
    "persistence_mode", "power.limit", "clocks.max.sm", "pcie.link.gen.current",
)  # fmt: skip


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args()
    with options.records.open("a", encoding="utf-8") as records:
        for each in told(options.device):
            records.write(json.dumps(each, ensure_ascii=False, default=str) + "\n")
            records.flush()


def told(device: str) -> Iterator[dict[str, Any]]:
    yield {
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "free_disk_gb": round(shutil.disk_usage(PROJECT).free / 1e9, 1),
        "free_shm_gb": round(shutil.disk_usage("/dev/shm").free / 1e9, 1),
    }
    yield {"packages": packages()}
    yield {"programs": {name: shutil.which(name) for name in PROGRAMS}}
    variables = ("CUDA_", "NVIDIA_", "TORCH", "PYTORCH", "OMP_", "TRITON")
    yield {"variables": {k: v for k, v in os.environ.items() if k.startswith(variables)}}
    if device == "cuda":
        query = ["nvidia-smi", f"--query-gpu={','.join(OF_A_GPU)}", "--format=csv,noheader"]
        yield {"nvidia_smi": dict(zip(OF_A_GPU, said(query).split(", "), strict=False))}
    import torch

    yield {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "processor": torch.backends.cpu.get_cpu_capability(),
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        yield {
            "gpu": properties.name,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "memory_gb": round(properties.total_memory / 1e9, 1),
            "multiprocessors": properties.multi_processor_count,
            "free_gb": round(torch.cuda.mem_get_info(0)[0] / 1e9, 1),
        }


def packages() -> dict[str, str | None]:
    """The version of each package that the project needs; None for one that is missing."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: dict[str, str | None] = {}
    more = ["triton", "timm", "transformers", "pytest", "optuna", "greenlet"]
    for requirement in [*project["dependencies"], *more]:
        name = re.split(r"[\s<>=!~\[;]", requirement, maxsplit=1)[0]
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def said(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=15)
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return (done.stdout or done.stderr).strip()


if __name__ == "__main__":
    main()
