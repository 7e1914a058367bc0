"""The curves of a comparison as plain data for the page's charts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deltagclip_cli.core import TRAINED_METRICS
from deltagclip_cli.report.bands import Band, band, thinned
from deltagclip_cli.report.certificate_charts import PANELS, PREFIX, SHOWN, with_bounds
from deltagclip_cli.report.step_sizes import (
    CLIP_RATIO,
    FRACTIONS,
    TITLES,
    with_ratio,
    with_regimes,
)
from deltagclip_cli.results.compare.analysis import CLOCKS, Overall
from deltagclip_cli.results.compare.comparison import Comparison, Row
from deltagclip_cli.results.read.run import Numbers, Run
from deltagclip_cli.results.statistics.across import Profile

Chart = dict[str, Any]

CURVES = sorted(TRAINED_METRICS, key=lambda name: name.endswith("/accuracy"))

MOST_POINTS = 400  # of one line: a chart is hardly wider in pixels
LEAST_POINTS = 20
MOST_NUMBERS = 300_000  # of all lines of a page: some 3 MB
MOST_AREAS = 6  # charts of regimes in a comparison; the table of costs has all


@dataclass
class Charts:
    """Makes the charts of a page, whose lines share what they are drawn over.

    Args:
        points: the most of each line.
        axes: the epochs, steps and seconds of lines; a line names one by its place.
        longest: how many points the longest line had before it was thinned.
    """

    points: int
    axes: list[Chart] = field(default_factory=list)
    longest: int = 0
    _places: dict[bytes, int] = field(default_factory=dict)

    @classmethod
    def for_page(cls, comparisons: Iterable[Comparison]) -> Charts:
        """With as many points of each line as a page has room for."""
        rows = [row for comparison in comparisons for row in comparison.rows]
        lines = sum((len(row.runs) + 2) * len(_names(row)) for row in rows)
        return cls(max(LEAST_POINTS, min(MOST_POINTS, MOST_NUMBERS // max(1, lines))))

    @property
    def thinned(self) -> bool:
        """Whether some line had more points than are shown."""
        return self.longest > self.points

    def of(self, comparison: Comparison) -> list[Chart]:
        """A chart for each metric, with a line for each setting in the order of the table."""
        rows = [[with_ratio(with_bounds(run)) for run in row.once] for row in comparison.rows]
        metrics = (*CURVES, *_others(comparison.rows), *TITLES)
        charts: list[Chart] = [
            {
                "metric": name,
                "title": TITLES.get(name, name),
                "part": _part(name),
                "lines": self._lines(rows, name, comparison.question.ddof),
            }
            for name in metrics
        ]
        charts += self._panels(rows, comparison.question.ddof)
        return [each for each in charts if each["lines"] and not _is_dull(each)]

    def _panels(self, rows: Sequence[Sequence[Run]], ddof: int) -> list[Chart]:
        """The charts of the certificate, in which a bound goes with each line."""
        return [
            {
                "metric": panel.metric,
                "title": panel.title,
                "part": "certificate",
                "lines": [
                    *self._lines(rows, panel.metric, ddof),
                    *(
                        {**line, "role": role}
                        for name, role in panel.others.items()
                        for line in self._lines(rows, name, ddof)
                    ),
                ],
            }
            for panel in PANELS
        ]

    def regimes(self, comparison: Comparison) -> list[Chart]:
        """For each of the first settings that clip, the shares of its steps as areas."""
        charts: list[Chart] = []
        for number, row in enumerate(comparison.rows):
            runs = [with_regimes(run) for run in row.once]
            lines = [
                {"name": name.removeprefix("optim/").removesuffix("_fraction"), **line}
                for name in FRACTIONS
                for line in self._lines([runs], name, comparison.question.ddof)
            ]
            if any(_is_area(line) for line in lines) and len(charts) < MOST_AREAS:
                charts.append({"row": number, "lines": lines})
        return charts

    def _lines(self, rows: Sequence[Sequence[Run]], metric: str, ddof: int) -> list[Chart]:
        bands = [(number, band(runs, metric, ddof)) for number, runs in enumerate(rows)]
        return [self._line(number, found) for number, found in bands if found is not None]

    def _line(self, number: int, whole: Band) -> Chart:
        self.longest = max(self.longest, len(whole.epochs))
        shown = whole.at(thinned(whole, self.points))
        line = {"row": number, "axis": self._axis(shown), "mean": _numbers(shown.mean)}
        if len(shown.seeds) == 1:
            return {**line, "error": None, "n": 1, "seeds": []}
        counts = shown.counts.tolist()
        return {
            **line,
            "error": _numbers(shown.standard_error),
            "n": counts[0] if len(set(counts)) == 1 else counts,
            "seeds": [_numbers(each) for each in shown.seeds],
        }

    def _axis(self, shown: Band) -> int:
        axis = {clock: getattr(shown, clock) for clock in CLOCKS}
        key = b"".join(numbers.tobytes() for numbers in axis.values())
        if key not in self._places:
            self._places[key] = len(self.axes)
            self.axes.append({clock: _numbers(numbers) for clock, numbers in axis.items()})
        return self._places[key]


def profiles(found: Overall) -> Mapping[str, Mapping[str, Chart]]:
    """The steps of each optimizer's performance profile, by clock and optimizer."""
    return {
        clock: {label: _steps(profile) for label, profile in by_label.items()}
        for clock, by_label in found.profiles.items()
    }


def _steps(profile: Profile) -> Chart:
    taus, shares = profile.steps()
    return {"tau": taus, "share": shares}


def _names(row: Row) -> dict[str, None]:
    return dict.fromkeys(name for run in row.runs for name in run.curves)


def _others(rows: Sequence[Row]) -> list[str]:
    """Metrics under names that are not the usual ones."""
    usual = {*CURVES, *TITLES, *FRACTIONS, *SHOWN, "optim/step_size", CLIP_RATIO}
    names = dict.fromkeys(name for row in rows for name in _names(row))
    return [name for name in names if name not in usual and not name.startswith("perf/")]


def _part(metric: str) -> str:
    """Which part of the page a chart belongs to."""
    if metric in TITLES:
        return "steps"
    if metric.startswith(PREFIX):
        return "certificate"
    return "curves"


def _is_dull(chart: Chart) -> bool:
    """Whether it shows learning rates that never change."""
    is_rate = chart["metric"] == "optim/lr"
    return is_rate and all(len(set(line["mean"])) == 1 for line in chart["lines"])


def _is_area(line: Chart) -> bool:
    """Whether some steps were clipped or floored; where all were plain, a chart says nothing."""
    return line["name"] in ("clipped", "floored") and any(line["mean"])


def _numbers(values: Numbers) -> list[float | None]:
    """In six digits, which is finer than a chart can show; null where there is none."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values.tolist()]
