"""Eight short trials on two CPU slots against the same trials one after another in one process.

    python benchmarks/sweep_throughput.py [--trials 8] [--epochs 30] [--rounds 3]

Both are timed with torch loaded: the sweep from the first trial that is started to the last that is
finished, everything else of it included. The second table is a worker's own time, from its start to
its first step, against the time that importing torch takes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from machine import describe_machine, torch_import_seconds
from rich.console import Console
from rich.table import Table

from deltagclip_cli.launch.local import LocalRunner
from deltagclip_cli.launch.supervisor import End, PlannedQueue, Slot
from deltagclip_cli.plan.planned import Planned, look_up
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.spec.trial import Trial, distinct_inputs, expand
from deltagclip_cli.training.worker import run_trial

SETTINGS = {
    "model": {"name": "mlp", "hidden": [256, 256]},
    "data": {"name": "synthetic", "size": 16, "train": 6000, "test": 1000, "batch_size": 100},
    "optimizers": {
        "delta-gclip": {"name": "delta_gclip", "lr": 0.1, "gamma": 1.0, "delta": 1e-3},
        "adam": {"name": "adam", "lr": 1e-3},
    },
    "checkpoint": {"epochs": 10},
}


class Clock:
    """Takes the time that each trial needs from its start to its first heartbeat."""

    def __init__(self) -> None:
        self.started_at: dict[Path, float] = {}
        self.to_first_step: list[float] = []

    def started(self, planned: Planned, slot: Slot) -> None:
        self.started_at[planned.folder.path] = time.time()

    def ended(self, planned: Planned, end: End) -> None:
        assert end.state == "finished", end
        records = planned.folder.metrics()
        first = next(iter(records))
        begun = first["time"] - first["perf/epoch_seconds"]
        self.to_first_step.append(begun - self.started_at[planned.folder.path])

    def looked(self, running: Sequence[tuple[Planned, Slot]]) -> None:
        pass


def never() -> bool:
    return False


def one_after_another(trials: Sequence[Trial], runs: Path, threads: int) -> float:
    begin = time.perf_counter()
    for each in look_up(trials, runs):
        run_trial(
            each.folder,
            each.trial,
            data_dir=runs,
            device="cpu",
            threads=threads,
            should_stop=never,
        )
    return time.perf_counter() - begin


def sweep(trials: Sequence[Trial], runs: Path, clock: Clock) -> float:
    runner = LocalRunner(runs, never, jobs=2)
    runner.prepare(distinct_inputs(trials))
    begin = time.perf_counter()
    runner.run(PlannedQueue(look_up(trials, runs)), clock)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    experiment = Experiment.model_validate({**SETTINGS, "epochs": options.epochs})
    trials = list(expand("benchmark", experiment, range(options.trials // 2)))
    clock = Clock()
    threads = {"1 thread": 1, "all threads": torch.get_num_threads()}
    ratios: dict[str, list[float]] = {name: [] for name in threads}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            ours = sweep(trials, Path(folder, "sweep"), clock)
            for name, count in threads.items():
                rival = one_after_another(trials, Path(folder, name), count)
                ratios[name].append(rival / ours)
    console = Console()
    console.print(describe_machine())
    table = Table(f"{len(trials)} trials, one after another in one process, with", "/ 2 slots")
    for name, values in ratios.items():
        table.add_row(name, f"{statistics.median(values):.2f}")
    console.print(table)
    table = Table("a worker, from start to first step", "/ importing torch", "seconds")
    own = statistics.median(clock.to_first_step)
    torch_seconds = statistics.median(torch_import_seconds() for _ in range(options.rounds))
    table.add_row("median", f"{own / torch_seconds:.2f}", f"{own:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
