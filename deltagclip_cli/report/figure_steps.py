"""How long the steps were: h/η beside the gradient norm, and what clipping did to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deltagclip_cli.comparison.comparison import Comparison
from deltagclip_cli.curves.run import Numbers
from deltagclip_cli.report.figure_curves import key_of_ends
from deltagclip_cli.report.figure_legend import Entry, add_legend, entry
from deltagclip_cli.report.figure_lines import draw_line, mark_ends, set_limits, set_x
from deltagclip_cli.report.figure_settings import Setting, colour, note
from deltagclip_cli.report.figure_text import LITERAL, drawable, wrapped
from deltagclip_cli.report.figure_traces import Trace, traces
from deltagclip_cli.report.step_sizes import (
    CLIPPED,
    FLOORED,
    NOT_FLOORED,
    PLAIN,
    STEP_RATIO,
    TITLES,
    with_ratio,
    with_regimes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_METRICS = (STEP_RATIO, "optim/grad_norm")
# From light to dark by how much is cut off; greys, for colours tell the settings.
_AREAS = {
    PLAIN: ("0.92", "plain, h = η"),
    NOT_FLOORED: ("0.82", "plain or clipped"),
    CLIPPED: ("0.68", "clipped, h = ηγ/‖g‖"),
    FLOORED: ("0.3", "floored, h = ηδ"),
}
_LEAST_WIDTH = 1.5  # inches of an area: four in a row of the paper's width
_LETTERS = 30  # of a name above an area
_AREA_HEIGHT = 0.62  # of a panel's


@dataclass(frozen=True, eq=False)
class Areas:
    """The shares of a setting's steps, by regime, over its epochs."""

    setting: Setting
    x: Numbers
    shares: Mapping[str, Numbers]


def draw_steps(comparison: Comparison, settings: Sequence[Setting]) -> Figure | None:
    """What is known of steps; None if no optimizer tells of its own."""
    ddof = comparison.question.ddof
    lines = {metric: _lines(settings, metric, ddof) for metric in _METRICS}
    lines = {metric: found for metric, found in lines.items() if found}
    areas = [found for setting in settings for found in _areas(setting)]
    if STEP_RATIO not in lines and not areas:
        return None
    label = "Epoch" if comparison.has_epochs else "Step"
    figure, above, below = _sheet(len(lines), len(areas))
    for axes, (metric, of_metric) in zip(above, lines.items(), strict=True):
        _draw_lines(axes, metric, of_metric, label)
    for axes, each in zip(below, areas, strict=False):
        _draw_areas(axes, each)
    _trim(below, len(areas), label)
    pieces = [piece for of_metric in lines.values() for _, each in of_metric for piece in each]
    having = [setting for of_metric in lines.values() for setting, _ in of_metric]
    shown = [setting for setting in settings if setting in having]
    entries = [*map(entry, shown), *key_of_ends(pieces), *_key(areas)]
    add_legend(figure, entries, note(comparison))
    return figure


def _lines(
    settings: Sequence[Setting], metric: str, ddof: int
) -> list[tuple[Setting, Sequence[Trace]]]:
    found = [
        (setting, traces([with_ratio(run) for run in setting.runs], metric, ddof))
        for setting in settings
    ]
    return [(setting, pieces) for setting, pieces in found if pieces]


def _areas(setting: Setting) -> Iterator[Areas]:
    """One, if some steps were clipped or floored; where all were plain, it would say nothing.

    It ends where a seed does.
    """
    runs = [with_regimes(run) for run in setting.runs]
    found = {name: traces(runs, name) for name in _AREAS}
    whole = {name: pieces[0] for name, pieces in found.items() if pieces}
    if any(whole[name].mean.any() for name in (CLIPPED, FLOORED) if name in whole):
        x = next(iter(whole.values())).x
        # Long lines are thinned, each to points of its own.
        shares = {name: np.interp(x, each.x, each.mean) for name, each in whole.items()}
        yield Areas(setting, x, shares)


def _sheet(lines: int, areas: int) -> tuple[Figure, Sequence[Axes], Sequence[Axes]]:
    """A figure with a row of panels for lines and rows for areas, either of its own columns."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    width, height = rcParams["figure.figsize"]
    columns = max(1, min(areas, int(width / _LEAST_WIDTH)))
    rows = -(-areas // columns)
    heights = [*([1.0] if lines else []), *([_AREA_HEIGHT * rows] if rows else [])]
    figure = Figure(figsize=(width, height * sum(heights)), layout="constrained")
    parts = list(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
    above = parts[0].subplots(1, lines, squeeze=False)[0] if lines else []
    below = parts[-1].subplots(rows, columns, squeeze=False).ravel() if rows else []
    return figure, above, below


def _draw_lines(
    axes: Axes, metric: str, lines: Sequence[tuple[Setting, Sequence[Trace]]], label: str
) -> None:
    for setting, pieces in reversed(lines):
        draw_line(axes, setting, pieces, "-")
    every = [piece for _, pieces in lines for piece in pieces]
    set_limits(axes, every, may_be_log=True)
    set_x(axes, every, label)
    for setting, pieces in lines:
        mark_ends(axes, setting, pieces)
    axes.set_ylabel(drawable(TITLES[metric]), **LITERAL)


def _draw_areas(axes: Axes, areas: Areas) -> None:
    from matplotlib.ticker import MaxNLocator

    shares = [areas.shares[name] for name in _AREAS if name in areas.shares]
    colours = [_AREAS[name][0] for name in _AREAS if name in areas.shares]
    axes.stackplot(areas.x, np.array(shares), colors=colours, linewidth=0)
    name = wrapped(drawable(areas.setting.row.group.name), _LETTERS, 2)
    axes.set_title(name, color=colour(areas.setting.look), **LITERAL)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1], ["0", "", "1"])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10], integer=True))
    if len(areas.x) > 1:
        axes.set_xlim(areas.x[0], areas.x[-1])


def _trim(grid: Sequence[Axes], count: int, label: str) -> None:
    """Take panels away that nothing is in, and say what the axes are where there is room."""
    for axes in grid[count:]:
        axes.remove()
    for axes in grid[:count]:
        place = axes.get_subplotspec()
        assert place is not None
        columns = place.get_gridspec().ncols
        if place.num1 + columns >= count:
            axes.set_xlabel(label)
        if place.is_first_col():
            axes.set_ylabel("Share of steps")


def _key(areas: Sequence[Areas]) -> list[Entry]:
    from matplotlib.patches import Patch

    return [
        Entry(Patch(color=shade, linewidth=0), drawable(words))
        for name, (shade, words) in _AREAS.items()
        if any(name in each.shares for each in areas)
    ]
