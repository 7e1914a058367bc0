"""One whole epoch of each network of the paper: seconds, memory, the wait for the first steps.

Each is trained as ``deltagclip train`` does it, on as many samples as the real data have, with the
first optimizer of its experiment. The first steps, in which things are made, compiled or captured,
are counted apart: the epoch is that of the steps behind them, and its evaluation. Each network is
taken first as its experiment has it, then, as far as there is time, in bf16, and in bf16 without
the promise of the same bits.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import torch

from benchmarks.harness import Figure, Session
from benchmarks.paper_models import NAMES, PaperModels
from deltagclip_cli.training.sinks import Beginning, Record, Sink

DEVICES = ("cuda",)
WARM_UP = 20  # steps that are counted apart
EPOCHS_OF_RESNET = 200
BF16 = "precision=bf16"
VARIANTS = {  # in this order, each for those networks that gain by it
    "": ((), tuple(NAMES)),
    "bf16": ((BF16,), ("ResNet-18", "ViT-Tiny", "ViT-Small", "DistilBERT")),
    "bf16, fast": ((BF16, "determinism=fast"), ("ResNet-18",)),
}


def measure(session: Session) -> Iterator[Figure]:
    models = PaperModels(session.folder, session.quick)
    errors: list[Exception] = []
    for variant, (sets, names) in VARIANTS.items():
        for name in names[-1:] if variant and session.quick else names:
            called = f"{name}, {variant}" if variant else name
            try:
                yield from of_one(session, models, called, name, sets)
            except Exception as error:  # the others have their own worth
                error.add_note(f"while {called} was trained")
                errors.append(error)
            gc.collect()  # what one network leaves counts not for the next
            if session.device == "cuda":
                torch.cuda.empty_cache()
    if errors:
        raise ExceptionGroup("some networks could not be measured", errors)


def of_one(
    session: Session, models: PaperModels, called: str, name: str, sets: tuple[str, ...]
) -> Iterator[Figure]:
    """Yield the figures of one network."""
    trial = models.trial(name, *sets)  # of which one epoch is made
    clock = Clock(session.device)
    if session.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    models.train(trial, session.device, [clock], clock.is_over)
    epoch = clock.epoch_seconds
    yield Figure(f"{called}: epoch", epoch, unit="s")
    yield Figure(f"{called}: up to its first steps", clock.first_seconds, unit="s")
    if session.device == "cuda":
        memory = torch.cuda.max_memory_reserved() / 1e6
        yield Figure(f"{called}: most memory", memory, unit="MB")
    if name == "ResNet-18":
        whole = EPOCHS_OF_RESNET * epoch
        yield Figure(f"{called}: {EPOCHS_OF_RESNET} epochs", whole, unit="s")


class Clock(Sink):
    """Tells an epoch from its first steps; waits for the device once, behind those."""

    def __init__(self, device: str) -> None:
        self._on_gpu = device == "cuda"
        self._started = time.perf_counter()
        self._samples = 0
        self._over = False
        self.first_seconds = self.epoch_seconds = float("nan")

    def is_over(self) -> bool:
        return self._over

    def begin(self, beginning: Beginning) -> None:
        self._steps = beginning.course.in_pass
        self._warm_up = min(WARM_UP, self._steps // 2)

    def batch(self, step: int, samples: int) -> None:
        self._samples += samples
        if step == self._warm_up:
            if self._on_gpu:
                torch.cuda.synchronize()
            self._warm = time.perf_counter()
            self.first_seconds = self._warm - self._started

    def epoch(self, record: Record) -> None:
        # Its metrics are read: the device has done it all. The evaluation is there once, and the
        # first steps of later epochs take what the others did.
        seconds, steps = time.perf_counter() - self._warm, self._steps - self._warm_up
        training = self._samples / record["perf/samples_per_second"]
        evaluation = record["perf/epoch_seconds"] - training
        self.epoch_seconds = (seconds - evaluation) * self._steps / steps + evaluation
        self._over = True
