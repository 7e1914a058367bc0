"""Steps: h/η beside the gradient norm, and what clipping did to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import TYPE_CHECKING

import numpy as np

from deltagclip_cli.core import CLIP_RATIO, REGIME_FRACTIONS, printable
from deltagclip_cli.report.appearance import LITERAL, DrawnSetting, on_paper, wrapped
from deltagclip_cli.report.charts.lines import (
    CROSS,
    POINTS_ON_PAPER,
    Band,
    DrawnLine,
    Json,
    LineCharts,
    PageLines,
    Panel,
    add_line_legend,
    clock,
    empty_panels,
    ends_of,
    pieces,
    set_x,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from deltagclip_cli.results.compare.comparison import Comparison
    from deltagclip_cli.results.read.run import Numbers, Run

STEP_RATIO = "optim/step_size ÷ lr"
TITLES = {
    STEP_RATIO: "Step size, h/η",
    "optim/grad_norm": "Gradient norm, ‖g‖",
    "optim/lr": "Learning rate, η",
}

PLAIN, CLIPPED, FLOORED = REGIME_FRACTIONS.values()
NOT_FLOORED = "optim/plain or clipped_fraction"

# Words, a grey for paper, where colours tell the settings, and a colour for the page; from the
# longest steps to the shortest.
_AREAS = {
    PLAIN: ("plain, h = η", "0.92", "#0072B2"),
    NOT_FLOORED: ("plain or clipped", "0.82", "#0072B2"),
    CLIPPED: ("clipped, h = ηγ/‖g‖", "0.68", "#E69F00"),
    FLOORED: ("floored, h = ηδ", "0.3", "#D55E00"),
}
SHOWN = {*TITLES, *_AREAS, "optim/step_size", CLIP_RATIO}
"""Metrics that are in these charts, in one form or another."""

_LEAST_WIDTH = 1.5  # inches of an area: four in a row of the paper's width
_LETTERS = 30  # of a name above an area
_AREA_HEIGHT = 0.62  # of a panel's


@dataclass(frozen=True, eq=False)
class _Areas:
    """The shares of a setting's steps, by regime, over its epochs until a seed ends."""

    line: DrawnLine  # one of these shares, over all epochs of the setting
    over: Band  # the points of the areas; broken if a seed ends there before the end of its run
    shares: Mapping[str, Numbers]  # of the steps, at these


@dataclass(frozen=True)
class Steps(LineCharts):
    """The lengths of steps, the gradient norms and the learning rates that made them."""

    kind = "step-size"
    heading = "What the step size did"

    def panels(self, settings: Sequence[DrawnSetting], most: int) -> Iterator[Panel]:
        """Yield each metric; not learning rates that never change."""
        for metric, title in TITLES.items():
            lines = self.lines(settings, metric, most, extended=_with_ratio)
            changes = any(np.ptp(piece.mean) for line in lines for piece in line.pieces)
            if lines and (changes or metric != "optim/lr"):
                yield Panel(title, lines)


@dataclass(frozen=True)
class Regimes:
    """The shares of steps that were clipped or floored, an area chart for each setting."""

    comparison: Comparison
    settings: Sequence[DrawnSetting]
    kind = "regimes"
    heading = "Which steps were clipped"

    @cached_property
    def _areas(self) -> list[_Areas]:
        """Of the settings that figures show, those of which some steps were clipped or floored."""
        areas = []
        for setting in on_paper(self.settings):
            runs = [_with_regimes(run) for run in setting.row.once]
            found = {name: each for name in _AREAS if (each := pieces(runs, name))}
            first = {name: each[0] for name, each in found.items()}
            was_cut = any(first[name].mean.any() for name in (CLIPPED, FLOORED) if name in first)
            if was_cut:
                epochs = reduce(np.intersect1d, [each.epochs for each in first.values()])
                some = np.linspace(0, len(epochs) - 1, min(len(epochs), POINTS_ON_PAPER))
                epochs = epochs[some.round().astype(np.intp)]
                at = {n: each.at(np.searchsorted(each.epochs, epochs)) for n, each in first.items()}
                over = replace(at[FLOORED], is_whole=True)
                shares = {name: each.mean for name, each in at.items()}
                areas.append(_Areas(DrawnLine(setting, found[FLOORED]), over, shares))
        return [each for each in areas if len(each.over.epochs)]

    def page(self, page: PageLines) -> Iterator[Json]:
        """Yield a chart for each setting that figures show."""
        for areas in self._areas:
            traces = [
                {
                    "row": areas.line.setting.number,
                    "axis": page.axis_of(areas.over),
                    "y": np.round(shares, 6).tolist(),
                    "name": _AREAS[name][0].partition(",")[0],
                    "stackgroup": "one",
                    "mode": "lines",
                    "line": {"width": 0.5, "color": _AREAS[name][2]},
                    "fillcolor": f"{_AREAS[name][2]}BF",
                    "hovertemplate": "%{y:.1%}<extra>%{fullData.name}</extra>",
                }
                for name, shares in areas.shares.items()
            ]
            yield {
                "title": f"{areas.line.setting.name}: shares of steps",
                "traces": traces,
                "layout": {
                    "yaxis": {"tickformat": ".0%", "range": [0, 1]},
                    "showlegend": True,
                    "hovermode": "x unified",
                },
            }

    def paper(self) -> Figure | None:
        """Draw a panel for each setting; None if no step was clipped or floored."""
        from matplotlib import rcParams
        from matplotlib.patches import Patch

        if not self._areas:
            return None
        columns = max(2, int(rcParams["figure.figsize"][0] / _LEAST_WIDTH))
        figure, grid = empty_panels(len(self._areas), columns, _AREA_HEIGHT)
        ends = ends_of(each.line for each in self._areas)
        for axes, each in zip(grid, self._areas, strict=True):
            _draw_areas(axes, each)
            set_x(axes, ends, clock(self.comparison), bins=4)
        grid[0].set_ylabel("Share of steps")
        entries = [
            Patch(color=shade, linewidth=0, label=words)
            for name, (words, shade, _) in _AREAS.items()
            if any(name in each.shares for each in self._areas)
        ]
        drawn = [replace(each.line, pieces=[each.over]) for each in self._areas]
        add_line_legend(figure, self.comparison, entries, drawn)
        return figure


def _with_ratio(run: Run) -> Run:
    """Add h/η, the part of the learning rate that the steps of a run had.

    Not where η changes from step to step: it is known of the last one, and h as the mean of all.
    """
    schedule = None if run.trial is None else run.trial.schedule
    if schedule is not None and schedule.unit == "step":
        return run
    step, rate = (run.curves.get(f"optim/{name}") for name in ("step_size", "lr"))
    if step is None or rate is None or len(step.values) != len(rate.values):
        return run
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = replace(step, values=step.values / rate.values)
    return replace(run, curves={**run.curves, STEP_RATIO: ratio})


def _with_regimes(run: Run) -> Run:
    """Add the share of floored steps to a run whose clip ratio tells that."""
    ratio = run.curves.get(CLIP_RATIO)
    if ratio is None or FLOORED in run.curves:
        return run
    floored = replace(ratio, values=1 - ratio.values)
    return replace(run, curves={**run.curves, NOT_FLOORED: ratio, FLOORED: floored})


def _draw_areas(axes: Axes, areas: _Areas) -> None:
    shares = np.array(list(areas.shares.values()))
    x = areas.over.x
    if len(x) == 1:  # an area of no width cannot be seen
        x, shares = np.array([x[0] - 0.5, x[0] + 0.5]), shares.repeat(2, axis=1)
    axes.stackplot(x, shares, colors=[_AREAS[name][1] for name in areas.shares], linewidth=0)
    hue = areas.line.setting.style.on_paper["color"]
    if areas.over.is_broken:
        axes.plot([x[-1]], [0.5], color=hue, **CROSS)
    axes.set_title(wrapped(printable(areas.line.setting.name), _LETTERS, 2), color=hue, **LITERAL)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1], ["0", "", "1"])
