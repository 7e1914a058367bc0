"""The tables of a report, each in every form in which somebody may want to have it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from deltagclip_cli.report.certificate_charts import certificate_tables, certificates_across
from deltagclip_cli.results.compare.analysis import Analysis, overall_table
from deltagclip_cli.results.compare.comparison import Comparison
from deltagclip_cli.results.compare.export import csv_text, latex, markdown
from deltagclip_cli.results.compare.published import published_table
from deltagclip_cli.results.compare.sensitivity import heat_map_table, sensitivity_tables
from deltagclip_cli.results.compare.tables import (
    Table,
    cost_table,
    difference_table,
    value_table,
)


@dataclass(frozen=True)
class PageTable:
    """A table and what it is copied as.

    Args:
        kind: a word for what it shows, such as ``values``.
        caption: its title without what all tables of the comparison have in theirs.
        content: the table.
        csv: for programs; of values with every number in full precision.
    """

    kind: str
    caption: str
    content: Table
    csv: str

    @property
    def latex(self) -> str:
        return latex([self.content])

    @property
    def markdown(self) -> str:
        return markdown([self.content])


def tables_of(comparison: Comparison, answer: Analysis) -> list[PageTable]:
    """Those of one comparison, first that of the values."""
    tables: list[tuple[str, Iterable[Table | None]]] = [
        ("values", [value_table(comparison)]),
        ("cost", [cost_table(comparison)]),
        ("differences", [difference_table(comparison)]),
        ("sensitivity", sensitivity_tables([comparison], answer.margin)),
        ("published", [published_table(comparison)]),
        ("certificate", certificate_tables(comparison)),
    ]
    whole = csv_text(replace(answer, comparisons=[comparison]))
    return [
        PageTable(kind, _caption(each, comparison), each, whole if kind == "values" else _csv(each))
        for kind, found in tables
        for each in found
        if each is not None
    ]


def tables_across(answer: Analysis) -> list[PageTable]:
    """Those that belong to no comparison alone."""
    maps = [("heat-map", heat_map_table(each)) for each in answer.heat_maps]
    overall = [("across", overall_table(answer.across))] if answer.across is not None else []
    certified = [("certificate", each) for each in certificates_across(answer.comparisons)]
    return [
        PageTable(kind, each.title, each, _csv(each))
        for kind, each in [*maps, *overall, *certified]
    ]


def all_tables(answer: Analysis) -> Iterator[tuple[str, PageTable]]:
    """Every table, with the title of the comparison that it belongs to."""
    for comparison in answer.comparisons:
        for table in tables_of(comparison, answer):
            yield comparison.title, table
    for table in tables_across(answer):
        yield "", table


def _caption(table: Table, comparison: Comparison) -> str:
    rest = table.title.removeprefix(f"{comparison.title}: ")
    is_metric = rest.startswith(comparison.question.metric)
    return rest if is_metric else f"{rest[:1].upper()}{rest[1:]}"


def _csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.headings)
    writer.writerows([cell.whole for cell in row] for row in table.rows)
    return text.getvalue()
