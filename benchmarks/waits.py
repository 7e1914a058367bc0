"""How often a training step of the paper's networks makes the host wait for the GPU.

torch warns of each wait; they are counted from the second step of an epoch to its last but one, in
a second epoch, where nothing is made any more. Their places are written to the log.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import torch

from benchmarks.harness import Figure, Session
from benchmarks.paper_models import LONG, NAMES, PaperModels
from deltagclip_cli.training.sinks import Beginning, Sink

DEVICES = ("cuda",)
STEPS = 30  # of an epoch


def measure(session: Session) -> Iterator[Figure]:
    models = PaperModels(session.folder, session.quick)
    errors: list[Exception] = []
    for name in NAMES:
        try:
            # Logged often, and with a mean of the weights: neither may wait.
            trial = models.trial(name, LONG, "log_every=5", "ema=0.9", steps=STEPS)
            watcher = Waits(session.device)
            models.train(trial, session.device, [watcher], watcher.is_over)
        except Exception as error:  # the others have their own worth
            error.add_note(f"while {name} was trained")
            errors.append(error)
            continue
        for place, times in watcher.places.most_common():
            print(f"{name}: {times} × {place}", file=sys.stderr)
        waits = watcher.places.total() / watcher.steps
        yield Figure(f"{name}: waits a step", waits, unit="waits")
    if errors:
        raise ExceptionGroup("some networks could not be looked at", errors)


class Waits(Sink):
    """Counts by place what torch warns of in the second epoch, and the steps that it looked at."""

    def __init__(self, device: str) -> None:
        self.places: Counter[str] = Counter()
        self.steps = 0
        self._over = False
        self._on_gpu = device == "cuda"
        self._looking: ExitStack | None = None
        self._caught: list[warnings.WarningMessage] = []

    def begin(self, beginning: Beginning) -> None:
        self._second = beginning.course.in_pass + 1
        self._last = 2 * beginning.course.in_pass - 1

    def batch(self, step: int, samples: int) -> None:
        if self._looking is not None:
            self.steps += 1
        if step == self._second:
            self._look()
        elif step == self._last:
            self.end(None)
            self._over = True

    def is_over(self) -> bool:
        return self._over

    def _look(self) -> None:
        self._looking = ExitStack()
        self._caught = self._looking.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        if self._on_gpu:
            torch.cuda.set_sync_debug_mode("warn")
            self._looking.callback(torch.cuda.set_sync_debug_mode, "default")

    def end(self, result: object) -> None:
        if self._looking is None:
            return
        self._looking.close()
        self._looking = None
        for warning in self._caught:
            if "synchroniz" in str(warning.message):
                file = Path(warning.filename)
                self.places[f"{'/'.join(file.parts[-2:])}:{warning.lineno}"] += 1
