"""Training samples a second of ViT-Tiny, beside the way that most scripts have: workers that load.

The rival takes images from a ``DataLoader`` with four workers, crops them with torchvision, and
runs one operation after the other in fp32; network, batch and optimizer are the same. Evaluations
are left out of both.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.harness import Figure, Session
from benchmarks.paper_models import LONG, PaperModels
from deltagclip_cli.core import SPEED
from deltagclip_cli.optim import DeltaGClip
from deltagclip_cli.parts.models import build
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training.sinks import Record, Sink

DEVICES = ("cuda",)
WORKERS = 4
STEPS = 200  # of an epoch of ours, and of the rival
AGAINST = "the same way with 4 workers, eager fp32"


def measure(session: Session) -> Iterator[Figure]:
    models = PaperModels(session.folder, session.quick)
    steps = 4 if session.quick else STEPS
    trial = models.trial("ViT-Tiny", LONG, steps=steps)
    rival = rival_speed(trial, session.device, steps)
    for precision in ("fp32", "bf16"):
        watch = SecondEpoch()
        variant = models.trial("ViT-Tiny", LONG, f"precision={precision}", steps=steps)
        models.train(variant, session.device, [watch], watch.is_over, f"runs-{precision}")
        name = "epoch, ViT-Tiny" + (", bf16" if precision == "bf16" else "")
        yield Figure.as_fast(name, [watch.speed / rival], AGAINST)


class SecondEpoch(Sink):
    """Takes the speed of the second epoch, and stops behind it."""

    speed = 0.0

    def is_over(self) -> bool:
        return self.speed > 0

    def epoch(self, record: Record) -> None:
        if record["epoch"] == 2:
            self.speed = float(record[SPEED])


def rival_speed(trial: Trial, device: str, steps: int) -> float:
    """Samples a second of a plain script, behind a tenth of its steps."""
    batch, warm_up = trial.data.batch_size, max(1, steps // 10)
    assert batch != "full", "the paper's are none of these"
    loader = DataLoader(
        Pictures(batch * (steps + warm_up)),
        batch_size=batch,
        shuffle=True,
        num_workers=WORKERS,
        pin_memory=device == "cuda",
        drop_last=True,
    )
    model = build(trial.model, shape=(3, 64, 64), classes=10).to(device)
    optimizer = DeltaGClip(model.parameters(), lr=0.2, gamma=1.0, delta=1e-3)
    began = 0.0
    for number, (images, targets) in enumerate(loader):
        if number == warm_up:
            wait(device)
            began = time.perf_counter()
        logits = model(images.to(device, non_blocking=True))
        loss = functional.cross_entropy(logits, targets.to(device, non_blocking=True))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    wait(device)
    return batch * steps / (time.perf_counter() - began)


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """As torchvision has those of CIFAR-10, of noise."""

    def __init__(self, count: int) -> None:
        self._pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)
        self._transform = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.RandomResizedCrop(64, scale=(0.05, 1.0)),
                transforms.ToTensor(),
                transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
            ]
        )

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        return self._transform(self._pixels[number]), number % 10
