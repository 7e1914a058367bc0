"""When in a run a metric is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from deltagclip_cli.core import UsageError
from deltagclip_cli.results.read.run import Curve, Outcome, Run


class _Kind(StrEnum):
    LAST = "last"
    BEST = "best"
    EPOCH = "epoch"
    STEP = "step"


class Missing(StrEnum):
    """Why a run that did not fail has no value at a moment."""

    SHORTER = "shorter"
    EARLIER = "not yet measured"
    WITHOUT = "without the metric"


@dataclass(frozen=True)
class Moment:
    """The last epoch, the best one, or a given epoch or step.

    Args:
        kind: which of these.
        at: the number of the epoch or step; None for the other two.
        unit: what is counted: ``epoch``, or ``step`` where nobody knows what an epoch is.
    """

    kind: _Kind = _Kind.LAST
    at: int | None = None
    unit: str = "epoch"

    @classmethod
    def parse(cls, text: str) -> Moment:
        """``last``, ``best``, ``epoch=N`` or ``step=N``.

        Raises:
            UsageError: it is something else.
        """
        kind, equals, number = text.partition("=")
        if kind in (_Kind.LAST, _Kind.BEST) and not equals:
            return cls(_Kind(kind))
        if kind in (_Kind.EPOCH, _Kind.STEP) and number.isascii() and number.isdigit():
            return cls(_Kind(kind), int(number))
        raise UsageError(f"--at {text}: say last, best, epoch=N or step=N.")

    def __str__(self) -> str:
        if self.at is not None:
            return f"at {self.kind} {self.at}"
        return f"at the {self.kind} {self.unit}"

    @property
    def is_chosen(self) -> bool:
        """Whether the moment is chosen by the value that is read there, which flatters it."""
        return self.kind is _Kind.BEST

    def value(self, run: Run, metric: str, *, higher_is_better: bool) -> float | Outcome | Missing:
        """A metric of a run; NaN if the run has diverged; or why there is none.

        A run that ended early counts where a given epoch or step came before its end.
        """
        curve = run.curves.get(metric)
        if self.at is not None and curve is not None and self._positions(curve)[-1] >= self.at:
            return _until(self._positions(curve), curve.values, self.at)
        if run.outcome is Outcome.DIVERGED:
            return math.nan
        if run.outcome is not Outcome.FINISHED:
            return run.outcome
        if curve is None:
            return Missing.WITHOUT
        if self.at is not None:
            return Missing.SHORTER
        return _best(curve, higher_is_better) if self.is_chosen else float(curve.values[-1])

    @property
    def option(self) -> str:
        """The words of the user that ask for it."""
        return f"--at {self.kind}" + ("" if self.at is None else f"={self.at}")

    def end(self, curve: Curve) -> float:
        """Where a curve ends, in epochs or steps as the moment is."""
        return float(self._positions(curve)[-1])

    def _positions(self, curve: Curve) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return curve.epochs if self.kind is _Kind.EPOCH else curve.steps


def _until(positions: np.ndarray, values: np.ndarray, at: int) -> float | Missing:
    """The last value that was recorded until then."""
    index = int(np.searchsorted(positions, at, side="right")) - 1
    return float(values[index]) if index >= 0 else Missing.EARLIER


def _best(curve: Curve, higher_is_better: bool) -> float:
    finite = curve.values[np.isfinite(curve.values)]
    if not len(finite):
        return math.nan
    return float(finite.max() if higher_is_better else finite.min())
