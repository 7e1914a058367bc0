"""5,000 trials handed to Slurm, shown and taken back, against Slurm's own commands.

    python benchmarks/slurm_submission.py [--trials 5000]

Needs a Slurm that answers. Each command of ours is a process of its own; beside it stands what
Slurm's commands alone take for the same: ``sbatch`` of as many empty arrays, one ``squeue`` of all
tasks, one ``scancel``. The arrays are held, so that none of their tasks starts.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe_machine
from rich.console import Console
from rich.table import Table

from deltagclip_cli.slurm.client import largest_array

SPEC = """
experiments:
  many:
    model: {{name: mlp, hidden: [8]}}
    data: {{name: synthetic, batch_size: 4}}
    epochs: 2
    seeds: [0, 1, 2, 3, 4]
    optimizers: {{delta-gclip: {{name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}}}}
    grid: {{delta-gclip: {{lr: {{log_range: [1e-3, 1], count: {lrs}}}}}}}
    slurm: {{sbatch: --hold}}
"""


def timed(*words: str, folder: Path) -> float:
    begin = time.perf_counter()
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - begin


def ours(trials: int, folder: Path) -> dict[str, float]:
    (folder / "experiments.yaml").write_text(SPEC.format(lrs=trials // 5))
    command = [sys.executable, "-m", "deltagclip_cli"]
    return {
        "submit": timed(*command, "sweep", "--launcher", "slurm", folder=folder),
        "show": timed(*command, "status", folder=folder),
        "submit again: nothing to do": timed(
            *command, "sweep", "--launcher", "slurm", folder=folder
        ),
        "cancel": timed(*command, "cancel", folder=folder),
    }


def floors(trials: int, folder: Path) -> dict[str, float]:
    (folder / "empty.sbatch").write_text(
        "#!/bin/bash\n#SBATCH --hold\n#SBATCH --output=/dev/null\n"
    )
    largest = largest_array()
    submit = sum(
        timed("sbatch", f"--array=0-{min(largest, trials - start) - 1}", "empty.sbatch",
              folder=folder)
        for start in range(0, trials, largest)
    )  # fmt: skip
    name = "--name=empty.sbatch"
    show = timed("squeue", "--noheader", "--array", "--states=all", name, folder=folder)
    cancel = timed("scancel", name, folder=folder)
    return {
        "submit": submit,
        "show": show,
        "submit again: nothing to do": show,
        "cancel": show + cancel,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=5000)
    trials = parser.parse_args().trials
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        floor = floors(trials, Path(other))
        times = ours(trials, Path(folder))
    console = Console()
    console.print(describe_machine())
    table = Table(f"{trials} trials", "/ Slurm's commands alone", "seconds")
    for name, seconds in times.items():
        table.add_row(name, f"{seconds / floor[name]:.1f}", f"{seconds:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
