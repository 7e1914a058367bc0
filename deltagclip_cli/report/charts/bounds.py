"""The convergence theorem in charts: what was measured, beside its bounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from deltagclip_cli.core import UsageError
from deltagclip_cli.report.appearance import LITERAL, DrawnSetting, drawable, left_out_note
from deltagclip_cli.report.charts.lines import (
    POINTS_ON_PAPER,
    Band,
    Json,
    PageLines,
    add_legend,
    clock,
    draw_line,
    end_entries,
    ends_of,
    entry,
    panels,
    pieces,
    set_limits,
    set_x,
    setting_entries,
)
from deltagclip_cli.results.compare.comparison import Comparison
from deltagclip_cli.results.read.run import Curve, Numbers, Run
from deltagclip_cli.theory.certificate import Certificate, certificate_of
from deltagclip_cli.theory.verdict import is_measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    """What the theorem bounds, of settings with certificates."""

    comparison: Comparison
    settings: Sequence[DrawnSetting]
    kind = "bounds"
    heading = "Certificate"

    @cached_property
    def _runs(self) -> list[tuple[DrawnSetting, list[Run]]]:
        return [(each, [_with_bounds(run) for run in each.row.once]) for each in self.settings]

    def _lines(self, metric: str, most: int) -> list[tuple[DrawnSetting, list[Band]]]:
        ddof = self.comparison.question.ddof
        lines = [(each, pieces(runs, metric, ddof, most)) for each, runs in self._runs]
        return [(each, found) for each, found in lines if found]

    def page(self, page: PageLines) -> Iterator[Json]:
        """Yield a chart for each quantity, with two lines for each setting."""
        for title, metric, other, role in _CHARTS:
            lines = [page.line(*each) for each in self._lines(metric, page.points)]
            lines += [page.line(*each, role) for each in self._lines(other, page.points)]
            if lines:
                yield page.chart(title, lines, is_log=True)

    def paper(self) -> Figure | None:
        """Draw a panel for each quantity; None without certificates."""
        found = []
        for title, metric, other, _ in _CHARTS:
            lines = [(*each, "-") for each in self._lines(metric, POINTS_ON_PAPER)]
            lines += [(*each, ":") for each in self._lines(other, POINTS_ON_PAPER)]
            lines = [line for line in lines if line[0].place is not None]
            if lines:
                found.append((title, lines))
        if not found:
            return None
        figure, grid = panels(len(found))
        for axes, (title, lines) in zip(grid, found, strict=True):
            bands = [piece for _, each, _ in lines for piece in each]
            set_limits(axes, bands, is_log=True)
            for line in reversed(lines):
                draw_line(axes, *line)
            axes.set_title(drawable(title), **LITERAL)
            set_x(axes, ends_of(bands), clock(self.comparison))
        having = {setting.number for _, lines in found for setting, _, _ in lines}
        entries = setting_entries(each for each in self.settings if each.number in having)
        entries.append(entry("bound, λ_min or λ_max", linestyle=":"))
        entries += end_entries([b for _, lines in found for _, each, _ in lines for b in each])
        add_legend(figure, entries, left_out_note(self.comparison))
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
    return replace(
        curve,
        steps=curve.steps[places],
        epochs=curve.epochs[places],
        seconds=curve.seconds[places],
        values=curve.values[places],
    )
