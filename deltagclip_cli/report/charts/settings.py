"""The metric by one setting of an optimizer, such as its learning rate."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from deltagclip_cli.core import MARK, as_number, measured_on, printable
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
from deltagclip_cli.results.compare.sensitivity import DrawsTried, draws_tried

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from deltagclip_cli.results.compare.comparison import Comparison

LEAST_VALUES = 3  # two make no curve
_MOST_PANELS = 8
_LOG_RATIO = 10.0
_LEAST_DRAWS = 6  # of fewer, each is a neighbour of nearly all

Points = Mapping[float, DrawnSetting]
"""The best setting of an optimizer at each value, by the value."""


@dataclass(frozen=True)
class _Line:
    """An optimizer at the values of one of its settings."""

    style: LineStyle
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]  # of the band
    high: Sequence[float]
    words: Sequence[str]  # on each place
    points: Points  # all that the line is made of

    @property
    def is_smoothed(self) -> bool:
        """True if a place of the line is not a single point."""
        return len(self.x) < len(self.points)


@dataclass(frozen=True)
class BySetting:
    """For each setting that is a number, how good each optimizer is at each of its values.

    Of a grid this is the best mean over all other settings, with a standard error over seeds to
    either side, so that each optimizer is shown at what it can do. Draws, of which each has other
    settings as well as another value, are told of by the median of neighbours, and how far these
    reach. A value at which every setting has a seed that diverged has no point.
    """

    comparison: Comparison
    settings: Sequence[DrawnSetting]
    kind = "settings"
    heading = "How much the settings matter"

    @cached_property
    def _lines(self) -> dict[str, list[_Line]]:
        """The lines of the optimizers by setting."""
        curves: dict[str, dict[str, dict[float, DrawnSetting]]] = defaultdict(
            lambda: defaultdict(dict)
        )
        for each in self._tried:  # the best first
            for key, word in each.row.group.settings.items():
                value = as_number(word)
                if value is not None and math.isfinite(value) and each.row.mean is not None:
                    curves[key][each.row.group.optimizer].setdefault(value, each)
        found: dict[str, list[_Line]] = {}
        for key, by_optimizer in curves.items():
            if max(map(len, by_optimizer.values())) >= LEAST_VALUES:
                several = [points for points in by_optimizer.values() if len(points) > 1]
                found[key] = [_line({x: points[x] for x in sorted(points)}) for points in several]
        return found

    @cached_property
    def _drawn(self) -> DrawsTried | None:
        return draws_tried(self.comparison)

    @property
    def _tried(self) -> Sequence[DrawnSetting]:
        """The settings, or where there is a plan its draws, at the seeds of the choice alone."""
        if self._drawn is None:
            return self.settings
        known = {each.row.group: each for each in self.settings}
        return [replace(known[row.group], row=row) for row in self._drawn.rows]

    def _is_log(self, key: str, lines: Sequence[_Line]) -> bool:
        """Tell if the values of a setting want a logarithmic axis, as its space says or they do."""
        account = self.comparison.account
        spaces = account.lock.tuning.search.space.values() if account else ()
        planned = [space[key] for space in spaces if key in space]
        return any(getattr(each, "log", False) for each in planned) if planned else _spans(lines)

    @property
    def _metric(self) -> str:
        return (self._drawn or self.comparison).question.metric

    @property
    def _mark(self) -> str:
        """A few words where the test set told which settings are the best."""
        choice = self.comparison.choice
        is_on_test = choice is not None and choice.on == "test"
        if self._drawn is not None:
            is_on_test = measured_on(self._metric) == "test"
        return f", {MARK}" if is_on_test else ""

    def page(self, page: PageLines) -> Iterator[Json]:
        """Yield a chart for each setting, with a line and a band for each optimizer."""
        for key, lines in self._lines.items():
            traces = [trace for line in lines for trace in _traces(line)]
            yield {
                "title": f"{self._metric} by {key}{self._mark}",
                "traces": traces,
                "layout": {
                    "xaxis": {
                        "title": {"text": escaped(key)},
                        "type": "log" if self._is_log(key, lines) else "linear",
                    },
                    "showlegend": len(lines) > 1,
                },
            }

    def paper(self) -> Figure | None:
        """Draw a panel for each setting; None without one that has values enough."""
        shown = list(self._lines.items())[:_MOST_PANELS]
        if not shown:
            return None
        from matplotlib.ticker import NullFormatter

        figure, grid = empty_panels(len(shown))
        for axes, (key, lines) in zip(grid, shown, strict=True):
            for line in reversed(lines):
                _draw(axes, line)
            if self._is_log(key, lines):
                axes.set_xscale("log")
                axes.xaxis.set_minor_formatter(NullFormatter())  # labels that run together
            axes.set_xlabel(printable(key), **LITERAL)
            axes.set_ylabel(printable(self._metric), **LITERAL)
        styles = {line.style.name: line.style for _, lines in shown for line in lines}
        entries = [
            entry(legend_name(label), **{**style.on_paper, "marker": "o"})
            for label, style in styles.items()
        ]
        note = _note([line for _, lines in shown for line in lines])
        add_legend(figure, entries, f"{note.rstrip('.')}{self._mark}.")
        return figure


def _line(points: Points) -> _Line:
    """Return the line of an optimizer, by its values in their order."""
    style = next(iter(points.values())).optimizer_style
    x, means = list(points), [each.row.mean or 0.0 for each in points.values()]
    if _are_draws(points):
        most = max(LEAST_VALUES, len(x) // 4)
        windows = [slice(begin, begin + most) for begin in range(len(x) - most + 1)]
        return _Line(
            style,
            [statistics.median(x[each]) for each in windows],
            [statistics.median(means[each]) for each in windows],
            [min(means[each]) for each in windows],
            [max(means[each]) for each in windows],
            [f"{most} settings, {x[each][0]:.4g} to {x[each][-1]:.4g}" for each in windows],
            points,
        )
    errors = [_error(each) for each in points.values()]
    return _Line(
        style,
        x,
        means,
        [mean - error for mean, error in zip(means, errors, strict=True)],
        [mean + error for mean, error in zip(means, errors, strict=True)],
        [escaped(each.name) for each in points.values()],
        points,
    )


def _are_draws(points: Points) -> bool:
    """Tell whether each value is there once, and other settings change with it."""
    settings = [each.row.group.settings for each in points.values()]
    varied = [
        key for key in settings[0] if len({each.get(key) for each in settings}) > len(settings) // 2
    ]
    return len(settings) >= _LEAST_DRAWS and len(varied) > 1


def _traces(line: _Line) -> list[Json]:
    """Return a band, its line, and the points behind it if they are not on it."""
    drawn = line_trace(
        line.style,
        line.x,
        line.y,
        mode="lines" if line.is_smoothed else "lines+markers",
        text=line.words,
        hovertemplate="%{y:.5~g} (%{text})<extra>%{fullData.name}</extra>",
    )
    behind = {
        "x": list(line.points),
        "y": [each.row.mean for each in line.points.values()],
        "text": [escaped(each.name) for each in line.points.values()],
        "mode": "markers",
        "marker": {"color": line.style.colour, "size": 5, "symbol": "circle-open"},
        "showlegend": False,
        "hovertemplate": "%{y:.5~g} (%{text})<extra></extra>",
    }
    return [*line.style.band(line.x, line.low, line.high), drawn] + (
        [behind] if line.is_smoothed else []
    )


def _draw(axes: Axes, line: _Line) -> None:
    own = line.style.on_paper
    axes.fill_between(line.x, line.low, line.high, color=own["color"], alpha=0.2, linewidth=0)
    dots = {**own, "marker": "o"}
    if line.is_smoothed:
        axes.plot(line.x, line.y, color=own["color"])
        means = [each.row.mean or 0.0 for each in line.points.values()]
        axes.plot(list(line.points), means, **{**dots, "linestyle": "", "markersize": 3})
    else:
        axes.plot(line.x, line.y, **dots)


def _note(lines: Sequence[_Line]) -> str:
    found = []
    if not all(line.is_smoothed for line in lines):
        found.append("The best mean at each value, over the other settings, and its s.e.")
    if any(line.is_smoothed for line in lines):
        found.append("Of draws, each with other settings too: the median of neighbours, and all.")
    return " ".join(found)


def _error(setting: DrawnSetting) -> float:
    summary = setting.row.summary
    return (summary.standard_error or 0.0) if summary else 0.0


def _spans(lines: Sequence[_Line]) -> bool:
    """Tell if the values want a logarithmic axis."""
    values = [value for line in lines for value in line.points]
    return min(values) > 0 and max(values) >= _LOG_RATIO * min(values)
