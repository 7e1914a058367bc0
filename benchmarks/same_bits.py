"""Whether the paper's networks end with the same bits: trained twice, and once with a stop between.

A training is compared with one that is stopped in the middle of an epoch and continued from its
checkpoint: the weights at the end, and all metrics but those of time. Which differ is in the log.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.harness import Figure, Session
from benchmarks.paper_models import NAMES, PaperModels
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.training.sinks import Sink

DEVICES = ("cpu", "cuda")
STEPS = 12  # of an epoch


def measure(session: Session) -> Iterator[Figure]:
    models = PaperModels(session.folder, session.quick)
    errors: list[Exception] = []
    for precision in ("fp32", "bf16"):
        for name in NAMES:
            called = name if precision == "fp32" else f"{name}, {precision}"
            runs = called.replace(" ", "-")
            trial = models.trial(name, "epochs=2", f"precision={precision}", steps=STEPS)
            try:
                whole = kept(models.train(trial, session.device, runs=f"{runs}-whole"))
                stop = StopOnce(3 * (4 if session.quick else STEPS) // 2)
                for stops in (True, False):
                    folder = models.train(trial, session.device, [stop], stop.asked, f"{runs}-cut")
                    assert stops is (folder.result() is None), "it is stopped once, in the middle"
                cut = kept(folder)
            except Exception as error:  # the others have their own worth
                error.add_note(f"while {called} was trained")
                errors.append(error)
                continue
            differ = [key for key in whole if not equal(whole[key], cut[key])]
            print(f"{called}: other bits in {', '.join(differ) or 'nothing'}", file=sys.stderr)
            yield Figure(f"{called}: tensors with other bits", len(differ), unit="tensors")
    if errors:
        raise ExceptionGroup("some networks could not be compared", errors)


class StopOnce(Sink):
    """Asks a training to stop behind one step, once."""

    def __init__(self, step: int) -> None:
        self._step, self._asks = step, False

    def batch(self, step: int, samples: int) -> None:
        self._asks = step == self._step

    def asked(self) -> bool:
        asks, self._asks = self._asks, False
        return asks


def kept(folder: RunFolder) -> dict[str, Any]:
    """The weights of the last checkpoint, and the metrics without times."""
    records = [
        {k: v for k, v in json.loads(line).items() if k != "time" and not k.startswith("perf/")}
        for line in folder.metrics_file.read_text(encoding="utf-8").splitlines()
    ]
    state = torch.load(folder.checkpoint_file, map_location="cpu", weights_only=True)
    return {**state["model"], "the metrics": records}


def equal(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)
