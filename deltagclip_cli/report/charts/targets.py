"""Ways to the target: what the median took, and each seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from deltagclip_cli.core import listed, printable
from deltagclip_cli.report.appearance import (
    LITERAL,
    DrawnSetting,
    as_label,
    legend_name,
    letters,
    shortened,
    wrapped,
)
from deltagclip_cli.report.charts.lines import Json, PageLines, add_legend, entry, escaped
from deltagclip_cli.results.compare.question import CLOCKS, Cost, cost

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from deltagclip_cli.results.compare.comparison import Comparison, Row

_ROW = 0.2  # inches
_LINE = 0.13  # inches more for each further line of a name
_AROUND = 0.75
_MOST_LETTERS = 30  # of a name on the page
_MARGIN = 1.06  # so that the last circle is whole, and does not touch what is written beside it

_SEED: dict[str, Any] = {"linestyle": "", "marker": "o", "mfc": "none", "mew": 0.8}
_INSIDE = "inside a longer schedule"
_INSIDE_SEED: dict[str, Any] = {**_SEED, "marker": "x"}
_MEDIAN: dict[str, Any] = {"linestyle": "", "marker": "|", "markersize": 10, "mew": 2}


@dataclass(frozen=True, eq=False)
class _Way:
    """The costs of the seeds that reached the target, their median, and how many did."""

    setting: DrawnSetting
    costs: Sequence[Cost]  # of seeds whose schedule was at its end there, or that have none
    inside: Sequence[Cost]  # of seeds whose learning rate was still to change
    median: Cost
    count: str


@dataclass(frozen=True)
class Targets:
    """A row for each setting of which a seed reached the target, the fastest first."""

    comparison: Comparison
    settings: Sequence[DrawnSetting]
    kind = "time-to-target"
    heading = "What the target took"

    @cached_property
    def _ways(self) -> list[_Way]:
        found = []
        for setting in self.settings:
            reached, target = setting.row.reached, self.comparison.target
            if target and reached is not None and reached.median is not None and reached.count:
                costs: dict[bool, list[Cost]] = {True: [], False: []}
                for run in setting.row.once:
                    each = cost(run, target)
                    if each is not None and math.isfinite(each.steps):
                        costs[run.is_inside_schedule(each.steps)].append(each)
                words = f"{reached.count} of {reached.n}"
                order = (reached.median.steps, -reached.count)
                way = _Way(setting, costs[False], costs[True], reached.median, words)
                found.append((order, way))
        return [way for _, way in sorted(found, key=lambda each: each[0])]

    @property
    def _has_inside(self) -> bool:
        return any(way.inside for way in self._ways)

    def page(self, page: PageLines) -> Iterator[Json]:
        """Yield one chart, against the clock that is chosen."""
        if not self._ways:
            return
        traces = []
        for place, way in enumerate(self._ways):
            for costs, symbol, size, words in (
                (way.costs, "circle-open", 9, "a seed"),
                (way.inside, "x-thin-open", 9, f"a seed, {_INSIDE}"),
                ([way.median], "line-ns-open", 18, f"median, {way.count}"),
            ):
                if not costs:
                    continue
                numbers = {c: np.array([getattr(each, c) for each in costs]) for c in CLOCKS}
                marker = {"symbol": symbol, "size": size, "color": way.setting.style.colour}
                traces.append(
                    {
                        "row": way.setting.number,
                        "axis": page.axis(numbers),
                        "y": [place] * len(costs),
                        "name": escaped(f"{way.setting.name} ({words})"),
                        "mode": "markers",
                        "marker": {**marker, "line": {"width": 2}},
                        "hovertemplate": "%{x:.5~g}<extra>%{fullData.name}</extra>",
                    }
                )
        names = [escaped(shortened(way.setting.name, _MOST_LETTERS)) for way in self._ways]
        places = {"tickvals": list(range(len(names))), "ticktext": names}
        yield {
            "title": f"Until {self.comparison.target}{f' (× {_INSIDE})' * self._has_inside}",
            "traces": traces,
            "layout": {
                "xaxis": {"rangemode": "tozero"},
                "yaxis": {**places, "autorange": "reversed"},
                "hovermode": "closest",
            },
        }

    def paper(self) -> Figure | None:
        """Draw a panel for each clock; None without a target, or if nobody reached it."""
        ways = [way for way in self._ways if way.setting.place is not None]
        if not ways:
            return None
        from matplotlib import rcParams
        from matplotlib.figure import Figure

        clocks = [
            clock
            for clock in CLOCKS
            if (clock != "epochs" or self.comparison.has_epochs) and _is_known(ways, clock)
        ]
        names = [wrapped(printable(way.setting.name), letters(0.34), 4) for way in ways]
        row = _ROW + _LINE * max(name.count("\n") for name in names)
        size = (rcParams["figure.figsize"][0], _AROUND + row * len(ways))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(1, len(clocks), sharey=True, squeeze=False)[0]
        for axes, clock in zip(grid, clocks, strict=True):
            _draw(axes, ways, clock)
        grid[0].set_yticks(range(len(ways)), names, **LITERAL)
        grid[0].set_ylim(len(ways) - 0.5, -0.5)
        for place, way in enumerate(ways):
            grid[-1].annotate(
                way.count,
                (1, place),
                xycoords=grid[-1].get_yaxis_transform(),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                size="small",
            )
        target = printable(shortened(str(self.comparison.target), letters(0.34)))
        entries = [entry(f"a seed reaches {target}", **_SEED)]
        if any(way.inside for way in ways):
            entries.append(entry(_INSIDE, **_INSIDE_SEED))
        add_legend(figure, [*entries, entry("median over all seeds", **_MEDIAN)], self._note())
        return figure

    def _note(self) -> str:
        """Say who never got there, and how many are not shown."""
        words = []
        if missed := [legend_name(row.group.name) for row in self.comparison.rows if _missed(row)]:
            words.append(f"Never reached by {listed(missed)}.")
        if others := [s for s in self.settings if s.place is None and not _missed(s.row)]:
            words.append(f"Not shown: {len(others)} other settings.")
        return " ".join(words)


def _is_known(ways: Sequence[_Way], clock: str) -> bool:
    """Tell whether all costs are known; logs without times have no seconds."""
    return not any(math.isnan(getattr(each, clock)) for w in ways for each in (*w.costs, *w.inside))


def _draw(axes: Axes, ways: Sequence[_Way], clock: str) -> None:
    for place, way in enumerate(ways):
        hue = way.setting.style.on_paper["color"]
        for costs, look in ((way.costs, _SEED), (way.inside, _INSIDE_SEED)):
            if not costs:
                continue
            found = [getattr(each, clock) for each in costs]
            axes.plot(found, [place] * len(found), color=hue, **look)
        median = getattr(way.median, clock)
        if math.isfinite(median):
            axes.plot([median], [place], color=hue, **_MEDIAN)
    axes.set_xlabel(as_label(clock))
    last = max(getattr(each, clock) for way in ways for each in (*way.costs, *way.inside))
    axes.set_xlim(0, _MARGIN * last or 1)
    axes.grid(False, axis="y")


def _missed(row: Row) -> bool:
    return row.reached is not None and row.reached.n > 0 and row.reached.count == 0
