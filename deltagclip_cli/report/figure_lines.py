"""Lines with bands in a panel, and its axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deltagclip_cli.report.figure_settings import Setting, colour, marker
from deltagclip_cli.report.figure_traces import Trace
from deltagclip_cli.report.line_styles import MOST_SETTINGS
from deltagclip_cli.results.compare.comparison import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CROSS: dict[str, Any] = {"marker": "x", "mew": 1.2, "clip_on": False, "zorder": 3}
"""Where a seed is lost; also at the edge of a panel."""

_MARKERS_ON_A_LINE = 9
PALE = 0.35  # of a mean in which not all seeds are
_LOG_RATIO = 100.0
_MARGIN = 0.04
_ROOM = 0.25  # beside sound values, in which a line is followed before it leaves the panel
_FAR = 1e200  # no axis goes further: matplotlib takes steps of some decades beyond it for ticks


def draw_line(axes: Axes, setting: Setting, pieces: Sequence[Trace], linestyle: str) -> None:
    """Draw a mean and its band; paler where not all seeds are there, with × where one is lost.

    After the limits are set: × is at the edge if it is beyond it, and a band ends where its mean
    leaves the panel, for that of a seed that explodes would cover all of it.
    """
    hue, (bottom, top) = colour(setting.look), axes.get_ylim()
    for piece in pieces:
        alpha = 1 if piece.is_whole else PALE
        marks = _marks(piece, setting)
        axes.plot(piece.x, piece.mean, alpha=alpha, color=hue, linestyle=linestyle, **marks)
        if np.isfinite(piece.error).any():
            _draw_error(axes, piece, hue, alpha)
        if piece.is_broken:
            end = min(max(float(piece.mean[-1]), bottom), top)
            axes.plot([piece.x[-1]], [end], color=hue, **CROSS)


def _draw_error(axes: Axes, piece: Trace, hue: str, alpha: float) -> None:
    if len(piece.x) == 1:  # a band of no width cannot be seen
        axes.errorbar(piece.x, piece.mean, piece.error, fmt="none", ecolor=hue, alpha=alpha)
        return
    bottom, top = axes.get_ylim()
    with np.errstate(over="ignore"):
        low, high = piece.mean - piece.error, piece.mean + piece.error
    inside = (bottom <= piece.mean) & (piece.mean <= top)
    band: dict[str, Any] = {"color": hue, "alpha": 0.2 * alpha, "linewidth": 0}
    axes.fill_between(piece.x, low, high, where=inside, **band)


def _marks(piece: Trace, setting: Setting) -> dict[str, Any]:
    marks = marker(setting.look)
    if len(piece.x) == 1:  # a line of one point cannot be seen
        return {**marks, "marker": marks["marker"] or "."}
    every = math.ceil(len(piece.x) / _MARKERS_ON_A_LINE)
    places = (setting.place * every // MOST_SETTINGS, every)  # not upon those of others
    return {**marks, "markevery": places}


def set_limits(axes: Axes, pieces: Iterable[Trace], *, may_be_log: bool) -> None:
    """Let the panel be high enough for all but what explodes, which leaves it.

    Args:
        axes: the panel.
        pieces: of the lines.
        may_be_log: take a logarithmic axis if the means need one.
    """
    pieces = list(pieces)
    if not pieces:
        return
    means = np.clip(np.concatenate([piece.mean for piece in pieces]), -_FAR, _FAR)
    errors = np.concatenate([piece.error for piece in pieces])
    errors = np.minimum(np.nan_to_num(errors), _FAR)
    lowest, highest = _bounds(pieces)
    inside = (lowest <= means) & (means <= highest)
    means, errors = means[inside], errors[inside]
    low = float(np.maximum(means - errors, lowest).min())
    high = float(np.minimum(means + errors, highest).max())
    if may_be_log and means.min() > 0 and means.max() / _LOG_RATIO > means.min():
        axes.set_yscale("log")
        low = math.log10(max(low, float(means.min()) / 2))
        high = math.log10(high)
        far, room = math.log10(_FAR), _MARGIN * (high - low)
        axes.set_ylim(10 ** max(low - room, -far), 10 ** min(high + room, far))
    else:
        room = _MARGIN * ((high - low) or abs(high) or 1)
        axes.set_ylim(low - room, high + room)


def _bounds(pieces: Sequence[Trace]) -> tuple[float, float]:
    """What is outside has exploded: it is far from sound values, by how far those are apart.

    Sound are the pieces that end by themselves, and where all lines begin.
    """
    start = min(piece.x[0] for piece in pieces)
    sound = [piece for piece in pieces if not piece.is_broken]
    values = [piece.mean for piece in sound]
    if not any(piece.x[0] == start for piece in sound):
        values += [piece.mean[:1] for piece in pieces if piece.x[0] == start]
    if not sound:
        return -_FAR, _FAR
    low, high = float(np.concatenate(values).min()), float(np.concatenate(values).max())
    room = _ROOM * (high - low)
    return max(min(low - room, _FAR), -_FAR), min(max(high + room, -_FAR), _FAR)


def clock(comparison: Comparison) -> str:
    """What time is measured in."""
    return "Epoch" if comparison.has_epochs else "Step"


def ends_of(pieces: Iterable[Trace]) -> list[float]:
    """Where lines begin and end."""
    return [float(end) for piece in pieces for end in (piece.x[0], piece.x[-1])]


def set_x(axes: Axes, ends: Sequence[float], label: str, bins: int = 6) -> None:
    """From the first epoch to the last, with some numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=bins, steps=[1, 2, 5, 10], integer=True))
    room = 0 if min(ends) < max(ends) else 1
    axes.set_xlim(min(ends) - room, max(ends) + room)
