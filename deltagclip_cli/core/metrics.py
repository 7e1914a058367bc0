"""Metrics: what they are called, which way is good, and which ones are shown first.

An accuracy is a fraction everywhere: in files, in TensorBoard, as ``--target`` and on a terminal.
Every metric is shown by :func:`~deltagclip_cli.core.wording.short`, and a mean by
:func:`~deltagclip_cli.core.wording.with_error`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Literal, get_args

TrainedMetric = Literal["train/loss", "train/accuracy", "test/loss", "test/accuracy"]
"""What training measures after an epoch, and a search may judge by."""

TRAINED_METRICS: tuple[TrainedMetric, ...] = get_args(TrainedMetric)
"""In the order in which they are shown."""

TEST_METRICS = tuple(name for name in TRAINED_METRICS if name.startswith("test/"))
"""What a line about a trial or a setting has room for."""

COMPARED_METRICS = ("test/accuracy", "test/loss", "val/accuracy", "val/loss", "train/loss")
"""What is compared if nobody says what: the first that there is."""

REGIMES = ("plain", "clipped", "floored")
"""The kinds of steps of an optimizer that clips, by which bound its step size has."""

REGIME_FRACTIONS = {regime: f"optim/{regime}_fraction" for regime in REGIMES}
"""The metric of each: its share of the steps of an epoch."""

EPOCH_SECONDS = "perf/epoch_seconds"
SPEED = "perf/samples_per_second"


class Mode(StrEnum):
    """Ways to say which values of a metric are good ones."""

    MAX = "max"
    MIN = "min"


_MORE = (
    "acc accuracy auc auroc f1 precision recall score reward return psnr ssim bleu rouge map iou"
)
_LESS = "loss error err nll perplexity ppl mse rmse mae cer wer fid bpc bpd seconds"


def more_is_better(name: str) -> bool | None:
    """Return whether more of a metric is better; None if its name does not tell.

    The words of a name tell it, so that metrics of other programs have a direction as well.
    """
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    if words & set(_LESS.split()):
        return False
    return True if words & set(_MORE.split()) else None
