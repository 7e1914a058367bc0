"""Measures what a certificate needs while a trial is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from deltagclip_cli.theory.landscape import Landscape
from deltagclip_cli.theory.rounding import ROUNDING, falls_short, slack

Numbers = dict[str, float]


class CertificateProbe:
    """Gives ``theory/...`` metrics of the weights that an epoch begins with.

    A trial with a certificate makes one step an epoch, so these are the weights at which the record
    of the epoch has its ``train/loss``, its ``optim/grad_norm`` and its step size. The last record
    is that of the weights before the last step.

    ============================  =====================================================
    ``theory/distance``           ‖w_t - w_0‖, at every step
    ``theory/lambda_min``         least eigenvalue of the tangent kernel
    ``theory/lambda_max``         its largest one
    ``theory/lambda_error``       how far rounding, or a search cut short, may have put them off
    ``theory/beta``               largest eigenvalue of the Hessian
    ``theory/points``             n, by which ``train/loss`` is to be multiplied for L(w)
    ``theory/smooth``             1 if the network is known to be smooth, else 0
    ============================  =====================================================

    All but the first are there for the first epoch, every so many after it, and the last. So they
    are for a step whose PL* ratio ‖∇L‖²/(2L) is below every λ_min that was measured, for there the
    kernel tells whether PL* is violated or λ_min is less than was known; but as often again as
    planned at the most.

    Args:
        landscape: at the first weights of the trial, w_0, of which a copy is kept.
        every: so many epochs.
        epochs: of the whole trial.
        precision: of the training, ``fp64`` or ``fp32``.
    """

    def __init__(self, landscape: Landscape, *, every: int, epochs: int, precision: str) -> None:
        self._landscape = landscape
        self._start = self._position = landscape.position()
        self._every = every
        self._last = epochs - 1
        self._rounding = ROUNDING[precision]
        self._smooth = float(landscape.is_smooth())
        self._least = math.inf  # λ_min so far
        self._first_loss = math.nan
        self._credit = 0  # how many measurements may be made beside those that are planned

    def before(self, epoch: int) -> Numbers:
        """The metrics of the weights that come after so many finished epochs."""
        self._position = self._landscape.position()
        numbers = {"theory/distance": float((self._position - self._start).norm())}
        if epoch % self._every == 0 or epoch == self._last:
            self._credit += 1
            numbers |= self._spectra()
        return numbers

    def after(self, metrics: Mapping[str, float]) -> Numbers:
        """More metrics of the same weights, if those of the step that was made there ask for it."""
        loss = self._landscape.points * metrics["train/loss"]
        if math.isnan(self._first_loss):
            self._first_loss = loss
        norm = metrics.get("optim/grad_norm", math.nan)
        if "theory/lambda_min" in metrics or not self._credit or not 0 < loss < math.inf:
            return {}
        doubt = slack(self._first_loss, self._rounding) / math.sqrt(loss)
        if not falls_short(norm**2 / (2 * loss), self._least, doubt):
            return {}
        self._credit -= 1
        return self._spectra()

    def state_dict(self) -> dict[str, Any]:
        """What a continuation needs to measure at the same steps."""
        return {"least": self._least, "first_loss": self._first_loss, "credit": self._credit}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self._least = state["least"]
        self._first_loss = state["first_loss"]
        self._credit = state["credit"]

    def _spectra(self) -> Numbers:
        at: Tensor = self._position
        low, high = self._landscape.kernel_extremes(at)
        self._least = min(self._least, low.value)
        return {
            "theory/lambda_min": low.value,
            "theory/lambda_max": high.value,
            "theory/lambda_error": low.error,
            "theory/beta": self._landscape.smoothness(at),
            "theory/points": self._landscape.points,
            "theory/smooth": self._smooth,
        }
