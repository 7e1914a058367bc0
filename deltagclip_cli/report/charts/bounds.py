"""The convergence theorem in charts: what was measured, beside its bounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from deltagclip_cli.report.charts.lines import LineCharts, Panel
from deltagclip_cli.theory.certificate import certificates_of

if TYPE_CHECKING:
    from deltagclip_cli.report.appearance import DrawnSetting
    from deltagclip_cli.results.read.run import Curve, Numbers, Run

# The title of each chart, the metric that it shows, and what is dotted beside it.
_CHARTS = (
    ("Loss against its bound", "theory/loss", "theory/loss_bound", "bound"),
    ("PL* ratio against λ_min", "theory/pl_ratio", "theory/lambda_min", "λ_min"),
    ("Distance from w_0 against its bound", "theory/distance", "theory/distance_bound", "bound"),
    ("Curvature, β, and λ_max", "theory/beta", "theory/lambda_max", "λ_max"),
)
SHOWN = {name for _, metric, other, _ in _CHARTS for name in (metric, other)}
SHOWN |= {"theory/lambda_error", "theory/points", "theory/smooth"}  # which are no curves
"""Metrics that are in these charts, in one form or another."""


@dataclass(frozen=True)
class Bounds(LineCharts):
    """The quantities that the theorem bounds, of settings with certificates."""

    kind = "bounds"
    heading = "Certificate"

    def panels(self, settings: Sequence[DrawnSetting], most: int) -> Iterator[Panel]:
        """Yield each quantity, with two lines for each setting."""
        extended = self._with_bounds.__getitem__
        for title, metric, other, role in _CHARTS:
            lines = self.lines(settings, metric, most, extended=extended)
            lines += self.lines(settings, other, most, linestyle=":", role=role, extended=extended)
            if lines:
                yield Panel(title, lines)

    @cached_property
    def _with_bounds(self) -> dict[Run, Run]:
        return {run: _with_bounds(run) for each in self.settings for run in each.row.once}


def _with_bounds(run: Run) -> Run:
    """Add the curves of these charts to a run that has a certificate."""
    found = certificates_of([run])
    if not found:
        return run
    theorem, trajectory = found[0].theorem, found[0].trajectory
    whole = run.curves["train/loss"]
    dense = {
        "theory/loss": trajectory.losses,
        "theory/loss_bound": theorem.loss_bounds,
        "theory/pl_ratio": trajectory.ratios,
        "theory/distance": _positive(trajectory.distances),
        "theory/distance_bound": _positive(theorem.distance_bounds),
    }
    sparse = ("theory/lambda_min", "theory/lambda_max", "theory/beta")
    curves = {
        **run.curves,
        **{name: replace(whole, values=values) for name, values in dense.items()},
        **{name: _at(run.curves[name], trajectory.measured) for name in sparse},
    }
    known = {name: curve for name, curve in curves.items() if np.isfinite(curve.values).any()}
    return replace(run, curves=known)


def _positive(values: Numbers) -> Numbers:
    """Leave out the start, as a logarithmic axis has no place for 0."""
    return np.where(values > 0, values, np.nan)


def _at(curve: Curve, places: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Curve:
    """Return the points that were measured, which a line can join."""
    names = ("steps", "epochs", "seconds", "values")
    return replace(curve, **{name: getattr(curve, name)[places] for name in names})
