"""The course of a full-batch run: what was recorded at each step, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltagclip_cli.core import REGIME_FRACTIONS, REGIMES
from deltagclip_cli.results.read.run import Curve, Numbers
from deltagclip_cli.theory.rounding import ROUNDING, slack


@dataclass(frozen=True, eq=False)
class Course:
    """A run of T steps, of which each record has what belongs to the weights before the step.

    Args:
        steps: their numbers, from 1, (T,).
        losses: L(w) = ½‖F(w) - y‖², (T,); NaN where it was not finite.
        gradients: ‖∇L(w)‖, (T,).
        rates: η, (T,).
        step_sizes: h, (T,); NaN where the optimizer has none.
        distances: ‖w - w_0‖, (T,); NaN where it was not measured.
        measured: the places of those steps at which the kernel and the Hessian were, (M,).
        lambda_min: least eigenvalue of the tangent kernel, (M,).
        lambda_max: its largest, (M,).
        lambda_error: how far off they may be, (M,).
        beta: largest eigenvalue of the Hessian, (M,).
        is_smooth: whether the network is known to be smooth; None if nobody looked.
        regimes: how many steps were plain, clipped and floored; None for what does not clip.
        rounding: relative, of one number of the training.
    """

    steps: NDArray[np.int64]
    losses: Numbers
    gradients: Numbers
    rates: Numbers
    step_sizes: Numbers
    distances: Numbers
    measured: NDArray[np.intp]
    lambda_min: Numbers
    lambda_max: Numbers
    lambda_error: Numbers
    beta: Numbers
    is_smooth: bool | None
    regimes: Mapping[str, int] | None
    rounding: float

    @property
    def slack(self) -> float:
        """What rounding may add to the root of a loss."""
        return slack(float(self.losses[0]), self.rounding)

    @property
    def ratios(self) -> Numbers:
        """‖∇L‖²/(2L), which is at least μ where L is μ-PL*, (T,)."""
        with np.errstate(all="ignore"):
            return np.asarray(self.gradients**2 / (2 * self.losses))

    @property
    def doubts(self) -> Numbers:
        """What rounding may have done to the root of each loss, relatively, (T,)."""
        with np.errstate(all="ignore"):
            return np.asarray(self.slack / np.sqrt(self.losses))

    @property
    def empirical_mu(self) -> float:
        """The smallest ratio that rounding has not touched."""
        known = self.ratios[self.doubts < 0.01]
        return float(np.nanmin(known)) if len(known) else float("nan")

    @property
    def factor(self) -> float:
        """By what the loss was multiplied in a step, on (geometric) average."""
        with np.errstate(all="ignore"):
            ratio = self.losses[-1] / self.losses[0]
            return float(ratio ** (1 / max(1, len(self.losses) - 1)))


def is_measured(curves: Mapping[str, Curve]) -> bool:
    """Whether a run has what a certificate needs."""
    return "theory/lambda_min" in curves and "theory/beta" in curves


def course_of(curves: Mapping[str, Curve], precision: str) -> Course:
    """The course of a run that :func:`is_measured`.

    Args:
        curves: of the run, by their metrics.
        precision: that it was trained in, ``fp64`` or ``fp32``.
    """
    loss = curves["train/loss"]

    def values(name: str) -> Numbers:
        return curves[name].values if name in curves else np.full(len(loss.values), np.nan)

    measured = np.flatnonzero(np.isfinite(values("theory/points")))
    points = values("theory/points")[measured[0]]
    smooth = values("theory/smooth")[measured]
    return Course(
        steps=loss.steps.astype(np.int64),
        losses=points * loss.values,
        gradients=values("optim/grad_norm"),
        rates=values("optim/lr"),
        step_sizes=values("optim/step_size"),
        distances=values("theory/distance"),
        measured=measured,
        lambda_min=values("theory/lambda_min")[measured],
        lambda_max=values("theory/lambda_max")[measured],
        lambda_error=values("theory/lambda_error")[measured],
        beta=values("theory/beta")[measured],
        is_smooth=bool(smooth[0]) if np.isfinite(smooth[0]) else None,
        regimes=_regimes(curves),
        rounding=ROUNDING[precision],
    )


def _regimes(curves: Mapping[str, Curve]) -> dict[str, int] | None:
    shares = {name: curves.get(REGIME_FRACTIONS[name]) for name in REGIMES}
    counts = {
        name: round(float(np.nansum(curve.values)))
        for name, curve in shares.items()
        if curve is not None
    }
    return counts if len(counts) == len(REGIMES) else None
