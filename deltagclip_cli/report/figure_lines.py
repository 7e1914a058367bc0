"""Lines with bands in a panel, and its axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deltagclip_cli.report.figure_settings import MOST_SETTINGS, Setting, colour, marker
from deltagclip_cli.report.figure_traces import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS_ON_A_LINE = 9
PALE = 0.35  # of a mean in which not all seeds are
_LOG_RATIO = 100.0
_MARGIN = 0.04
_ROOM = 0.25  # beside sound values, in which a line is followed before it leaves the panel


def draw_line(axes: Axes, setting: Setting, pieces: Sequence[Trace], linestyle: str) -> None:
    """Draw a mean and its band; paler where not all seeds are there, with × where one is lost."""
    style: dict[str, Any] = {"color": colour(setting.look), "linestyle": linestyle}
    for piece in pieces:
        marks = _marks(piece, setting)
        alpha = 1 if piece.is_whole else PALE
        axes.plot(piece.x, piece.mean, alpha=alpha, **style, **marks)
        low, high = piece.mean - piece.error, piece.mean + piece.error
        if np.isfinite(low).any():
            band: dict[str, Any] = {"color": style["color"], "alpha": 0.2 * alpha, "linewidth": 0}
            axes.fill_between(piece.x, low, high, **band)


def _marks(piece: Trace, setting: Setting) -> dict[str, Any]:
    if len(piece.x) == 1:
        return {"marker": "."}  # a line of one point cannot be seen
    every = math.ceil(len(piece.x) / _MARKERS_ON_A_LINE)
    places = (setting.place * every // MOST_SETTINGS, every)  # not upon those of others
    return {"marker": marker(setting.look), "mfc": "white", "mew": 0.9, "markevery": places}


def mark_ends(axes: Axes, setting: Setting, pieces: Iterable[Trace]) -> None:
    """Put × where a seed is lost, at the edge if that is beyond it; after the limits are set."""
    low, high = axes.get_ylim()
    for piece in pieces:
        if piece.is_broken:
            end = min(max(float(piece.mean[-1]), low), high)
            cross: dict[str, Any] = {"marker": "x", "mew": 1.2, "clip_on": False, "zorder": 3}
            axes.plot([piece.x[-1]], [end], color=colour(setting.look), **cross)


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
    means = np.concatenate([piece.mean for piece in pieces])
    errors = np.nan_to_num(np.concatenate([piece.error for piece in pieces]))
    lowest, highest = _bounds(pieces)
    inside = (lowest <= means) & (means <= highest)
    means, errors = means[inside], errors[inside]
    low = float(np.maximum(means - errors, lowest).min())
    high = float(np.minimum(means + errors, highest).max())
    if may_be_log and means.min() > 0 and means.max() > _LOG_RATIO * means.min():
        axes.set_yscale("log")
        low = max(low, float(means.min()) / 2)
        room = (high / low) ** _MARGIN
        axes.set_ylim(low / room, high * room)
    elif high > low:
        room = _MARGIN * (high - low)
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
        return -math.inf, math.inf
    low, high = float(np.concatenate(values).min()), float(np.concatenate(values).max())
    room = _ROOM * (high - low)
    return low - room, high + room


def set_x(axes: Axes, pieces: Iterable[Trace], label: str) -> None:
    """From the first epoch to the last."""
    from matplotlib.ticker import MaxNLocator

    ends = [end for piece in pieces for end in (piece.x[0], piece.x[-1])]
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True))
    if ends:
        room = 0 if min(ends) < max(ends) else 1
        axes.set_xlim(min(ends) - room, max(ends) + room)
