"""Measures what a certificate needs while a trial is trained."""

from __future__ import annotations

from deltagclip_cli.landscape.landscape import Landscape

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
    ============================  =====================================================

    All but the first are there for the first epoch, every so many after it, and the last.

    Args:
        landscape: at the first weights of the trial, w_0, of which a copy is kept.
        every: so many epochs.
        epochs: of the whole trial.
    """

    def __init__(self, landscape: Landscape, *, every: int, epochs: int) -> None:
        self._landscape = landscape
        self._start = landscape.position()
        self._every = every
        self._last = epochs - 1

    def __call__(self, epoch: int) -> Numbers:
        """The metrics of the weights that come after so many finished epochs."""
        distance = float((self._landscape.position() - self._start).norm())
        numbers = {"theory/distance": distance}
        if epoch % self._every == 0 or epoch == self._last:
            numbers |= self._spectra()
        return numbers

    def _spectra(self) -> Numbers:
        low, high = self._landscape.kernel_extremes()
        return {
            "theory/lambda_min": low.value,
            "theory/lambda_max": high.value,
            "theory/lambda_error": low.error,
            "theory/beta": self._landscape.smoothness(),
            "theory/points": self._landscape.points,
        }
