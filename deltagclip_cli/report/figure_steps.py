"""How long the steps were: h/η beside the gradient norm, and what clipping did to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from deltagclip_cli.report.figure_curves import key_of_ends
from deltagclip_cli.report.figure_legend import Entry, add_legend, entry
from deltagclip_cli.report.figure_lines import (
    CROSS,
    clock,
    draw_line,
    ends_of,
    set_limits,
    set_x,
)
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
from deltagclip_cli.results.compare.comparison import Comparison
from deltagclip_cli.results.read.run import Numbers

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
    """The shares of a setting's steps, by regime, over its epochs until a seed ends.

    Args:
        setting: whose steps they are.
        x: epochs.
        shares: of the steps, at these.
        is_broken: whether a seed ends there before the end of its run.
        ends: the first epoch of the setting, and its last.
    """

    setting: Setting
    x: Numbers
    shares: Mapping[str, Numbers]
    is_broken: bool
    ends: Sequence[float]


def draw_steps(comparison: Comparison, settings: Sequence[Setting]) -> Figure | None:
    """What is known of steps; None if no optimizer tells of its own."""
    ddof = comparison.question.ddof
    lines = {metric: _lines(settings, metric, ddof) for metric in _METRICS}
    lines = {metric: found for metric, found in lines.items() if found}
    areas = [found for setting in settings for found in _areas(setting)]
    if STEP_RATIO not in lines and not areas:
        return None
    pieces = [piece for of_metric in lines.values() for _, each in of_metric for piece in each]
    ends = [*ends_of(pieces), *(end for each in areas for end in each.ends)]
    figure, above, below = _sheet(len(lines), len(areas))
    for axes, (metric, of_metric) in zip(above, lines.items(), strict=True):
        _draw_lines(axes, metric, of_metric)
        set_x(axes, ends, clock(comparison))
    for axes, each in zip(below, areas, strict=True):
        _draw_areas(axes, each)
        set_x(axes, ends, clock(comparison) if _is_last(axes) else "", bins=4)
    having = [setting for of_metric in lines.values() for setting, _ in of_metric]
    entries = [entry(each.look, each.label) for each in settings if each in having]
    is_broken = any(each.is_broken for each in areas)
    entries += [*key_of_ends(pieces, is_broken=is_broken), *_key(areas)]
    add_legend(figure, entries, note(comparison))
    return figure


def _lines(
    settings: Sequence[Setting], metric: str, ddof: int
) -> list[tuple[Setting, Sequence[Trace]]]:
    found = [
        (setting, traces([with_ratio(run) for run in setting.row.once], metric, ddof))
        for setting in settings
    ]
    return [(setting, pieces) for setting, pieces in found if pieces]


def _areas(setting: Setting) -> Iterator[Areas]:
    """One, if some steps were clipped or floored; where all were plain, it would say nothing."""
    runs = [with_regimes(run) for run in setting.row.once]
    found = {name: pieces for name in _AREAS if (pieces := traces(runs, name))}
    first = {name: pieces[0] for name, pieces in found.items()}
    if not any(first[name].mean.any() for name in (CLIPPED, FLOORED) if name in first):
        return
    # Long lines are thinned, each to some points of its own.
    x = reduce(np.intersect1d, [each.x for each in first.values()])
    if len(x):
        shares = {name: each.mean[np.isin(each.x, x)] for name, each in first.items()}
        is_broken = any(each.is_broken for each in first.values())
        ends = ends_of(piece for pieces in found.values() for piece in pieces)
        yield Areas(setting, x, shares, is_broken, ends)


def _sheet(lines: int, areas: int) -> tuple[Figure, Sequence[Axes], Sequence[Axes]]:
    """A figure with a row of panels for lines, and below it rows for areas, all of these alike."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    width, height = rcParams["figure.figsize"]
    columns = 2 if areas <= 2 else 2 * max(1, int(width / _LEAST_WIDTH / 2))
    rows, first = -(-areas // columns), int(lines > 0)
    heights = [*[1.0] * first, *[_AREA_HEIGHT] * rows]
    figure = Figure(figsize=(width, height * sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    span = columns // lines if lines else 0
    above = [figure.add_subplot(grid[0, span * k : span * (k + 1)]) for k in range(lines)]
    places = [(first + k // columns, k % columns) for k in range(areas)]
    return figure, above, [figure.add_subplot(grid[place]) for place in places]


def _draw_lines(axes: Axes, metric: str, lines: Sequence[tuple[Setting, Sequence[Trace]]]) -> None:
    set_limits(axes, [piece for _, pieces in lines for piece in pieces], may_be_log=True)
    for setting, pieces in reversed(lines):
        draw_line(axes, setting, pieces, "-")
    axes.set_ylabel(drawable(TITLES[metric]), **LITERAL)


def _draw_areas(axes: Axes, areas: Areas) -> None:
    shares = np.array([areas.shares[name] for name in _AREAS if name in areas.shares])
    colours = [_AREAS[name][0] for name in _AREAS if name in areas.shares]
    x = areas.x
    if len(x) == 1:  # an area of no width cannot be seen
        x, shares = np.array([x[0] - 0.5, x[0] + 0.5]), shares.repeat(2, axis=1)
    axes.stackplot(x, shares, colors=colours, linewidth=0)
    hue = colour(areas.setting.look)
    if areas.is_broken:
        axes.plot([x[-1]], [0.5], color=hue, **CROSS)
    name = wrapped(drawable(areas.setting.row.group.name), _LETTERS, 2)
    axes.set_title(name, color=hue, **LITERAL)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1], ["0", "", "1"])
    place = axes.get_subplotspec()
    if place is not None and place.is_first_col():
        axes.set_ylabel("Share of steps")


def _is_last(axes: Axes) -> bool:
    """Whether it is in the last row; the others have the same epochs."""
    place = axes.get_subplotspec()
    return place is not None and place.is_last_row()


def _key(areas: Sequence[Areas]) -> list[Entry]:
    from matplotlib.patches import Patch

    return [
        Entry(Patch(color=shade, linewidth=0), drawable(words))
        for name, (shade, words) in _AREAS.items()
        if any(name in each.shares for each in areas)
    ]
