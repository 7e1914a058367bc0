"""Charts: one module each, with its data, what of it the page shows, and what is drawn on paper.

One more chart of a comparison is one file here and one line in :data:`TABLE`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from deltagclip_cli.core import load_target, written_whole
from deltagclip_cli.report.appearance import LineStyles, Style, drawn_settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deltagclip_cli.report.charts.lines import Json, PageLines
    from deltagclip_cli.results.compare.analysis import Analysis
    from deltagclip_cli.results.compare.comparison import Comparison


class Chart(Protocol):
    """One kind of charts of the same data, in both forms."""

    @property
    def kind(self) -> str: ...

    @property
    def heading(self) -> str: ...

    def page(self, page: PageLines) -> Iterable[Json]:
        """Return charts of the page, each with a ``title``, and for ``assets/page.js`` either

        * ``lines`` over the training, made by :meth:`PageLines.chart`, or
        * ``traces`` and a ``layout`` of plotly's. A trace with a ``row`` goes with that line of the
          legend; the x of one with an ``axis`` is by the clock that is chosen on the page.
        """

    def paper(self) -> Figure | None:
        """Draw with matplotlib, in the style in force; None if there is nothing to be seen."""


TABLE = {
    "curves": "deltagclip_cli.report.charts.curves:Curves",
    "step-size": "deltagclip_cli.report.charts.steps:Steps",
    "regimes": "deltagclip_cli.report.charts.steps:Regimes",
    "time-to-target": "deltagclip_cli.report.charts.targets:Targets",
    "settings": "deltagclip_cli.report.charts.settings:BySetting",
    "bounds": "deltagclip_cli.report.charts.bounds:Bounds",
}
"""The charts of a comparison by their kinds, in the order in which they are read.

Each is called with the comparison, and with its settings and their line styles.
"""


def charts_of(comparison: Comparison, styles: LineStyles) -> list[Chart]:
    """Return the charts of a comparison."""
    settings = drawn_settings(comparison, styles)
    return [load_target(target)(comparison, settings) for target in TABLE.values()]


def charts_across(answer: Analysis, styles: LineStyles) -> list[tuple[str, Chart]]:
    """Return the charts that belong to no comparison alone, each with its title."""
    from deltagclip_cli.report.charts.heat_maps import ShadedCells
    from deltagclip_cli.report.charts.performance import Profiles
    from deltagclip_cli.report.charts.speed_ups import SpeedUps

    charts: list[tuple[str, Chart]] = [
        (each.title, ShadedCells(each, f"heat-map-{number}"))
        for number, each in enumerate(answer.heat_maps, 1)
    ]
    charts += [(each.title, SpeedUps(each, styles.optimizers)) for each in answer.scalings]
    if answer.across is not None:
        has_epochs = any(each.has_epochs for each in answer.comparisons)
        charts.append(("All experiments", Profiles(answer.across, styles.optimizers, has_epochs)))
    return charts


def charts_of_methods(answer: Analysis, styles: LineStyles) -> dict[str, Chart]:
    """Return the chart of the methods of each experiment that was tuned by a protocol."""
    from deltagclip_cli.report.charts.budgets import BestOfBudgets

    return {
        each.lock.tuning.name: BestOfBudgets(each, styles.optimizers) for each in answer.verdicts
    }


FORMATS = ("pdf", "png", "svg")

# Without what would make the bytes differ from day to day.
_METADATA: Mapping[str, Mapping[str, None]] = {
    "pdf": {"CreationDate": None, "ModDate": None, "Producer": None, "Creator": None},
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
}


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure and what it shows."""

    # of the comparison or whatever it is about; no part of the figure itself, for a paper says it
    # in the caption
    title: str
    kind: str  # such as ``curves``
    figure: Figure  # which is drawn


def figures(answer: Analysis, style: Style) -> Iterator[Drawing]:
    """Draw the figures of an answer one by one; UsageError if the user's style cannot be drawn."""
    styles = LineStyles.of(answer.comparisons)
    own = [(each.title, chart) for each in answer.comparisons for chart in charts_of(each, styles)]
    tuned = charts_of_methods(answer, styles).items()
    for title, chart in [*own, *tuned, *charts_across(answer, styles)]:
        with style.applied():
            figure = chart.paper()
        if figure is not None:
            yield Drawing(title, chart.kind, figure)


def save(drawing: Drawing, path: Path, style: Style) -> None:
    """Write a figure whole or not at all in one of :data:`FORMATS`; same data, same bytes."""
    form = path.suffix[1:]
    metadata: dict[str, Any] = {"Title": drawing.title, **_METADATA[form]}
    content = BytesIO()  # so that a full disk is not taken for a fault of the style
    with style.applied():
        drawing.figure.savefig(content, format=form, metadata=metadata)
    with written_whole(path) as file:
        file.write(content.getbuffer())
