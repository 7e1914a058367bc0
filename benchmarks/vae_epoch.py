"""An epoch of the VAE experiment, training and test, beside a plain and a bare PyTorch loop.

The plain loop is what tutorials and papers' scripts have: torchvision's FashionMNIST, a DataLoader,
``ToTensor`` for every image, and ``.item()`` on every loss. Model, optimizer, batch size and data
are the same; the images are noise, written in Fashion-MNIST's format and number, for the time does
not depend on what they show. The bare loop goes over tensors that lie ready, and measures nothing;
another adds up the loss and its two parts, as ours does.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import FashionMNIST
from torchvision.transforms import ToTensor

from benchmarks.harness import Figure, Session
from benchmarks.harness.training import bare_epoch, bare_steps, runner
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import make_trial
from deltagclip_cli.training.assembly import Parts, assemble

DEVICES = ("cpu", "cuda")
EXPERIMENTS = Path(__file__).parents[1] / "experiments.yaml"
SIZES = {"train": 60_000, "t10k": 10_000}
BARE, PLAIN = "a bare loop over ready tensors", "DataLoader, ToTensor and .item()"
MEASURED = "a bare loop over ready tensors that measures the same"


def measure(session: Session) -> Iterator[Figure]:
    sizes = {name: size // 10 for name, size in SIZES.items()} if session.quick else SIZES
    write_noise(session.folder, sizes)
    experiment = load_spec(EXPERIMENTS, ["vae-fashion-mnist"]).experiments["vae-fashion-mnist"]
    trial = make_trial("vae-fashion-mnist", experiment, "delta-gclip", 0)
    parts = assemble(trial, session.folder, torch.device(session.device))
    loaders = [
        DataLoader(
            FashionMNIST(session.folder, train=training, transform=ToTensor()),
            batch_size=100,
            shuffle=training,
        )
        for training in (True, False)
    ]
    with runner(trial, parts, session.folder / "runs") as ours:
        loops = {
            "ours": ours.epoch,
            BARE: partial(bare_epoch, parts, objective=partial(objective, parts)),
            MEASURED: partial(bare_epoch, parts),
            "our steps": ours.steps,
            "bare steps": partial(bare_steps, parts, None, partial(objective, parts)),
            PLAIN: lambda: plain_loop(parts, loaders),
        }
        times = session.turns(loops, 2 if session.quick else 5)
    yield times.as_long("VAE epoch", "ours", BARE)
    yield times.as_long("VAE epoch", "ours", MEASURED)
    yield replace(times.as_long("VAE, its steps alone", "our steps", "bare steps"), against=BARE)
    yield times.as_fast("VAE epoch", "ours", PLAIN)
    yield times.as_fast("VAE epoch of the bare loop", BARE, PLAIN)


def write_noise(root: Path, sizes: dict[str, int]) -> None:
    """Files of Fashion-MNIST's names and format under ``root``, with noise in them."""
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name, number in sizes.items():
        images = generator.integers(0, 256, (number, 28, 28), dtype=np.uint8)
        labels = generator.integers(0, 10, number, dtype=np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = np.array([0x0800 + array.ndim, *array.shape], dtype=">i4").tobytes()
            (raw / f"{name}-{kind}-ubyte").write_bytes(header + array.tobytes())
            with gzip.open(raw / f"{name}-{kind}-ubyte.gz", "wb", compresslevel=0):
                pass  # torchvision looks whether the archive is there, too


def objective(parts: Parts, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    return parts.task(model, inputs, targets).objective


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
