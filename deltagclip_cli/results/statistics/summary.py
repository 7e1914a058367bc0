"""The values of one setting taken together: mean, median, interquartile mean, and how sure."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from deltagclip_cli.core import standard_error

LEAST_TO_RESAMPLE = 10
"""Fewer values than this are not resampled: of 5, intervals of 95 % cover an IQM in 91 %."""

BOOTSTRAP_COVERAGE: dict[str, dict[int, float]] = {
    "median": {10: 0.940, 11: 0.934, 15: 0.934, 20: 0.940, 21: 0.920, 31: 0.928, 50: 0.949},
    "IQM": {10: 0.935, 11: 0.934, 15: 0.942, 20: 0.944, 21: 0.942, 31: 0.941, 50: 0.949},
}
"""How often the 95 % intervals cover what they are of, by the number of values.

Measured on 10,000 samples of a normal distribution each, with a standard error of 0.25 points. Odd
sizes are worse for the median, which is then one of the values.
"""

GOOD_COVERAGE = 0.93
"""From this on, nothing is said of an interval that is to cover in 95 %."""

_RESAMPLES = 9999
_SEED = 0  # two readers of the same runs are to see the same interval
_AT_ONCE = 1_000_000  # numbers that are resampled together: some 30 MB


@dataclass(frozen=True)
class Interval:
    """From ``low`` to ``high``."""

    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """What the values of one setting come to.

    Args:
        n: how many of them are finite.
        diverged: how many are not.
        mean: of the finite ones; NaN if there are none.
        standard_error: s/√n of the finite ones, with n - ``ddof`` degrees of freedom in s; None
            for fewer than two.
        interval: of the mean, by Student's t with n - 1 degrees of freedom; None for fewer than
            two finite values.
        median: of all values; infinite if half of them diverged, NaN if there are none.
        median_interval: by the bootstrap (BCa); None for fewer than ten values, if one diverged,
            and where so many are equal that BCa is not defined.
        iqm: the interquartile mean, of the middle half of all values; NaN if there are none.
        iqm_interval: likewise by the bootstrap.
        best: the best value; NaN if there are none.
        worst: the worst value, infinite if a run diverged; NaN if there are none.
    """

    n: int
    diverged: int
    mean: float
    standard_error: float | None
    interval: Interval | None
    median: float
    median_interval: Interval | None
    iqm: float
    iqm_interval: Interval | None
    best: float
    worst: float


def summarize(
    values: Sequence[float],
    *,
    higher_is_better: bool,
    ddof: int = 1,
    confidence: float = 0.95,
) -> Summary:
    """Take the values of one setting together.

    Args:
        values: one for each seed, in the unit of the metric; what is not finite has diverged.
        higher_is_better: so of an accuracy, not so of a loss.
        ddof: of the standard error; 1 estimates the spread of all seeds that there could be, 0 is
            what the paper gives.
        confidence: of the intervals.
    """
    numbers = np.sort(ranked(values, higher_is_better))  # the order of seeds is to change no bit
    there = finite(numbers)
    worst, best = (0, -1) if higher_is_better else (-1, 0)
    return Summary(
        n=len(there),
        diverged=len(numbers) - len(there),
        mean=_mean(there),
        standard_error=_standard_error(there, ddof),
        interval=mean_interval(there, confidence),
        median=median(numbers),
        median_interval=_resampled(numbers, np.median, confidence),
        iqm=interquartile_mean(numbers),
        iqm_interval=_resampled(numbers, _middle_mean, confidence),
        best=float(numbers[best]) if len(numbers) else math.nan,
        worst=float(numbers[worst]) if len(numbers) else math.nan,
    )


def _mean(numbers: Numbers) -> float:
    return statistics.mean(numbers.tolist()) if len(numbers) else math.nan


def _standard_error(numbers: Numbers, ddof: int) -> float | None:
    return standard_error(numbers.tolist(), ddof)


def mean_interval(values: Sequence[float] | Numbers, confidence: float = 0.95) -> Interval | None:
    """The interval of a mean by Student's t; of equal values, that value; None for fewer than two.

    Args:
        values: finite ones.
        confidence: how often, of many samples from a normal distribution, it covers the mean. Of
            a skewed one it does so less often: 95 % become 82 to 89 % of a lognormal one (σ = 1).
    """
    numbers = np.asarray(values, dtype=np.float64)
    error = _standard_error(numbers, ddof=1)
    if error is None:
        return None
    mean = _mean(numbers)
    reach = float(special.stdtrit(len(numbers) - 1, (1 + confidence) / 2)) * error
    return Interval(mean - reach, mean + reach)


def median(values: Sequence[float] | Numbers) -> float:
    """The middle value; of two, the mean, which is infinite if one of them is; NaN of none."""
    return _of_all(values, np.median)


def interquartile_mean(values: Sequence[float] | Numbers) -> float:
    """The mean without the lowest and the highest quarter (n // 4 values each); NaN of none."""
    return _of_all(values, _middle_mean)


def _middle_mean(numbers: Numbers, axis: int = -1) -> Any:
    return stats.trim_mean(numbers, 0.25, axis=axis)


def _of_all(values: Sequence[float] | Numbers, statistic: Callable[..., Any]) -> float:
    numbers = np.asarray(values, dtype=np.float64)
    if not len(numbers):
        return math.nan
    magnitude = Magnitude(numbers)
    return magnitude.restore(float(statistic(magnitude.shrink(numbers))))


def _resampled(
    numbers: Numbers, statistic: Callable[..., Any], confidence: float
) -> Interval | None:
    """The BCa interval of a statistic; of values that are all the same, that value."""
    if len(numbers) < LEAST_TO_RESAMPLE or not np.isfinite(numbers).all():
        return None
    if numbers.min() == numbers.max():
        return Interval(float(numbers[0]), float(numbers[0]))
    magnitude = Magnitude(numbers)
    with no_warnings():
        found = stats.bootstrap(
            (magnitude.shrink(numbers),),
            statistic,
            n_resamples=_RESAMPLES,
            batch=max(1, _AT_ONCE // len(numbers)),
            confidence_level=confidence,
            method="BCa",
            rng=np.random.default_rng(_SEED),
        ).confidence_interval
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return None
    return Interval(magnitude.restore(found.low), magnitude.restore(found.high))


def coverage_note(n: int) -> str:
    """What the bootstrap's 95 % intervals of ``n`` values miss; empty if that is little.

    It speaks of what was measured: the largest sample that is not larger, even or odd like ``n``.
    """
    smaller = (size for size in BOOTSTRAP_COVERAGE["median"] if size <= n and (n - size) % 2 == 0)
    size = max(smaller, default=0)
    covers = {name: shares.get(size, 1.0) for name, shares in BOOTSTRAP_COVERAGE.items()}
    found = [
        f"of the {name} covers it in {share:.1%}".replace("%", " %")
        for name, share in covers.items()
        if share < GOOD_COVERAGE
    ]
    if not found:
        return ""
    return f"at n = {size} the 95 % bootstrap interval {' and that '.join(found)} of normal samples"


Numbers = NDArray[np.float64]

ROUNDING = 40 * float(np.finfo(np.float64).eps)
"""Numbers that differ by less than this part of the largest of them are the same but for rounding.

Scipy warns of lost precision from a quarter of it on.
"""


def ranked(values: Iterable[float], higher_is_better: bool) -> Numbers:
    """The values as an array of one dimension, with what is not finite as the worst infinity."""
    worst = -math.inf if higher_is_better else math.inf
    numbers = np.asarray(list(values), dtype=np.float64)
    return np.where(np.isfinite(numbers), numbers, worst)


def finite(numbers: Numbers) -> Numbers:
    """Those that are finite, in their order."""
    return numbers[np.isfinite(numbers)]


class Magnitude:
    """A power of two, by which numbers are divided before they are squared.

    Losses may be 1e-200 or 1e200, whose squares are 0 and infinite. Powers of two change no digit,
    so that what is computed from small numbers and multiplied back is the same to the last bit.

    Args:
        samples: what has to become less than 1 in size; what is not finite does not count.
    """

    def __init__(self, *samples: Numbers) -> None:
        largest = max(float(np.abs(finite(each)).max(initial=0.0)) for each in samples)
        self._power = math.frexp(largest)[1]

    def shrink(self, numbers: Numbers) -> Numbers:
        """The numbers without the magnitude."""
        return np.ldexp(numbers, -self._power)

    def restore(self, number: float) -> float:
        """A number with the magnitude; infinite if it is too large to be written."""
        with np.errstate(over="ignore"):
            return float(np.ldexp(number, self._power))


def differ(numbers: Numbers, scale: float) -> bool:
    """Whether finite numbers differ by more than rounding.

    Args:
        numbers: at least one.
        scale: the size of the numbers they were computed from.
    """
    return float(np.ptp(numbers)) > ROUNDING * scale


@contextmanager
def no_warnings() -> Iterator[None]:
    """Let scipy compute; what it would warn of is handled by those who ask."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield
