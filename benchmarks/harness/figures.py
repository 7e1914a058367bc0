"""Figures, and the times that most of them are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Literal

AS_LONG = "× as long"
AS_FAST = "× as fast"


@dataclass(frozen=True)
class Figure:
    """What came out, and beside what.

    Args:
        name: what is measured.
        value: the ratio, share or amount.
        against: the floor or the rival; empty for an amount that stands alone. No two figures of a
            benchmark share both name and this.
        unit: ``× as long`` for a ratio of times of which less is better, ``× as fast`` for one of
            which more is; or what an amount is counted in, such as ``MB``.
        better: which way is up.
        low, high: the quartiles over the rounds, where there were some.
    """

    name: str
    value: float
    against: str = ""
    unit: str = AS_LONG
    better: Literal["lower", "higher"] = "lower"
    low: float | None = None
    high: float | None = None

    @classmethod
    def as_long(cls, name: str, ratios: Sequence[float], against: str) -> Figure:
        """How many times as long something takes as what it is compared with."""
        return cls(name, median(ratios), against, AS_LONG, "lower", *_quartiles(ratios))

    @classmethod
    def as_fast(cls, name: str, ratios: Sequence[float], against: str) -> Figure:
        """How many times as fast something is as what it is compared with."""
        return cls(name, median(ratios), against, AS_FAST, "higher", *_quartiles(ratios))

    def __str__(self) -> str:
        spread = ""
        if self.low is not None and self.high is not None:
            spread = f" ({number(self.low)} to {number(self.high)})"
        return f"{number(self.value)}{spread} {self.unit}".rstrip()


def number(value: float) -> str:
    """A number with as many digits as tell something: 1.024, 3.41, 16.0, 1,234."""
    size = abs(value)
    digits = 3 if 0 < size < 2 else 2 if size < 10 else 1 if size < 100 else 0
    return f"{value:,.{digits}f}"


class Times(dict[str, list[float]]):
    """Seconds that each contender took, a round each."""

    def as_long(self, name: str, ours: str, against: str) -> Figure:
        """The ratio of two contenders' times, round by round."""
        ratios = [a / b for a, b in zip(self[ours], self[against], strict=True)]
        return Figure.as_long(name, ratios, against)

    def as_fast(self, name: str, ours: str, against: str) -> Figure:
        """The ratio of two contenders' speeds, round by round."""
        ratios = [b / a for a, b in zip(self[ours], self[against], strict=True)]
        return Figure.as_fast(name, ratios, against)


def _quartiles(ratios: Sequence[float]) -> tuple[float | None, float | None]:
    if len(ratios) < 3:
        return None, None
    low, _, high = quantiles(ratios, n=4, method="inclusive")
    return low, high
