"""What was measured on data: on paper loss beside accuracy, train solid and test dotted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from deltagclip_cli.core import plural
from deltagclip_cli.report.appearance import (
    LITERAL,
    DrawnSetting,
    as_label,
    drawable,
    left_out_note,
)
from deltagclip_cli.report.charts.bounds import SHOWN as IN_CERTIFICATES
from deltagclip_cli.report.charts.lines import (
    POINTS_ON_PAPER,
    Band,
    Json,
    PageLines,
    add_legend,
    clock,
    draw_line,
    end_entries,
    ends_of,
    entry,
    may_be_log,
    panels,
    pieces,
    set_limits,
    set_x,
    setting_entries,
)
from deltagclip_cli.report.charts.steps import SHOWN as IN_STEPS
from deltagclip_cli.results.compare.comparison import Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETS = {"train": "-", "test": ":", "val": "--", "": "-."}  # the last of no data set
_FIRST = ("loss", "accuracy")
_MOST_PANELS = 8  # what is on a page; a program may log a hundred metrics


@dataclass(frozen=True, eq=False)
class _Line:
    """A metric of a setting on paper."""

    setting: DrawnSetting
    dataset: str
    pieces: Sequence[Band]


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
        for metric in (m for metrics in self._quantities.values() for m in metrics.values()):
            lines = [
                page.line(each, found)
                for each in self.settings
                if (found := pieces(each.row.once, metric, ddof, page.points))
            ]
            if lines:
                yield page.chart(metric, lines, is_log=may_be_log(metric))

    def paper(self) -> Figure | None:
        """Draw a panel for each quantity; None if nothing was measured."""
        found = {quantity: each for quantity in self._quantities if (each := self._lines(quantity))}
        shown = list(found)[:_MOST_PANELS]
        if not shown:
            return None
        figure, grid = panels(len(shown))
        there = {line.dataset for quantity in shown for line in found[quantity]}
        styles = {dataset: style for dataset, style in SETS.items() if dataset in there}
        if len(there) == 1:
            styles = dict.fromkeys(there, "-")
        for axes, quantity in zip(grid, shown, strict=True):
            lines = found[quantity]
            bands = [piece for line in lines for piece in line.pieces]
            set_limits(axes, bands, is_log=may_be_log(quantity))
            for line in reversed(lines):  # so that the best lies above the others
                draw_line(axes, line.setting, line.pieces, styles[line.dataset])
            own = {line.dataset for line in lines}
            only = "".join(own) if len(own) == 1 else ""
            axes.set_ylabel(as_label(f"{only} {quantity}".strip()), **LITERAL)
            set_x(axes, ends_of(bands), clock(self.comparison))
        entries = setting_entries(each for each in self.settings if each.place is not None)
        if len(styles) > 1:
            entries += [entry(dataset, linestyle=style) for dataset, style in styles.items()]
        entries += end_entries([b for q in shown for line in found[q] for b in line.pieces])
        others = [drawable(quantity) for quantity in list(found)[_MOST_PANELS:]]
        without = f"Without {plural(len(others), 'other metric')}: {', '.join(others)}."
        notes = [left_out_note(self.comparison), without if others else ""]
        add_legend(figure, entries, " ".join(filter(None, notes)))
        return figure

    def _lines(self, quantity: str) -> list[_Line]:
        ddof = self.comparison.question.ddof
        return [
            _Line(each, dataset, found)
            for each in self.settings
            if each.place is not None
            for dataset, metric in self._quantities[quantity].items()
            if (found := pieces(each.row.once, metric, ddof, POINTS_ON_PAPER))
        ]


def _split(metric: str) -> tuple[str, str]:
    """Return a data set, if the name begins with one, and the quantity."""
    dataset, slash, quantity = metric.partition("/")
    return (dataset, quantity) if slash and dataset and dataset in SETS else ("", metric)
