"""The lengths of steps: h/η beside the gradient norm, and what clipping did to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import TYPE_CHECKING

import numpy as np

from deltagclip_cli.core import CLIP_RATIO, REGIME_FRACTIONS
from deltagclip_cli.report.appearance import LITERAL, DrawnSetting, drawable, on_paper, wrapped
from deltagclip_cli.report.charts.lines import (
    CROSS,
    POINTS_ON_PAPER,
    Band,
    DrawnLine,
    Json,
    PageLines,
    add_line_legend,
    clock,
    draw_lines,
    ends_of,
    lines_of,
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
class Steps:
    """Everything that optimizers tell of their steps."""

    comparison: Comparison
    settings: Sequence[DrawnSetting]
    kind = "step-size"
    heading = "What the step size did"

    def _lines(
        self, settings: Sequence[DrawnSetting], most: int
    ) -> Iterator[tuple[str, list[DrawnLine]]]:
        """Yield the lines of each metric; not of learning rates that never change."""
        for metric in TITLES:
            ddof = self.comparison.question.ddof
            lines = lines_of(settings, metric, ddof, most, extended=_with_ratio)
            changes = any(np.ptp(piece.mean) for line in lines for piece in line.pieces)
            if lines and (changes or metric != "optim/lr"):
                yield metric, lines

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
        """Yield a chart for each metric, and one of the regimes of each setting."""
        for metric, lines in self._lines(self.settings, page.points):
            yield page.chart(TITLES[metric], lines, is_log=True)
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
        """Draw panels for lines, and below them areas; None if nobody tells of step sizes."""
        found, areas = dict(self._lines(on_paper(self.settings), POINTS_ON_PAPER)), self._areas
        if STEP_RATIO not in found and not areas:
            return None
        from matplotlib.patches import Patch

        everything = [line for lines in found.values() for line in lines]
        ends = ends_of([*everything, *(each.line for each in areas)])
        figure, above, below = _grid(len(found), len(areas))
        for axes, (metric, lines) in zip(above, found.items(), strict=True):
            draw_lines(axes, self.comparison, lines, is_log=True, ends=ends)
            axes.set_ylabel(drawable(TITLES[metric]), **LITERAL)
        for axes, each in zip(below, areas, strict=True):
            _draw_areas(axes, each)
            # The panels above the last row have the same epochs.
            place = axes.get_subplotspec()
            is_last = place is not None and place.is_last_row()
            set_x(axes, ends, clock(self.comparison) if is_last else "", bins=4)
        having = sorted({line.setting for line in everything}, key=lambda each: each.number)
        entries = [
            Patch(color=shade, linewidth=0, label=drawable(words))
            for name, (words, shade, _) in _AREAS.items()
            if any(name in each.shares for each in areas)
        ]
        broken = [replace(each.line, pieces=[each.over]) for each in areas]
        add_line_legend(figure, self.comparison, having, [*everything, *broken], entries)
        return figure


def _with_ratio(run: Run) -> Run:
    """Add h/η, the part of the learning rate that the steps of a run had."""
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


def _grid(lines: int, areas: int) -> tuple[Figure, Sequence[Axes], Sequence[Axes]]:
    """Return a figure with panels for lines, two in a row, and rows for areas, all alike."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    width, height = rcParams["figure.figsize"]
    columns = 2 if areas <= 2 else 2 * max(1, int(width / _LEAST_WIDTH / 2))
    span = columns // min(2, max(1, lines))  # of a panel for lines
    rows = -(-lines * span // columns)
    heights = [*[1.0] * rows, *[_AREA_HEIGHT] * -(-areas // columns)]
    figure = Figure(figsize=(width, height * sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    places = [divmod(span * number, columns) for number in range(lines)]
    above = [figure.add_subplot(grid[row, at : at + span]) for row, at in places]
    places = [divmod(number, columns) for number in range(areas)]
    below = [figure.add_subplot(grid[rows + row, at]) for row, at in places]
    return figure, above, below


def _draw_areas(axes: Axes, areas: _Areas) -> None:
    shares = np.array(list(areas.shares.values()))
    x = areas.over.epochs
    if len(x) == 1:  # an area of no width cannot be seen
        x, shares = np.array([x[0] - 0.5, x[0] + 0.5]), shares.repeat(2, axis=1)
    axes.stackplot(x, shares, colors=[_AREAS[name][1] for name in areas.shares], linewidth=0)
    hue = areas.line.setting.look.on_paper["color"]
    if areas.over.is_broken:
        axes.plot([x[-1]], [0.5], color=hue, **CROSS)
    axes.set_title(wrapped(drawable(areas.line.setting.name), _LETTERS, 2), color=hue, **LITERAL)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1], ["0", "", "1"])
    place = axes.get_subplotspec()
    if place is not None and place.is_first_col():
        axes.set_ylabel("Share of steps")
