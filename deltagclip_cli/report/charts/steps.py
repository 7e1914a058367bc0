"""How long the steps were: h/η beside the gradient norm, and what clipping did to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import TYPE_CHECKING

import numpy as np

from deltagclip_cli.core import REGIME_FRACTIONS
from deltagclip_cli.report.appearance import (
    LITERAL,
    DrawnSetting,
    drawable,
    left_out_note,
    wrapped,
)
from deltagclip_cli.report.charts.lines import (
    CROSS,
    POINTS_ON_PAPER,
    Band,
    Json,
    LegendEntry,
    PageLines,
    add_legend,
    clock,
    draw_line,
    end_entries,
    ends_of,
    pieces,
    set_limits,
    set_x,
    setting_entries,
)
from deltagclip_cli.results.compare.comparison import Comparison
from deltagclip_cli.results.read.run import Numbers, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEP_RATIO = "optim/step_size ÷ lr"
TITLES = {
    STEP_RATIO: "Step size, h/η",
    "optim/grad_norm": "Gradient norm, ‖g‖",
    "optim/lr": "Learning rate, η",
}

PLAIN, CLIPPED, FLOORED = REGIME_FRACTIONS.values()
NOT_FLOORED = "optim/plain or clipped_fraction"

CLIP_RATIO = "grad_clip_ratio"
"""Of the paper's own logs: the share of steps that were not floored."""

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
    """The shares of a setting's steps, by regime, over its epochs until a seed ends.

    Args:
        setting: whose steps they are.
        over: what has the epochs, steps and seconds of the points.
        shares: of the steps, at these.
        is_broken: whether a seed ends there before the end of its run.
        ends: the first epoch of the setting, and its last.
    """

    setting: DrawnSetting
    over: Band
    shares: Mapping[str, Numbers]
    is_broken: bool
    ends: Sequence[float]


@dataclass(frozen=True)
class Steps:
    """What optimizers tell of their steps."""

    comparison: Comparison
    settings: Sequence[DrawnSetting]
    kind = "step-size"
    heading = "What the step size did"

    def _lines(self, metric: str, most: int) -> list[tuple[DrawnSetting, list[Band]]]:
        ddof = self.comparison.question.ddof
        lines = [
            (each, pieces([_with_ratio(run) for run in each.row.once], metric, ddof, most))
            for each in self.settings
        ]
        is_dull = metric == "optim/lr" and not any(
            np.ptp(piece.mean) for _, found in lines for piece in found
        )
        return [] if is_dull else [(each, found) for each, found in lines if found]

    @cached_property
    def _areas(self) -> list[_Areas]:
        """Of the settings that figures show, those of which some steps were clipped or floored."""
        areas = []
        for setting in (each for each in self.settings if each.place is not None):
            runs = [_with_regimes(run) for run in setting.row.once]
            found = {name: each for name in _AREAS if (each := pieces(runs, name))}
            first = {name: each[0] for name, each in found.items()}
            if not any(first[name].mean.any() for name in (CLIPPED, FLOORED) if name in first):
                continue
            epochs = reduce(np.intersect1d, [each.epochs for each in first.values()])
            if not len(epochs):
                continue
            places = np.unique(
                np.linspace(0, len(epochs) - 1, POINTS_ON_PAPER).round().astype(np.intp)
            )
            at = {
                n: each.at(np.searchsorted(each.epochs, epochs[places]))
                for n, each in first.items()
            }
            areas.append(
                _Areas(
                    setting,
                    next(iter(at.values())),
                    {name: each.mean for name, each in at.items()},
                    any(each.is_broken for each in first.values()),
                    ends_of(piece for each in found.values() for piece in each),
                )
            )
        return areas

    # ---------------------------------------------------------------------- page

    def page(self, page: PageLines) -> Iterator[Json]:
        """Yield a chart for each metric, and one of the regimes of each setting."""
        for metric, title in TITLES.items():
            lines = [page.line(*each) for each in self._lines(metric, page.points)]
            if lines:
                yield page.chart(title, lines, is_log=True)
        for areas in self._areas:
            traces = [
                {
                    "row": areas.setting.number,
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
                "title": f"{areas.setting.name}: shares of steps",
                "traces": traces,
                "layout": {
                    "yaxis": {"tickformat": ".0%", "range": [0, 1]},
                    "showlegend": True,
                    "hovermode": "x unified",
                },
            }

    # --------------------------------------------------------------------- paper

    def paper(self) -> Figure | None:
        """Draw a row of panels for lines, and below it rows for areas; None without any."""
        lines = {
            metric: found
            for metric in TITLES
            if (
                found := [e for e in self._lines(metric, POINTS_ON_PAPER) if e[0].place is not None]
            )
        }
        areas = self._areas
        if STEP_RATIO not in lines and not areas:
            return None
        bands = [piece for of_metric in lines.values() for _, each in of_metric for piece in each]
        ends = [*ends_of(bands), *(end for each in areas for end in each.ends)]
        figure, above, below = _grid(len(lines), len(areas))
        for axes, (metric, of_metric) in zip(above, lines.items(), strict=True):
            set_limits(axes, [piece for _, each in of_metric for piece in each], is_log=True)
            for line in reversed(of_metric):
                draw_line(axes, *line)
            axes.set_ylabel(drawable(TITLES[metric]), **LITERAL)
            set_x(axes, ends, clock(self.comparison))
        for axes, each in zip(below, areas, strict=True):
            _draw_areas(axes, each)
            # The panels above the last row have the same epochs.
            set_x(axes, ends, clock(self.comparison) if _is_last(axes) else "", bins=4)
        having = [setting for of_metric in lines.values() for setting, _ in of_metric]
        entries = setting_entries(each for each in self.settings if each in having)
        entries += end_entries(bands, is_broken=any(each.is_broken for each in areas))
        entries += [
            _area_entry(name) for name in _AREAS if any(name in each.shares for each in areas)
        ]
        add_legend(figure, entries, left_out_note(self.comparison))
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
    hue = areas.setting.look.on_paper["color"]
    if areas.is_broken:
        axes.plot([x[-1]], [0.5], color=hue, **CROSS)
    axes.set_title(wrapped(drawable(areas.setting.name), _LETTERS, 2), color=hue, **LITERAL)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1], ["0", "", "1"])
    place = axes.get_subplotspec()
    if place is not None and place.is_first_col():
        axes.set_ylabel("Share of steps")


def _is_last(axes: Axes) -> bool:
    place = axes.get_subplotspec()
    return place is not None and place.is_last_row()


def _area_entry(name: str) -> LegendEntry:
    from matplotlib.patches import Patch

    words, shade, _ = _AREAS[name]
    return LegendEntry(Patch(color=shade, linewidth=0), drawable(words))
