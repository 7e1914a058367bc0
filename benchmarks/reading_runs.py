"""Reading our own runs for a comparison, beside TensorBoard's EventAccumulator on the same runs.

    python benchmarks/reading_runs.py [--runs 1000] [--epochs 100]

Each run has the metrics of an ordinary one, in ``metrics.jsonl`` and in event files. Ten times as
many runs are read too, for the second ratio, of which 10 is linear; the third is that of the whole
command to EventAccumulator, which only reads. Memory is that of a process that compares the first
set of runs, at its peak.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from command import measured
from machine import describe_machine
from rich.console import Console
from rich.table import Table
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deltagclip_cli.core import write_text
from deltagclip_cli.results.read.tree import read_trials
from deltagclip_cli.runs.environment import describe
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import HeldFolder, create
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import Trial, expand
from deltagclip_cli.training.sinks import Beginning, make_recording

SPEC = """
experiments:
  many:
    model: {{name: mlp, hidden: [8]}}
    data: {{name: synthetic, batch_size: 4}}
    epochs: {epochs}
    seeds: [0, 1, 2, 3, 4]
    optimizers: {{delta-gclip: {{name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}}}}
    grid:
      delta-gclip:
        lr: {{log_range: [1e-3, 1], count: {settings}}}
"""
METRICS = [
    *(f"{data}/{name}" for data in ("train", "test") for name in ("loss", "accuracy")),
    *(f"optim/{name}" for name in ("lr", "step_size", "grad_norm")),
    *(f"optim/{name}_fraction" for name in ("plain", "clipped", "floored")),
    *(f"perf/{name}" for name in ("samples_per_second", "epoch_seconds")),
]
ENVIRONMENT = json.dumps([describe(torch.device("cpu"))], indent=1)
RESULT = '{"status": "finished"}\n'


def prepare(folder: Path, runs: int, epochs: int) -> None:
    """So many finished runs, five of each setting."""
    spec = folder / "experiments.yaml"
    write_text(spec, SPEC.format(epochs=epochs, settings=runs // 5))
    generator = np.random.default_rng(0)
    for trial in expand("many", load_spec(spec).experiments["many"]):
        write_run(RunFolder.of(folder / "runs", trial), trial, generator.random((epochs, 12)))


def write_run(folder: RunFolder, trial: Trial, values: np.ndarray) -> None:
    """The files of a run that a comparison reads, and its events."""
    create(folder, trial)
    recording = make_recording(HeldFolder(folder), (), lambda state: None)
    recording.begin(Beginning(trial, "cpu", trial.course(100)))
    for epoch, row in enumerate(values.tolist(), start=1):
        recording.epoch(epoch, 100 * epoch, dict(zip(METRICS, row, strict=True)))
    recording.end(None)
    folder.environment_file.write_text(ENVIRONMENT)
    folder.result_file.write_text(RESULT)


def run_folders(folder: Path) -> Iterator[Path]:
    """The folder of each run."""
    return folder.glob("runs/*/*/seed-*")


def ours(folder: Path) -> float:
    """Seconds to read every curve of every run."""
    begin = time.perf_counter()
    reading = read_trials(run_folders(folder))
    seconds = time.perf_counter() - begin
    assert not reading.problems
    assert all(len(run.curves) == len(METRICS) for run in reading.runs)
    return seconds


def tensorboards(folder: Path) -> float:
    """Seconds of EventAccumulator, told to keep every point, for the same."""
    begin = time.perf_counter()
    for path in run_folders(folder):
        accumulator = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0})
        accumulator.Reload()
        for tag in accumulator.Tags()["scalars"]:
            accumulator.Scalars(tag)
    return time.perf_counter() - begin


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        small, large = Path(first), Path(second)
        prepare(small, arguments.runs, arguments.epochs)
        prepare(large, 10 * arguments.runs, arguments.epochs)
        ours(small)
        times = sorted(ours(small) for _ in range(3))
        tenfold = min(ours(large) for _ in range(2))
        command, memory = measured("compare", "--runs", str(small / "runs"), "--format", "csv")
        rival = tensorboards(small)
    table = Table("what", "ratio", title=f"{arguments.runs} runs of {arguments.epochs} epochs")
    table.add_row("EventAccumulator / reading ours", f"{rival / times[1]:.0f}")
    table.add_row("reading ten times the runs / reading them", f"{tenfold / times[0]:.1f}")
    table.add_row("EventAccumulator / all of deltagclip compare", f"{rival / command:.0f}")
    console = Console()
    console.print(table)
    console.print(f"{memory:.0f} MB at most; {times[1]:.2f} s, EventAccumulator {rival:.1f} s")
    console.print(describe_machine())


if __name__ == "__main__":
    main()
