"""Words and numbers as people read them, short and without digits that mean nothing; and metrics.

Metrics: what they are called, which way is good, and which ones are shown first. An accuracy is a
fraction everywhere: in files, in TensorBoard, as ``--target`` and on a terminal. Every metric is
shown by :func:`short`, and a mean by :func:`with_error`.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
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

NOTHING = "–"
"""Stands for a number that is not there."""

_MOST_DECIMALS = 6
_MOST_NAMES = 4
_PLAIN = (1e-3, 1e6)  # what is smaller or larger is written with an exponent


def plural(count: int, noun: str) -> str:
    """Return ``1 task``, ``2 tasks``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def printable(text: str) -> str:
    """Return a text in which what a terminal would obey is written out, such as ``\\x1b``."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shortened(text: str, most: int = 80) -> str:
    """Return a text for a message: on one line, not much longer than ``most`` characters."""
    return printable(text if len(text) <= most else f"{text[: most - 1]}…")


def listed(names: Sequence[str]) -> str:
    """Return words as a list in a sentence, of many only the first ones."""
    if len(names) > _MOST_NAMES:
        names = [*names[: _MOST_NAMES - 1], f"{len(names) - _MOST_NAMES + 1} others"]
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def ranges(numbers: Sequence[int]) -> str:
    """Return whole numbers in order, with runs of them drawn together: ``0-4, 7``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = (f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
    return ", ".join(words)


def stopped(words: object) -> str:
    """Return words of others, such as an error's, as the end of a sentence: with one full stop."""
    return f"{str(words).rstrip().rstrip('.')}."


def by_size(word: str) -> tuple[float, str]:
    """Return a key that sorts numbers by their size, before words by their letters."""
    number = as_number(word)
    return math.inf if number is None else number, word


def standard_error(values: Sequence[float], ddof: int = 1) -> float | None:
    """Return the standard error of the mean of finite values, s/√n; None for fewer than two.

    s has n - ``ddof`` degrees of freedom: 1 estimates the spread of all seeds that there could be,
    0 is what the paper gives.
    """
    n = len(values)
    if n < 2:
        return None
    try:
        spread = statistics.stdev(values)
    except OverflowError:  # of values such as ±1.7e308
        return math.inf
    return spread * math.sqrt((n - 1) / (n - ddof) / n)


def shown_with(error: float | None, scale: float) -> Callable[[float], str]:
    """Return what writes values of about ``scale`` so that the error, if known, has two digits."""
    scale = abs(scale) if math.isfinite(scale) else 1.0
    if scale and not _PLAIN[0] <= scale < _PLAIN[1]:
        return lambda value: finite(value, "{:.3e}")
    if not error or not math.isfinite(error):
        return short
    decimals = min(max(0, 1 - math.floor(math.log10(error))), _MOST_DECIMALS)
    return lambda value: finite(value, f"{{:.{decimals}f}}")


def with_error(mean: float, error: float | None) -> str:
    """Return ``mean ± error``, in the digits that the error leaves a meaning."""
    show = shown_with(error, mean)
    if error is None:
        return show(mean)
    is_hidden = error and not float(show(error))  # all of its digits were cut off
    return f"{show(mean)} ± {error:.1e}" if is_hidden else f"{show(mean)} ± {show(error)}"


def as_number(word: str) -> float | None:
    """Return the number that a word is; None if it is none."""
    try:
        return float(word)
    except ValueError:
        return None


def finite(value: float | None, form: str) -> str:
    """Return a number in some form; a dash for none."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return form.format(value)


def short(value: float | None) -> str:
    """Return a number in four digits that count."""
    return finite(value, "{:.4g}")


def memory(size_bytes: int) -> str:
    """Return an amount of memory in the largest decimal unit of which there is one."""
    value, unit = float(size_bytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"


def duration(seconds: float) -> str:
    """Return a time span in its two largest units, of which the smallest is a second."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


class Mode(StrEnum):
    """Ways to say which values of a metric are good ones."""

    MAX = "max"
    MIN = "min"


_MORE = (
    "acc accuracy auc auroc f1 precision recall score reward return psnr ssim bleu rouge map iou "
    "r2 dice kappa mcc pearson spearman correlation top1 top5 likelihood"
)
_LESS = "loss error err nll perplexity ppl mse rmse mae mape cer wer fid bpc bpd brier ece seconds"


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
    if words & set(_LESS.split()):
        return False
    return True if words & set(_MORE.split()) else None
