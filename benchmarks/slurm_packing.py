"""Four small trials in one job against four jobs one after another, on a slot with two cores.

    python benchmarks/slurm_packing.py [--epochs 300] [--rounds 3]

Needs a Slurm that answers. Both are timed from the submission to the last result, so that what
Slurm itself takes to start its tasks counts on both sides.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe_machine
from rich.console import Console
from rich.table import Table

from deltagclip_cli.slurm.jobs import find_jobs

SPEC = """
experiments:
  small:
    model: {{name: mlp, hidden: [64]}}
    data: {{name: synthetic, size: 8, train: 2000, test: 500, batch_size: 50}}
    epochs: {epochs}
    checkpoint: {{epochs: 50}}
    seeds: [0, 1, 2, 3]
    optimizers: {{delta-gclip: {{name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}}}}
    slurm: {{cpus: 2, throttle: 1}}
"""


def seconds(folder: Path, epochs: int, *words: str) -> float:
    """From the submission to the last result; a slot is one task at a time."""
    (folder / "experiments.yaml").write_text(SPEC.format(epochs=epochs))
    command = [sys.executable, "-m", "deltagclip_cli", "sweep", "--launcher", "slurm", *words]
    begin = time.time()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    while find_jobs(folder / "runs").alive():
        time.sleep(1)
    results = list((folder / "runs").glob("*/*/*/result.json"))
    assert len(results) == 4, f"only {len(results)} of 4 trials were finished"
    return max(result.stat().st_mtime for result in results) - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ratios = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as packed, tempfile.TemporaryDirectory() as single:
            ours = seconds(Path(packed), options.epochs, "--pack", "4")
            rival = seconds(Path(single), options.epochs)
            ratios.append(rival / ours)
    console = Console()
    console.print(describe_machine())
    table = Table("4 trials", "throughput / 4 jobs, one after another")
    table.add_row("packed into one job", f"{statistics.median(ratios):.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
