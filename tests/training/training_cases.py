"""Small trials, ways to run and to interrupt them, and what of them must agree."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.code import CodeFolder
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.spec.trial import Trial, make_trial
from deltagclip_cli.training.sinks import Sink
from deltagclip_cli.training.trainer import Ending
from deltagclip_cli.training.worker import run_trial

# 100 images in batches of 32: 4 steps an epoch, the last of 4 samples.
DATA = {
    "name": "synthetic",
    "train": 100,
    "test": 50,
    "size": 8,
    "channels": 1,
    "classes": 4,
    "batch_size": 32,
    "evaluation_batch_size": 32,
}
TINY: dict[str, Any] = {"model": {"name": "mlp", "hidden": [16]}, "data": DATA, "epochs": 3}
VAE: dict[str, Any] = {
    "model": {"name": "vae", "hidden": 8, "latent": 3},
    "task": {"name": "autoencode"},
    "data": {**DATA, "normalize": "none", "noise": 0.1},
}
# gamma and delta are such that steps of all three regimes are made.
DELTA_GCLIP = {"name": "delta_gclip", "lr": 0.2, "gamma": 0.7, "delta": 0.8}
SGD = {"name": "sgd", "lr": 0.2}
MOMENTUM = {"name": "sgd", "lr": 0.1, "momentum": 0.9}
ADAM = {"name": "adam", "lr": 1e-2}


def trial_of(
    optimizer: dict[str, Any] = DELTA_GCLIP,
    *,
    label: str = "tested",
    seed: int = 0,
    **settings: Any,
) -> Trial:
    """A trial of the tiny experiment with some settings replaced; those of data are merged.

    Files that it names are those beside this one.
    """
    data = {**TINY["data"], **settings.pop("data", {})}
    written = {**TINY, **settings, "data": data, "optimizers": {label: optimizer}}
    folder = CodeFolder(Path(__file__).parent)
    return make_trial("tiny", Experiment.model_validate(written, context=folder), label, seed)


def never() -> bool:
    return False


class StopAt:
    """Says yes when it is asked for the given times, counted from 1."""

    def __init__(self, *times: int) -> None:
        self.times = times
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.asked in self.times


def train(
    trial: Trial,
    runs: Path,
    *,
    stop: Callable[[], bool] = never,
    sinks: Sequence[Sink] = (),
    data_dir: Path = Path("nowhere"),
    force: bool = False,
    threads: int | None = None,
    device: str = "cpu",
) -> Ending:
    """Run a trial in this process."""
    return run_trial(
        RunFolder.of(runs, trial),
        trial,
        data_dir=data_dir,
        device=device,
        threads=threads,
        force=force,
        sinks=sinks,
        should_stop=stop,
    )


def train_in_pieces(
    trial: Trial,
    runs: Path,
    steps: int = 1,
    data_dir: Path = Path("nowhere"),
    device: str = "cpu",
) -> int:
    """Stop a trial after so many steps, again and again, until it ends; the number of starts."""
    for starts in range(1, 1000):
        torch.manual_seed(starts)  # nothing may hang on what this process drew before
        ending = train(trial, runs, stop=StopAt(steps), data_dir=data_dir, device=device)
        if ending is not Ending.STOPPED:
            return starts
    raise AssertionError("the trial never ended")


def records(folder: RunFolder) -> list[dict[str, Any]]:
    """Every record of ``metrics.jsonl``; all its lines must be whole."""
    return [json.loads(line) for line in folder.metrics_file.read_text().splitlines()]


def numbers(folder: RunFolder) -> list[dict[str, Any]]:
    """The records without what a clock told."""
    return [
        {k: v for k, v in record.items() if k != "time" and "perf/" not in k}
        for record in records(folder)
    ]


def epochs(folder: RunFolder, name: str) -> list[Any]:
    """One metric of every epoch."""
    return [record[name] for record in records(folder) if name in record]


def result(folder: RunFolder) -> dict[str, Any]:
    """``result.json`` without what a clock told."""
    read: dict[str, Any] = json.loads(folder.result_file.read_text())
    read.pop("seconds")
    for name in [name for name in read["last"] if name.startswith("perf/")]:
        del read["last"][name]
    return read


def checkpoint(folder: RunFolder) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder.checkpoint_file, weights_only=True)
    return state


def same(one: Any, other: Any) -> bool:
    """Whether two nested structures agree bit for bit, their tensors included."""
    if isinstance(one, torch.Tensor):
        return (
            isinstance(other, torch.Tensor)
            and one.dtype == other.dtype
            and torch.equal(one.nan_to_num(0.125), other.nan_to_num(0.125))
        )
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def assert_same_numbers(folder: RunFolder, expected: RunFolder) -> None:
    """Metrics, result and the final state of two run folders agree bit for bit."""
    assert numbers(folder) == numbers(expected)
    assert result(folder) == result(expected)
    ours, theirs = checkpoint(folder), checkpoint(expected)
    for part in ("model", "optimizer", "schedule", "average", "regime_totals"):
        assert same(ours[part], theirs[part]), f"the final checkpoints differ in {part}"


def leftovers(runs: Path) -> list[str]:
    """Names of files that were meant to be temporary."""
    return [path.name for path in runs.rglob("*") if ".part" in path.name or "next" in path.name]


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    code: int
    out: str
    err: str


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
COMMAND = [sys.executable, "-m", "deltagclip_cli"]


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start ``deltagclip`` as a process of its own."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        preexec_fn=come_second,
    )


def come_second() -> None:
    """In a new process: leave tests the processor, and hear Ctrl-C even if they hear none."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.nice(5)


def finish(process: subprocess.Popen[str]) -> Done:
    """Wait for a process to end by itself."""
    out, err = process.communicate(timeout=300)
    return Done(process.returncode, out, err)
