"""The convergence theorem in charts: what was measured, beside its bounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from deltagclip_cli.core import UsageError
from deltagclip_cli.report.appearance import LITERAL, DrawnSetting, drawable, on_paper
from deltagclip_cli.report.charts.lines import (
    POINTS_ON_PAPER,
    DrawnLine,
    Json,
    PageLines,
    add_line_legend,
    draw_lines,
    entry,
    lines_of,
    panels,
)
from deltagclip_cli.theory.certificate import Certificate, certificate_of
from deltagclip_cli.theory.verdict import is_measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deltagclip_cli.results.compare.comparison import Comparison
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


def certificates_of(runs: Sequence[Run]) -> list[Certificate]:
    """Return the certificates of those runs that have one."""
    found = []
    for run in runs:
        if is_measured(run.curves):
            try:
                found.append(certificate_of(run))
            except UsageError:  # such as another program's, with metrics of these names
                continue
    return found


@dataclass(frozen=True)
class Bounds:
    """The quantities that the theorem bounds, of settings with certificates."""

    comparison: Comparison
    settings: Sequence[DrawnSetting]
    kind = "bounds"
    heading = "Certificate"

    def _panels(
        self, settings: Sequence[DrawnSetting], most: int
    ) -> Iterator[tuple[str, list[DrawnLine]]]:
        ddof, extended = self.comparison.question.ddof, self._with_bounds.__getitem__
        for title, metric, other, role in _CHARTS:
            lines = lines_of(settings, metric, ddof, most, extended=extended)
            lines += lines_of(settings, other, ddof, most, style=":", role=role, extended=extended)
            if lines:
                yield title, lines

    @cached_property
    def _with_bounds(self) -> dict[Run, Run]:
        return {run: _with_bounds(run) for each in self.settings for run in each.row.once}

    def page(self, page: PageLines) -> Iterator[Json]:
        """Yield a chart for each quantity, with two lines for each setting."""
        for title, lines in self._panels(self.settings, page.points):
            yield page.chart(title, lines, is_log=True)

    def paper(self) -> Figure | None:
        """Draw a panel for each quantity; None without certificates."""
        found = list(self._panels(on_paper(self.settings), POINTS_ON_PAPER))
        if not found:
            return None
        figure, grid = panels(len(found))
        for axes, (title, lines) in zip(grid, found, strict=True):
            draw_lines(axes, self.comparison, lines, is_log=True)
            axes.set_title(drawable(title), **LITERAL)
        everything = [line for _, lines in found for line in lines]
        having = list(dict.fromkeys(line.setting for line in everything))
        others = [entry("bound, λ_min or λ_max", linestyle=":")]
        add_line_legend(figure, self.comparison, having, everything, others)
        return figure


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
