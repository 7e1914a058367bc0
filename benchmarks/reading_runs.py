"""Our own runs, read for a comparison, beside TensorBoard's EventAccumulator on the same runs.

Each run has the metrics of an ordinary one, in ``metrics.jsonl`` and in event files. Ten times as
many runs are read too, of which 10 is linear. The whole command does more than EventAccumulator,
which only reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks.harness import Figure, Session
from benchmarks.harness.commands import command, deltagclip, seconds_and_megabytes
from benchmarks.planning import finished
from deltagclip_cli.core import write_text
from deltagclip_cli.results.read.tree import read_trials
from deltagclip_cli.runs.environment import describe
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import HeldFolder, create
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import Trial, expand
from deltagclip_cli.training.sinks import Beginning, make_recording

RIVAL = "EventAccumulator"
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
    folder.result_file.write_text(finished(trial))


def run_folders(folder: Path) -> Iterator[Path]:
    """The folder of each run."""
    return folder.glob("runs/*/*/seed-*")


def measure(session: Session) -> Iterator[Figure]:
    runs, epochs = (50, 20) if session.quick else (1_000, 100)
    small, large = session.new_folder(), session.new_folder()
    prepare(small, runs, epochs)
    prepare(large, 10 * runs, epochs)
    words = ("compare", "--runs", str(small / "runs"), "--format", "csv")
    what = f"{runs:,} runs of {epochs} epochs"
    readers = {
        what: partial(ours, small),
        "ten times": partial(ours, large),
        RIVAL: partial(accumulate, small),
        "compare": command(deltagclip(*words)),
    }
    times = session.turns(readers, 1 if session.quick else 3)
    yield times.as_fast(f"reading {what}", what, RIVAL)
    yield times.as_fast(f"all of deltagclip compare on {what}", "compare", RIVAL)
    yield times.as_long("reading ten times the runs", "ten times", what)
    _, memory = seconds_and_megabytes(*words)
    yield Figure(f"deltagclip compare on {what}, memory at its peak", memory, unit="MB")


def ours(folder: Path) -> None:
    """Read every curve of every run."""
    reading = read_trials(run_folders(folder))
    assert not reading.problems
    assert all(len(run.curves) == len(METRICS) for run in reading.runs)


def accumulate(folder: Path) -> None:
    """Read the same with EventAccumulator, told to keep every point."""
    for path in run_folders(folder):
        accumulator = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0})
        accumulator.Reload()
        for tag in accumulator.Tags()["scalars"]:
            accumulator.Scalars(tag)
