"""Metrics of the data: on paper loss beside accuracy, train solid and test dotted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from deltagclip_cli.core import plural
from deltagclip_cli.report.appearance import LITERAL, DrawnSetting, as_label, drawable, on_paper
from deltagclip_cli.report.charts.bounds import SHOWN as IN_CERTIFICATES
from deltagclip_cli.report.charts.lines import (
    POINTS_ON_PAPER,
    Json,
    PageLines,
    add_line_legend,
    draw_lines,
    entry,
    lines_of,
    may_be_log,
    panels,
)
from deltagclip_cli.report.charts.steps import SHOWN as IN_STEPS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deltagclip_cli.results.compare.comparison import Comparison

SETS = {"train": "-", "test": ":", "val": "--", "": "-."}  # the last of no data set
_FIRST = ("loss", "accuracy")
_MOST_PANELS = 8  # what is on a page; a program may log a hundred metrics


@dataclass(frozen=True)
class Curves:
    """The metrics of data sets, and those under names that are not the usual ones."""

    comparison: Comparison
    settings: Sequence[DrawnSetting]
    kind = "curves"
    heading = "Curves"

    @cached_property
    def _quantities(self) -> dict[str, dict[str, str]]:
        """The metric of each data set by quantity: loss, accuracy, what was asked, the others."""
        names = dict.fromkeys(
            name for each in self.settings for run in each.row.runs for name in run.curves
        )
        found: dict[str, dict[str, str]] = {
            quantity: {} for quantity in (*_FIRST, _split(self.comparison.question.metric)[1])
        }
        for name in names:
            if name not in IN_STEPS | IN_CERTIFICATES and not name.startswith("perf/"):
                dataset, quantity = _split(name)
                found.setdefault(quantity, {})[dataset] = name
        order = list(SETS)
        return {
            quantity: dict(sorted(metrics.items(), key=lambda item: order.index(item[0])))
            for quantity, metrics in found.items()
        }

    def page(self, page: PageLines) -> Iterator[Json]:
        """Yield a chart for each metric, with a line for each setting."""
        ddof = self.comparison.question.ddof
        for metrics in self._quantities.values():
            for metric in metrics.values():
                if lines := lines_of(self.settings, metric, ddof, page.points):
                    yield page.chart(metric, lines, is_log=may_be_log(metric))

    def paper(self) -> Figure | None:
        """Draw a panel for each quantity; None if nothing was measured."""
        ddof, settings = self.comparison.question.ddof, on_paper(self.settings)
        found = {
            quantity: {
                dataset: lines
                for dataset, metric in metrics.items()
                if (lines := lines_of(settings, metric, ddof, POINTS_ON_PAPER, style=SETS[dataset]))
            }
            for quantity, metrics in self._quantities.items()
        }
        quantities = [quantity for quantity, lines in found.items() if lines]
        shown, others = quantities[:_MOST_PANELS], quantities[_MOST_PANELS:]
        if not shown:
            return None
        figure, grid = panels(len(shown))
        there = [dataset for dataset in SETS if any(dataset in found[each] for each in shown)]
        everything = []
        for axes, quantity in zip(grid, shown, strict=True):
            lines = sorted(
                (line for each in found[quantity].values() for line in each),
                key=lambda line: line.setting.number,
            )
            if len(there) == 1:
                lines = [replace(line, style="-") for line in lines]
            draw_lines(axes, self.comparison, lines, is_log=may_be_log(quantity))
            only = "".join(found[quantity]) if len(found[quantity]) == 1 else ""
            axes.set_ylabel(as_label(f"{only} {quantity}".strip()), **LITERAL)
            everything += lines
        kinds = [entry(dataset, linestyle=SETS[dataset]) for dataset in there if len(there) > 1]
        names = ", ".join(map(drawable, others))
        note = f"Without {plural(len(others), 'other metric')}: {names}." if others else ""
        add_line_legend(figure, self.comparison, settings, everything, kinds, note)
        return figure


def _split(metric: str) -> tuple[str, str]:
    """Return a data set, if the name begins with one, and the quantity."""
    dataset, slash, quantity = metric.partition("/")
    return (dataset, quantity) if slash and dataset and dataset in SETS else ("", metric)
