"""What it took to reach the target: the median, and each seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deltagclip_cli.report.figure_legend import GREY, Entry, add_legend
from deltagclip_cli.report.figure_settings import Setting, colour
from deltagclip_cli.report.figure_text import (
    LITERAL,
    as_label,
    drawable,
    letters,
    shortened,
    told_apart,
)
from deltagclip_cli.results.compare.comparison import Comparison, Row
from deltagclip_cli.results.compare.question import Cost, Reached, Target, cost

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW = 0.2  # inches
_LINE = 0.13  # inches more for each further line of a name
_AROUND = 0.75
_MOST_NAMED = 8
_MARGIN = 1.06  # so that the last circle is whole, and does not touch what is written beside it


@dataclass(frozen=True, eq=False)
class _Way:
    """What the seeds of a setting took, the median of them, and how many got there."""

    setting: Setting
    reached: Reached
    median: Cost
    costs: Sequence[Cost]


def draw_targets(comparison: Comparison, settings: Sequence[Setting]) -> Figure | None:
    """A row for each setting of which a seed reached the target, the fastest first.

    None without a target, or if nobody reached it.
    """
    target = comparison.target
    ways = _ways(settings, target) if target else []
    if target is None or not ways:
        return None
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    clocks = [*(["epochs"] if comparison.has_epochs else []), "steps", "seconds"]
    names = told_apart([drawable(way.setting.row.group.name) for way in ways], letters(0.34))
    row = _ROW + _LINE * max(name.count("\n") for name in names)
    height = _AROUND + row * len(ways)
    figure = Figure(figsize=(rcParams["figure.figsize"][0], height), layout="constrained")
    for axes, clock in zip(
        figure.subplots(1, len(clocks), sharey=True, squeeze=False)[0], clocks, strict=True
    ):
        _draw(axes, ways, clock)
    figure.axes[0].set_yticks(range(len(ways)), names, **LITERAL)
    figure.axes[0].set_ylim(len(ways) - 0.5, -0.5)
    _count(figure.axes[-1], ways)
    add_legend(figure, _key(target), _note(comparison, settings))
    return figure


def _ways(settings: Sequence[Setting], target: Target) -> list[_Way]:
    found = []
    for setting in settings:
        reached = setting.row.reached
        if reached is not None and reached.median is not None and reached.count:
            costs = [each for run in setting.row.once if (each := cost(run, target)) is not None]
            found.append(_Way(setting, reached, reached.median, costs))
    return sorted(found, key=lambda way: (way.median.steps, -way.reached.count))


def _draw(axes: Axes, ways: Sequence[_Way], clock: str) -> None:
    for place, way in enumerate(ways):
        found = [getattr(each, clock) for each in way.costs if math.isfinite(each.steps)]
        look: dict[str, Any] = {"color": colour(way.setting.look), "linestyle": ""}
        axes.plot(found, [place] * len(found), marker="o", mfc="none", mew=0.8, **look)
        median = getattr(way.median, clock)
        if math.isfinite(median):
            axes.plot([median], [place], marker="|", markersize=10, mew=2, **look)
    axes.set_xlabel(as_label(clock))
    ends = [getattr(each, clock) for way in ways for each in way.costs]
    last = max(end for end in ends if math.isfinite(end))
    axes.set_xlim(0, _MARGIN * last or 1)
    axes.grid(False, axis="y")


def _count(axes: Axes, ways: Sequence[_Way]) -> None:
    """How many seeds got there, at the right."""
    for place, way in enumerate(ways):
        axes.annotate(
            f"{way.reached.count} of {way.reached.n}",
            (1, place),
            xycoords=axes.get_yaxis_transform(),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            size="small",
        )


def _key(target: Target) -> list[Entry]:
    from matplotlib.lines import Line2D

    seed = Line2D([], [], color=GREY, linestyle="", marker="o", mfc="none", mew=0.8)
    median = Line2D([], [], color=GREY, linestyle="", marker="|", markersize=10, mew=2)
    words = drawable(shortened(str(target), letters(0.34)))
    return [Entry(seed, f"a seed reaches {words}"), Entry(median, "median over all seeds")]


def _note(comparison: Comparison, settings: Sequence[Setting]) -> str:
    """Who never got there, and how many are not shown."""
    missed = [row.group.name for row in comparison.rows if _missed(row)]
    words = []
    if missed:
        more = len(missed) - _MOST_NAMED
        names = [shortened(drawable(name), letters(0.5, least=40)) for name in missed[:_MOST_NAMED]]
        words.append(
            f"Never reached by {', '.join(names)}" + (f" and {more} others." if more > 0 else ".")
        )
    shown = {setting.row.group.name for setting in settings}
    others = [row for row in comparison.rows if row.group.name not in shown and not _missed(row)]
    if others:
        words.append(f"Not shown: {len(others)} other settings.")
    return " ".join(words)


def _missed(row: Row) -> bool:
    return row.reached is not None and row.reached.n > 0 and row.reached.count == 0
