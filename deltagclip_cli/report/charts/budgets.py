"""The best of k draws against k, and against what k draws cost, with exact intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from deltagclip_cli.core import MARK, measured_on, printable
from deltagclip_cli.report.appearance import LITERAL, LineStyle, legend_name
from deltagclip_cli.report.charts.lines import (
    Json,
    PageLines,
    add_legend,
    empty_panels,
    entry,
    escaped,
    line_trace,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deltagclip_cli.results.compare.methods import TunedMethod, Verdicts
    from deltagclip_cli.results.statistics.best_of import BestOf

_ROOM = 0.15  # of the height, above and below all that is known
_LOG_RATIO = 8


@dataclass(frozen=True)
class BestOfBudgets:
    """A line for each optimizer: the median best of k draws, in the interval that is sure of it.

    Where too few draws bound it, the band leaves the panel.
    """

    verdicts: Verdicts
    styles: Mapping[str, LineStyle]  # by optimizer
    kind = "best-of"
    heading = ""

    @cached_property
    def _drawn(self) -> list[TunedMethod]:
        fixed = self.verdicts.lock.tuning.fixed  # which draw nothing
        labels = self.styles.keys() - fixed
        return [each for each in self.verdicts.methods if each.curve and each.label in labels]

    @property
    def _clocks(self) -> dict[str, str]:
        """The heading of each axis by the name of its number."""
        known = all(math.isfinite(each.curve[0].cost) for each in self._drawn)
        hours = "GPU-hours" if any(each.on_gpu for each in self._drawn) else "hours"
        return {"k": "k, draws of an optimizer", **({"cost": hours} if known else {})}

    @cached_property
    def _limits(self) -> tuple[float, float]:
        """The panel has room for every value that is known, and some more."""
        known = [
            number
            for method in self._drawn
            for best in method.curve
            for number in (best.median, best.interval.low, best.interval.high)
            if math.isfinite(number)
        ]
        low, high = min(known, default=0.0), max(known, default=1.0)
        room = _ROOM * ((high - low) or abs(high) or 1)
        return low - room, high + room

    def _band(self, curve: Sequence[BestOf]) -> tuple[list[float], list[float]]:
        """The ends of the intervals, of which those that are not bounded leave the panel."""
        low, high = self._limits
        return (
            [max(best.interval.low, low) for best in curve],
            [min(best.interval.high, high) for best in curve],
        )

    def page(self, page: PageLines) -> Iterator[Json]:
        """Yield a chart against k, and one against the cost of k draws."""
        if not self._drawn:
            return
        for number, heading in self._clocks.items():
            traces = []
            for method in self._drawn:
                curve = [each for each in method.curve if math.isfinite(each.median)]
                x, style = [getattr(each, number) for each in curve], self.styles[method.label]
                traces += style.band(x, *self._band(curve))
                traces.append(
                    line_trace(
                        style,
                        x,
                        [each.median for each in curve],
                        text=[f"k = {each.k}, mean {_shown(each.expected)}" for each in curve],
                        hovertemplate="%{y:.5~g} (%{text})<extra>%{fullData.name}</extra>",
                    )
                )
            yield {
                "title": f"{self.verdicts.metric}, median of the best of k draws{self._mark}",
                "traces": traces,
                "layout": {
                    "xaxis": {"title": {"text": escaped(heading)}, "type": self._scale(number)},
                    "yaxis": {"range": list(self._limits)},
                    "showlegend": True,
                    "hovermode": "closest",
                },
            }

    @property
    def _mark(self) -> str:
        return f", {MARK}" if measured_on(self.verdicts.metric) == "test" else ""

    def _scale(self, number: str) -> str:
        ends = [getattr(method.curve[place], number) for method in self._drawn for place in (0, -1)]
        return "log" if 0 < _LOG_RATIO * min(ends) <= max(ends) else "linear"

    def paper(self) -> Figure | None:
        """Draw a panel for k and one for the cost; None without draws that have values."""
        if not self._drawn:
            return None
        from matplotlib.ticker import NullFormatter

        figure, grid = empty_panels(len(self._clocks))
        for axes, (number, heading) in zip(grid, self._clocks.items(), strict=True):
            for method in reversed(self._drawn):
                curve = [each for each in method.curve if math.isfinite(each.median)]
                x = [getattr(each, number) for each in curve]
                look = self.styles[method.label].on_paper
                axes.fill_between(x, *self._band(curve), color=look["color"], alpha=0.2, lw=0)
                every = max(1, len(x) // 8)
                axes.plot(x, [each.median for each in curve], **{**look, "markevery": every})
            axes.set_xscale(self._scale(number))
            axes.xaxis.set_minor_formatter(NullFormatter())  # whose labels run into one another
            axes.set_ylim(*self._limits)
            axes.set_xlabel(heading)
        grid[0].set_ylabel(printable(f"{self.verdicts.metric}, best of k"), **LITERAL)
        entries = [
            entry(legend_name(each.label), **self.styles[each.label].on_paper)
            for each in self._drawn
        ]
        note = "Medians with exact 95 % intervals; a band leaves the panel where draws are too few."
        add_legend(figure, entries, f"{note.rstrip('.')}{self._mark}.")
        return figure


def _shown(value: float) -> str:
    return f"{value:.5g}" if math.isfinite(value) else "not finite"
