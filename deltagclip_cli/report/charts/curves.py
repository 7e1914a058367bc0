"""Metrics of the data: on paper loss beside accuracy, train solid and test dotted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from deltagclip_cli.core import plural, printable
from deltagclip_cli.report.appearance import DrawnSetting, on_paper
from deltagclip_cli.report.charts.bounds import SHOWN as IN_CERTIFICATES
from deltagclip_cli.report.charts.lines import POINTS_ON_PAPER, LineCharts, Panel, may_be_log
from deltagclip_cli.report.charts.steps import SHOWN as IN_STEPS
from deltagclip_cli.results.read.run import split_metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETS = {"train": "-", "test": ":", "val": "--", "": "-."}  # the last of no data set
_FIRST = ("loss", "accuracy")
_MOST_PANELS = 8  # what is on a page; a program may log a hundred metrics


@dataclass(frozen=True)
class Curves(LineCharts):
    """The metrics of data sets, and those under names that are not the usual ones."""

    kind = "curves"
    heading = "Curves"

    @cached_property
    def _quantities(self) -> dict[str, dict[str, str]]:
        """The metric of each data set by quantity: loss, accuracy, what was asked, the others."""
        names = dict.fromkeys(
            name for each in self.settings for run in each.row.runs for name in run.curves
        )
        found: dict[str, dict[str, str]] = {
            quantity: {} for quantity in (*_FIRST, split_metric(self.comparison.question.metric)[1])
        }
        for name in names:
            if name not in IN_STEPS | IN_CERTIFICATES and not name.startswith("perf/"):
                dataset, quantity = split_metric(name)
                found.setdefault(quantity, {})[dataset] = name
        order = list(SETS)
        return {
            quantity: dict(sorted(metrics.items(), key=lambda item: order.index(item[0])))
            for quantity, metrics in found.items()
        }

    def panels(self, settings: Sequence[DrawnSetting], most: int) -> Iterator[Panel]:
        """Yield each metric."""
        for metrics in self._quantities.values():
            for metric in metrics.values():
                if lines := self.lines(settings, metric, most):
                    yield Panel(metric, lines, may_be_log(metric))

    def paper(self) -> Figure | None:
        """Draw a panel for each quantity; None if nothing was measured."""
        panels = [each for each in map(self._panel, self._quantities) if each.lines]
        shown, others = panels[:_MOST_PANELS], panels[_MOST_PANELS:]
        if len({line.role for panel in shown for line in panel.lines}) == 1:
            solid = ([replace(line, linestyle="-") for line in panel.lines] for panel in shown)
            shown = [replace(p, lines=lines) for p, lines in zip(shown, solid, strict=True)]
        names = ", ".join(printable(panel.title) for panel in others)
        note = f"Without {plural(len(others), 'other metric')}: {names}." if others else ""
        return self.figure(shown, note)

    def _panel(self, quantity: str) -> Panel:
        """Return a quantity on all data sets, the lines of each setting together."""
        settings = on_paper(self.settings)
        lines = [
            line
            for role, metric in self._quantities[quantity].items()
            for line in self.lines(
                settings, metric, POINTS_ON_PAPER, linestyle=SETS[role], role=role
            )
        ]
        lines.sort(key=lambda line: line.setting.number)
        roles = {line.role for line in lines}
        title = f"{roles.pop()} {quantity}".strip() if len(roles) == 1 else quantity
        return Panel(title, lines, may_be_log(quantity))
