"""Numbers fit for arithmetic: what diverged is at the bad end, and no square overflows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

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
