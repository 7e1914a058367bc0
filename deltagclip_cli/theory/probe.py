"""The numbers that a certificate needs, measured while a trial is trained, and their rounding."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deltagclip_cli.theory.landscape import Landscape

EIGENVALUES = 1e-6
"""How well β and the kernel's eigenvalues are known, relatively, with digits to spare."""

ROUNDING = {"fp64": 2.0**-52, "fp32": 2.0**-23}
"""Relative, of one number of a training, by its precision."""


def slack(first_loss: float, rounding: float) -> float:
    """Return what rounding may add to ‖F(w) - y‖/√2, the root of a loss.

    The outputs are as large as the first residuals, about, and each is a sum of some thousand
    products, which cancel; a hundred roundings of the largest were never exceeded.
    """
    return 100 * rounding * math.sqrt(first_loss)


def falls_short(ratio: Any, mu: float, doubt: Any) -> Any:
    """Tell whether a PL* ratio ‖∇L‖²/(2L), or each of an array, is below μ by more than rounding.

    ``doubt``, which is relative, is of the root of the loss. It counts twice in L, and as often in
    the gradient.
    """
    return ratio < mu * (1 - EIGENVALUES - 4 * doubt)


class CertificateProbe:
    """Gives ``theory/...`` metrics of the weights that an epoch begins with.

    A trial with a certificate makes one step an epoch, so these are the weights at which the record
    of the epoch has its ``train/loss``, its ``optim/grad_norm`` and its step size. The last record
    is that of the weights before the last step. The landscape is at the first weights, w_0.

    ``theory/distance`` is there for every epoch, and the others (``MEANINGS`` of ``core``) for the
    first epoch, every so many after it, and the last. So they are for a step whose PL* ratio
    ‖∇L‖²/(2L) is below every λ_min that was measured, for there the kernel tells whether PL* is
    violated or λ_min is less than was known; but as often again as planned at the most.
    """

    def __init__(self, landscape: Landscape, *, every: int, epochs: int, precision: str) -> None:
        self._landscape = landscape
        self._start = landscape.position()
        self._every = every
        self._last = epochs - 1
        self._rounding = ROUNDING[precision]
        self._smooth = float(landscape.is_smooth())
        self._least = math.inf  # λ_min so far
        self._first_loss = math.nan
        self._credit = 0  # how many measurements may be made beside those that are planned

    def before(self, epoch: int) -> dict[str, float]:
        """Return the metrics of the weights that come after so many finished epochs."""
        self._landscape.update()
        numbers = {"theory/distance": float((self._landscape.position() - self._start).norm())}
        if epoch % self._every == 0 or epoch == self._last:
            self._credit += 1
            numbers |= self._spectra()
        return numbers

    def after(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return more metrics of the same weights, if the step that was made there asks for it."""
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
        """Return what a continuation needs to measure at the same steps."""
        return {"least": self._least, "first_loss": self._first_loss, "credit": self._credit}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self._least = state["least"]
        self._first_loss = state["first_loss"]
        self._credit = state["credit"]

    def _spectra(self) -> dict[str, float]:
        low, high = self._landscape.kernel_extremes()
        self._least = min(self._least, low.value)
        return {
            "theory/lambda_min": low.value,
            "theory/lambda_max": high.value,
            "theory/lambda_error": low.error,
            "theory/beta": self._landscape.smoothness(),
            "theory/points": self._landscape.points,
            "theory/smooth": self._smooth,
        }
