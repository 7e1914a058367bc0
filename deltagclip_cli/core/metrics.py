"""Metrics: what they are called and mean, which way is good, and which ones are shown first.

An accuracy is a fraction everywhere: in files, in TensorBoard, as ``--target`` and on a terminal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Literal, get_args

TrainedMetric = Literal["train/loss", "train/accuracy", "test/loss", "test/accuracy"]
"""What training measures after an epoch, and a search may judge by."""

TRAINED_METRICS: tuple[TrainedMetric, ...] = get_args(TrainedMetric)
"""In the order in which they are shown."""

TEST_METRICS = tuple(name for name in TRAINED_METRICS if name.startswith("test/"))
"""What a line about a trial or a setting has room for."""

EVALUATED = ("test", "validation", "test_ema", "validation_ema")
"""What stands before the slash of a metric that an evaluation measures."""

MOST_METRICS = 4
"""In such a line, with those of one's own."""

COMPARED_METRICS = ("test/accuracy", "test/loss", "val/accuracy", "val/loss", "train/loss")
"""What is compared if nobody says what: the first that there is."""

MARK = "chosen on the test set"
"""Stands beside whatever rests on a choice by the test set."""

REGIMES = ("plain", "clipped", "floored")
"""The kinds of steps of an optimizer that clips, by which bound its step size has."""

REGIME_FRACTIONS = {regime: f"optim/{regime}_fraction" for regime in REGIMES}
"""The metric of each: its share of the steps of an epoch."""

CLIP_RATIO = "grad_clip_ratio"
"""Of the paper's own logs: the share of steps that were not floored."""

EPOCH_SECONDS = "perf/epoch_seconds"
SPEED = "perf/samples_per_second"

SPLITS = {
    "train": "the training samples, each at the weights before the step that it is part of",
    "validation": "the samples that choices look at, at the end of the pass",
    "test": "the test samples, at the end of the pass",
    "validation_ema": "the validation samples, at averaged weights (`ema`)",
    "test_ema": "the test samples, at averaged weights (`ema`)",
}
"""The samples over which a metric is a mean, by what stands before its slash."""

MEANINGS = {
    "optim/lr": "the learning rate η of the last step, of the first group of parameters",
    "optim/grad_norm": (
        "the norm of the gradient, as a mean over steps: over every tenth, where the optimizer does"
        " not compute it itself"
    ),
    "optim/step_size": (
        "by what the gradient is multiplied, as a mean over steps: of optimizers that clip, and of"
        " gradient descent"
    ),
    REGIME_FRACTIONS["plain"]: "the share of steps of the size η",
    REGIME_FRACTIONS["clipped"]: "the share of steps of the size ηγ/‖g‖",
    REGIME_FRACTIONS["floored"]: "the share of steps of the size ηδ, the least",
    SPEED: "training samples a second, without evaluation",
    EPOCH_SECONDS: "seconds from one evaluation to the next, with the evaluation",
    "theory/distance": "‖w_t - w_0‖, how far the weights have come from the first ones",
    "theory/lambda_min": "the least eigenvalue of the tangent kernel",
    "theory/lambda_max": "the largest eigenvalue of the tangent kernel",
    "theory/lambda_error": "how far rounding, or a search cut short, may have put these off",
    "theory/beta": "the largest eigenvalue of the Hessian",
    "theory/points": "n, by which `train/loss` is to be multiplied for the loss of the theorem",
    "theory/smooth": "1 if the network is known to be smooth, else 0",
}
"""Metrics of the training itself, and of trials with a ``certificate``, whose weights are those at
which the record has its ``train/loss``."""


class Mode(StrEnum):
    """Ways to say which values of a metric are good ones."""

    MAX = "max"
    MIN = "min"


MORE = (
    "acc accuracy auc auroc f1 precision recall score reward return psnr ssim bleu rouge map iou "
    "r2 dice kappa mcc pearson spearman correlation top1 top5 likelihood"
)
LESS = "loss error err nll perplexity ppl mse rmse mae mape cer wer fid bpc bpd brier ece seconds"


_SHARES = "acc accuracy auc auroc f1 precision recall dice iou map top1 top5"


def shown_metrics(names: Iterable[str], first: Sequence[str], *sets: str) -> list[str]:
    """Return the metrics to show: of ``first`` those that are there, then others of some sets."""
    there = dict.fromkeys(names)
    others = [name for name in there if name.partition("/")[0] in sets and name not in first]
    return [name for name in first if name in there] + others


def measured_on(name: str) -> Literal["train", "validation", "test", "other"]:
    """Return the part of the data that a metric is measured on, as far as its name tells."""
    words = re.split(r"[^a-z0-9]+", name.lower())
    if words[0] in ("train", "training"):
        return "train"
    if words[0] in ("validation", "valid", "val"):
        return "validation"
    return "other" if {"test", "eval"}.isdisjoint((words[0], words[-1])) else "test"


def choice_notes(metric: str) -> list[str]:
    """Return the sentence that marks settings which a metric of the test set has chosen."""
    return [f"Settings were {MARK}, which flatters them."] if measured_on(metric) == "test" else []


def mark_of(chooser: str) -> str:
    """Return the mark behind a comma where a metric of the test set chose; else nothing."""
    return f", {MARK}" if measured_on(chooser) == "test" else ""


def more_is_better(name: str) -> bool | None:
    """Return whether more of a metric is better, by the words of its name; None if none tells."""
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    if words & set(LESS.split()):
        return False
    return True if words & set(MORE.split()) else None


def are_mixed_shares(name: str, values: Iterable[float]) -> bool:
    """Return whether some values of a metric are percent, it seems, and others fractions of one."""
    is_share = not set(re.split(r"[^a-z0-9]+", name.lower())).isdisjoint(_SHARES.split())
    return is_share and len({value > 1 for value in values if math.isfinite(value)}) > 1
