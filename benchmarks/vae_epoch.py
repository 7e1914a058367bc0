"""An epoch of the VAE experiment, training and test, against a plain PyTorch loop.

    python benchmarks/vae_epoch.py [--rounds 3] [--workers 0]

The plain loop is what tutorials and papers' scripts have: torchvision's FashionMNIST, a DataLoader,
``ToTensor`` for every image, and ``.item()`` on every loss. Model, optimizer, batch size and data
are the same; the images are noise, written in Fashion-MNIST's format and number, for the time does
not depend on what they show. A bare loop over tensors that lie ready, which measures nothing, shows
how much there is to gain at all. All are run in turns in one process; the ratios are of medians.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from machine import describe_machine
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader
from torchvision.datasets import FashionMNIST
from torchvision.transforms import ToTensor

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import HeldFolder, create
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import make_trial
from deltagclip_cli.training.assembly import Parts, assemble, find_device
from deltagclip_cli.training.sinks import Beginning, make_recording
from deltagclip_cli.training.trainer import Trainer
from deltagclip_cli.training.worker import Checkpoints

EXPERIMENTS = Path(__file__).parents[1] / "experiments.yaml"
SIZES = {"train": 60_000, "t10k": 10_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0, help="of the plain loop's DataLoader")
    options = parser.parse_args()
    console = Console()
    console.print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        write_noise(Path(folder))
        times = compare(Path(folder), options.rounds, options.workers)
    plain = times.pop("plain")
    table = Table("VAE epoch, train + test", f"plain loop ({options.workers} workers) / this")
    for name, seconds in times.items():
        table.add_row(name, f"{plain / seconds:.1f}")
    console.print(table)


def write_noise(root: Path) -> None:
    """Files of Fashion-MNIST's names and format under ``root``, with noise in them."""
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name, number in SIZES.items():
        images = generator.integers(0, 256, (number, 28, 28), dtype=np.uint8)
        labels = generator.integers(0, 10, number, dtype=np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = np.array([0x0800 + array.ndim, *array.shape], dtype=">i4").tobytes()
            (raw / f"{name}-{kind}-ubyte").write_bytes(header + array.tobytes())
            with gzip.open(raw / f"{name}-{kind}-ubyte.gz", "wb", compresslevel=0):
                pass  # torchvision looks whether the archive is there, too


def compare(root: Path, rounds: int, workers: int) -> dict[str, float]:
    """Median seconds of an epoch of each loop."""
    experiment = load_spec(EXPERIMENTS, ["vae-fashion-mnist"]).experiments["vae-fashion-mnist"]
    trial = make_trial("vae-fashion-mnist", experiment, "delta-gclip", 0)
    parts = assemble(trial, root, find_device("auto"))
    others = copy.deepcopy(parts)
    run = RunFolder.of(root / "runs", trial)
    create(run, trial)
    held = HeldFolder(run)
    recording = make_recording(held, (), Checkpoints(held, trial.identity).save)
    trainer = Trainer(trial, parts, recording, lambda: False)
    recording.begin(Beginning(trial, str(parts.device), trainer.course))
    loaders = [
        DataLoader(
            FashionMNIST(root, train=training, transform=ToTensor()),
            batch_size=100,
            shuffle=training,
            num_workers=workers,
        )
        for training in (True, False)
    ]

    def deltagclip() -> None:
        longer = trial.model_copy(update={"epochs": trainer.epoch + 1})
        trainer.course = longer.course(parts.train.steps)
        trainer.train()

    loops = {
        "deltagclip": deltagclip,
        "bare loop over tensors": lambda: bare_loop(others),
        "plain": lambda: plain_loop(others, loaders),
    }
    times: dict[str, list[float]] = {name: [] for name in loops}
    for round_number in range(rounds + 1):
        for name, loop in loops.items():
            started = time.perf_counter()
            loop()
            if round_number:  # the first warms up
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(column) for name, column in times.items()}


def bare_loop(parts: Parts) -> None:
    """Train and evaluate on tensors that lie on the device, and measure nothing."""
    parts.model.train()
    for inputs, targets in parts.train.iterate(torch.randperm(parts.train.samples), None):
        parts.optimizer.zero_grad()
        parts.task(parts.model, inputs, targets).objective.backward()
        parts.optimizer.step()
    parts.model.eval()
    with torch.no_grad():
        for inputs, targets in parts.evaluated["test"].iterate(None, None):
            parts.task(parts.model, inputs, targets)


def plain_loop(parts: Parts, loaders: list[DataLoader]) -> None:
    """Train on the first loader's batches and evaluate on the second's."""
    total = 0.0
    parts.model.train()
    for images, labels in loaders[0]:
        images, labels = images.to(parts.device), labels.to(parts.device)
        parts.optimizer.zero_grad()
        loss = parts.task(parts.model, images, labels).objective
        loss.backward()
        parts.optimizer.step()
        total += loss.item()
    parts.model.eval()
    with torch.no_grad():
        for images, labels in loaders[1]:
            images, labels = images.to(parts.device), labels.to(parts.device)
            total += parts.task(parts.model, images, labels).objective.item()


if __name__ == "__main__":
    main()
