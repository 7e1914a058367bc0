"""The metric by one setting of an optimizer, such as its learning rate."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from deltagclip_cli.core import as_number, printable
from deltagclip_cli.report.appearance import LITERAL, DrawnSetting, LineStyle, legend_name
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

    from deltagclip_cli.results.compare.comparison import Comparison

LEAST_VALUES = 3  # two make no curve
_MOST_PANELS = 8
_LOG_RATIO = 10.0

Points = Mapping[float, DrawnSetting]
"""The best setting of an optimizer at each value, by the value."""


@dataclass(frozen=True)
class BySetting:
    """For each setting that is a number, the best mean at each of its values.

    The best is that over all other settings, so that each optimizer is shown at what it can do. A
    value at which every setting has a seed that diverged has no point.
    """

    comparison: Comparison
    settings: Sequence[DrawnSetting]
    kind = "settings"
    heading = "How much the settings matter"

    @cached_property
    def _lines(self) -> dict[str, dict[str, Points]]:
        """The points by setting and optimizer."""
        curves: dict[str, dict[str, dict[float, DrawnSetting]]] = defaultdict(
            lambda: defaultdict(dict)
        )
        for each in self.settings:  # the best first
            for key, word in each.row.group.settings.items():
                value = as_number(word)
                if value is not None and math.isfinite(value) and each.row.mean is not None:
                    curves[key][each.row.group.optimizer].setdefault(value, each)
        return {
            key: {
                label: {value: points[value] for value in sorted(points)}
                for label, points in by_optimizer.items()
                if len(points) > 1
            }
            for key, by_optimizer in curves.items()
            if max(map(len, by_optimizer.values())) >= LEAST_VALUES
        }

    def page(self, page: PageLines) -> Iterator[Json]:
        """Yield a chart for each setting, with a line for each optimizer."""
        for key, by_optimizer in self._lines.items():
            traces = [
                line_trace(
                    _style(points),
                    list(points),
                    [each.row.mean for each in points.values()],
                    mode="lines+markers",
                    error_y={"array": list(map(_error, points.values())), "thickness": 1},
                    text=[escaped(each.name) for each in points.values()],
                    hovertemplate="%{y:.5~g} (%{text})<extra>%{fullData.name}</extra>",
                )
                for points in by_optimizer.values()
            ]
            scale = "log" if _spans(by_optimizer) else "linear"
            yield {
                "title": f"{self.comparison.question.metric} by {key}",
                "traces": traces,
                "layout": {
                    "xaxis": {"title": {"text": escaped(key)}, "type": scale},
                    "showlegend": len(traces) > 1,
                },
            }

    def paper(self) -> Figure | None:
        """Draw a panel for each setting; None without one that has values enough."""
        shown = list(self._lines.items())[:_MOST_PANELS]
        if not shown:
            return None
        metric = self.comparison.question.metric
        figure, grid = empty_panels(len(shown))
        for axes, (key, by_optimizer) in zip(grid, shown, strict=True):
            for points in reversed(by_optimizer.values()):
                axes.errorbar(
                    list(points),
                    [each.row.mean or 0.0 for each in points.values()],
                    [_error(each) for each in points.values()],
                    **{**_style(points).on_paper, "marker": "o", "elinewidth": 0.8},
                )
            if _spans(by_optimizer):
                axes.set_xscale("log")
            axes.set_xlabel(printable(key), **LITERAL)
            axes.set_ylabel(printable(metric), **LITERAL)
        styles = {label: _style(points) for _, lines in shown for label, points in lines.items()}
        entries = [
            entry(legend_name(label), **{**style.on_paper, "marker": "o"})
            for label, style in styles.items()
        ]
        add_legend(figure, entries, "The best mean at each value, over the other settings.")
        return figure


def _style(points: Points) -> LineStyle:
    return next(iter(points.values())).optimizer_style


def _error(setting: DrawnSetting) -> float:
    summary = setting.row.summary
    return (summary.standard_error or 0.0) if summary else 0.0


def _spans(by_optimizer: Mapping[str, Points]) -> bool:
    """Tell if the values want a logarithmic axis."""
    values = [value for points in by_optimizer.values() for value in points]
    return min(values) > 0 and max(values) >= _LOG_RATIO * min(values)
