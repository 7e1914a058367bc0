"""The speed-up of each optimizer over the baseline, against the scales that were run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import MARK, printable
from deltagclip_cli.report.appearance import LITERAL, LineStyle, legend_name
from deltagclip_cli.report.charts.lines import (
    GREY,
    Json,
    PageLines,
    add_legend,
    empty_panels,
    entry,
    escaped,
    line_trace,
)
from deltagclip_cli.results.compare.choosing import chosen_on

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deltagclip_cli.results.compare.scales import AtScale, Scaling, SpeedUp

_CLOCKS = ("steps", "seconds")
_LOG_RATIO = 4


@dataclass(frozen=True)
class SpeedUps:
    """A line for each optimizer, in intervals; it ends with the largest scale that was run."""

    scaling: Scaling
    styles: Mapping[str, LineStyle]  # by optimizer
    kind = "speed-up"
    heading = ""

    @cached_property
    def _lines(self) -> dict[str, list[AtScale]]:
        """The scales at which each optimizer has a speed-up."""
        found: dict[str, list[AtScale]] = {}
        for each in self.scaling.at:
            if each.steps is not None and each.optimizer in self.styles:
                found.setdefault(each.optimizer, []).append(each)
        return found

    def page(self, page: PageLines) -> Iterator[Json]:
        """Yield a chart for steps, and one for seconds."""
        for clock in _CLOCKS if self._lines else ():
            traces = []
            for label, scales in self._lines.items():
                x, y, low, high = _numbers(scales, clock)
                traces += self.styles[label].band(x, low, high)
                traces.append(line_trace(self.styles[label], x, y, mode="lines+markers"))
            yield {
                "title": f"Times as fast as {self.scaling.baseline} ({clock}),"
                f" by {self.scaling.key}{self._mark}",
                "traces": traces,
                "layout": {
                    "xaxis": {"title": {"text": escaped(self.scaling.key)}, "type": self._scale},
                    "shapes": [_one()],
                    "showlegend": True,
                    "hovermode": "closest",
                },
            }

    @property
    def _mark(self) -> str:
        return f"; settings {MARK}" if chosen_on(self.scaling.choices) == "test" else ""

    @property
    def _scale(self) -> str:
        x = [each.scale for scales in self._lines.values() for each in scales]
        return "log" if 0 < _LOG_RATIO * min(x) <= max(x) else "linear"

    def paper(self) -> Figure | None:
        """Draw a panel for steps and one for seconds; None without a speed-up."""
        if not self._lines:
            return None
        figure, grid = empty_panels(len(_CLOCKS))
        for axes, clock in zip(grid, _CLOCKS, strict=True):
            axes.axhline(1, color=GREY, linewidth=0.8)
            for label, scales in reversed(self._lines.items()):
                x, y, low, high = _numbers(scales, clock)
                look = {**self.styles[label].on_paper, "marker": "o"}
                axes.fill_between(x, low, high, color=look["color"], alpha=0.2, lw=0)
                axes.plot(x, y, **look)
            axes.set_xscale(self._scale)
            sizes = {each.scale: each.word for lines in self._lines.values() for each in lines}
            axes.set_xticks(list(sizes), list(sizes.values()))
            axes.set_xticks([], minor=True)
            axes.set_xlabel(printable(self.scaling.key), **LITERAL)
            axes.set_ylabel(printable(f"Speed-up ({clock})"), **LITERAL)
        entries = [
            entry(legend_name(each), **{**self.styles[each].on_paper, "marker": "o"})
            for each in self._lines
        ]
        note = f"Times as fast as {self.scaling.baseline}, with 95 % intervals{self._mark}."
        add_legend(figure, entries, note)
        return figure


def _numbers(scales: Sequence[AtScale], clock: str) -> tuple[list[float], ...]:
    """Return the scales, the speed-ups there, and the ends of their intervals."""
    found: list[SpeedUp] = [getattr(each, clock) for each in scales]
    ends = [each.interval for each in found]
    ratios = [each.ratio for each in found]
    return (
        [each.scale for each in scales],
        ratios,
        [one.low if one else ratio for one, ratio in zip(ends, ratios, strict=True)],
        [one.high if one else ratio for one, ratio in zip(ends, ratios, strict=True)],
    )


def _one() -> dict[str, Any]:
    """The line at which both are as fast."""
    line = {"color": "#7F7F7F", "width": 1, "dash": "dot"}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "line": line}
