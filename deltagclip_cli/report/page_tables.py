"""The tables of a report, each in every form in which somebody may want to have it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from deltagclip_cli.report.certificate_charts import certificate_sheets, certificates_across
from deltagclip_cli.results.compare.analysis import Analysis
from deltagclip_cli.results.compare.comparison import Comparison
from deltagclip_cli.results.compare.export import csv_text, latex, markdown
from deltagclip_cli.results.compare.profiles import overall_sheet
from deltagclip_cli.results.compare.published import published_sheets
from deltagclip_cli.results.compare.sensitivity import heat_map_sheet, sensitivity_sheets
from deltagclip_cli.results.compare.tables import Sheet, cost_sheet, difference_sheet, value_sheet


@dataclass(frozen=True)
class Table:
    """A sheet and what it is copied as.

    Args:
        kind: a word for what it shows, such as ``values``.
        caption: its title without what all tables of the comparison have in theirs.
        sheet: the table.
        csv: for programs; of values with every number in full precision.
    """

    kind: str
    caption: str
    sheet: Sheet
    csv: str

    @property
    def latex(self) -> str:
        return latex([self.sheet])

    @property
    def markdown(self) -> str:
        return markdown([self.sheet])


def tables_of(comparison: Comparison, answer: Analysis) -> list[Table]:
    """Those of one comparison, first that of the values."""
    sheets: list[tuple[str, Iterable[Sheet | None]]] = [
        ("values", [value_sheet(comparison, intervals=answer.request.intervals)]),
        ("cost", [cost_sheet(comparison)]),
        ("differences", [difference_sheet(comparison)]),
        ("sensitivity", sensitivity_sheets([comparison], answer.margin)),
        ("published", published_sheets([comparison])),
        ("certificate", certificate_sheets(comparison)),
    ]
    whole = csv_text(replace(answer, comparisons=[comparison]))
    return [
        Table(kind, _caption(sheet, comparison), sheet, whole if kind == "values" else _csv(sheet))
        for kind, found in sheets
        for sheet in found
        if sheet is not None
    ]


def tables_across(answer: Analysis) -> list[Table]:
    """Those that belong to no comparison alone."""
    maps = [("heat-map", heat_map_sheet(each)) for each in answer.heat_maps]
    overall = [("across", overall_sheet(answer.across))] if answer.across is not None else []
    certified = [("certificate", each) for each in certificates_across(answer.comparisons)]
    sheets = [*maps, *overall, *certified]
    return [Table(kind, each.title, each, _csv(each)) for kind, each in sheets]


def all_tables(answer: Analysis) -> Iterator[tuple[str, Table]]:
    """Every table, with the title of the comparison that it belongs to."""
    for comparison in answer.comparisons:
        for table in tables_of(comparison, answer):
            yield comparison.title, table
    for table in tables_across(answer):
        yield "", table


def _caption(sheet: Sheet, comparison: Comparison) -> str:
    rest = sheet.title.removeprefix(f"{comparison.title}: ")
    is_metric = rest.startswith(comparison.question.metric)
    return rest if is_metric else f"{rest[:1].upper()}{rest[1:]}"


def _csv(sheet: Sheet) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    rows: Sequence[Sequence[str]] = [[cell.whole for cell in line.cells] for line in sheet.lines]
    writer.writerows([sheet.columns, *rows])
    return text.getvalue()
