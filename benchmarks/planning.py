"""Planning a sweep, and looking up what is finished, at 1,000 and at 10,000 trials.

    python benchmarks/planning.py [--rounds 3]

``deltagclip sweep --dry-run --json`` is started as a process of its own, on run folders of which
half hold a result. The first ratio is that of the times less that of a start with a single trial;
10 is linear. The second is that of the whole command at 10,000 trials to importing torch, which it
does not do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe_machine, torch_import_seconds
from rich.console import Console
from rich.table import Table

from deltagclip_cli.core import write_text
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import expand

SPEC = """
experiments:
  many:
    model: {{name: mlp, hidden: [8]}}
    data: {{name: synthetic, batch_size: 4}}
    epochs: 2
    seeds: [0, 1, 2, 3, 4]
    optimizers: {{delta-gclip: {{name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}}}}
    grid:
      delta-gclip:
        lr: {{log_range: [1e-3, 1], count: {lrs}}}
        gamma: {{range: [1, 2], count: 20}}
"""
RESULT = {
    "status": "finished",
    "epochs": 2,
    "last": {"test/loss": 0.5, "test/accuracy": 0.5},
    "seconds": {"epochs": 2.0, "last_start": 2.0},
}


def prepare(folder: Path, trials: int) -> None:
    """A spec with so many trials, of which every second has a result."""
    spec = folder / "experiments.yaml"
    write_text(spec, SPEC.format(lrs=trials // 100))
    for number, trial in enumerate(expand("many", load_spec(spec).experiments["many"])):
        if number % 2:
            run = RunFolder.of(folder / "runs", trial)
            run.path.mkdir(parents=True)
            run.result_file.write_text(json.dumps({**RESULT, "identity": trial.identity}))


def seconds(folder: Path, *more: str) -> float:
    command = [sys.executable, "-m", "deltagclip_cli", "sweep", "--dry-run", "--json", *more]
    begin = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    times, whole = {}, 0.0
    for trials in (1_000, 10_000):
        with tempfile.TemporaryDirectory() as name:
            prepare(Path(name), trials)
            whole = statistics.median(seconds(Path(name)) for _ in range(rounds))
            start = statistics.median(
                seconds(Path(name), "--seed", "0", "--set", "grid={}") for _ in range(rounds)
            )
            times[trials] = whole - start
    torch_seconds = statistics.median(torch_import_seconds() for _ in range(rounds))
    console = Console()
    console.print(describe_machine())
    table = Table("planning", "ratio")
    table.add_row("10,000 trials / 1,000 trials", f"{times[10_000] / times[1_000]:.1f}")
    table.add_row("whole command, 10,000 trials / importing torch", f"{whole / torch_seconds:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
