"""How long the paper's networks wait for their first step where nothing is compiled yet.

From then on it is: other trials like these find it in the folder of ``$TORCHINDUCTOR_CACHE_DIR``,
and how long those wait is a figure of ``paper_epochs``.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import torch

from benchmarks.harness import Figure, Session
from benchmarks.paper_epochs import VARIANTS
from benchmarks.paper_models import LONG, PaperModels
from deltagclip_cli.training.sinks import Sink

DEVICES = ("cuda",)


def measure(session: Session) -> Iterator[Figure]:
    models = PaperModels(session.folder, session.quick)
    errors: list[Exception] = []
    also = {"bf16, fast": (VARIANTS["bf16, fast"][0], ("ResNet-18", "ViT-Tiny", "DistilBERT"))}
    for variant, (sets, names) in {**VARIANTS, **also}.items():
        for name in names[-1:] if variant and session.quick else names:
            called = f"{name}, {variant}" if variant else name
            trial = models.trial(name, LONG, *sets, steps=4)
            begin, step = time.perf_counter(), FirstStep()
            try:
                models.train(trial, session.device, [step], step.is_made, f"runs-{called}")
            except Exception as error:  # the others have their own worth
                error.add_note(f"while {called} was trained")
                errors.append(error)
            else:
                seconds = step.made_at - begin
                yield Figure(f"{called}: first step, nothing compiled yet", seconds, unit="s")
            gc.collect()
            if session.device == "cuda":
                torch.cuda.empty_cache()
    if errors:
        raise ExceptionGroup("some networks could not be trained", errors)


class FirstStep(Sink):
    """Stops a training once a step is made."""

    made_at = 0.0

    def is_made(self) -> bool:
        return self.made_at > 0

    def batch(self, step: int, samples: int) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.made_at = time.perf_counter()
