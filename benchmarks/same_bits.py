"""Whether the paper's networks end with the same bits: trained twice, and once with a stop between.

A training is compared with one that is stopped in the middle of an epoch and continued from its
checkpoint: the weights at the end, and all metrics but those of time. Which differ is in the log.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.harness import Figure, Session
from benchmarks.paper_models import LONG, NAMES, PaperModels
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.training.ranks import Ranks
from deltagclip_cli.training.sinks import Sink

DEVICES = ("cpu", "cuda")
STEPS = 12  # of an epoch
_FIRST = ("ResNet-18", "ViT-Tiny")  # a convolutional network and one of attention, in case of haste
_OTHERS = tuple(name for name in NAMES if name not in _FIRST)
ORDER = (("fp32", _FIRST), ("bf16", _FIRST), ("fp32", _OTHERS), ("bf16", _OTHERS))


def measure(session: Session) -> Iterator[Figure]:
    models = PaperModels(session.folder, session.quick)
    errors: list[Exception] = []
    for precision, names in ORDER:
        for name in names:
            called = name if precision == "fp32" else f"{name}, {precision}"
            runs = called.replace(" ", "-")
            trial = models.trial(name, LONG, f"precision={precision}", steps=STEPS)
            in_pass = 4 if session.quick else STEPS
            whole_stop, *cut_stops = (
                StopAt(each) for each in (2 * in_pass, 3 * in_pass // 2, 2 * in_pass)
            )
            try:
                train = partial(models.train, trial, session.device)
                whole = kept(train([whole_stop], whole_stop.asks, f"{runs}-whole"))
                for stop in cut_stops:
                    folder = train([stop], stop.asks, f"{runs}-cut")
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


class StopAt(Sink):
    """Asks a training to stop behind a step."""

    def __init__(self, step: int) -> None:
        self._step, self._asks = step, False

    def batch(self, step: int, samples: int) -> None:
        self._asks = step == self._step

    def asks(self) -> bool:
        return self._asks


def kept(folder: RunFolder) -> dict[str, Any]:
    """The weights of the last checkpoint, and the metrics without times."""
    records = [
        {k: v for k, v in json.loads(line).items() if k != "time" and not k.startswith("perf/")}
        for line in folder.metrics_file.read_text(encoding="utf-8").splitlines()
    ]
    state = torch.load(folder.checkpoint_file, map_location="cpu", weights_only=True)
    state = Ranks().loaded(state, folder)
    return {**state["model"], "the step": state["step"], "the metrics": records}


def equal(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)
