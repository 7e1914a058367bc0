"""A page that needs nothing but itself, with answer, tables, charts and origin; files beside it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from pydantic import TypeAdapter

from deltagclip_cli import __version__
from deltagclip_cli.report.appearance import LineStyles, Style
from deltagclip_cli.report.charts import (
    charts_across,
    charts_of,
    charts_of_methods,
    figures,
    save,
)
from deltagclip_cli.report.charts.lines import SHOWN_AT_FIRST, PageLines
from deltagclip_cli.report.checklist import (
    Checklist,
    checklist_file,
    checklist_markdown,
    checklist_of,
)
from deltagclip_cli.report.methods_section import methods_of
from deltagclip_cli.report.output import FileNames
from deltagclip_cli.report.prose import sentences
from deltagclip_cli.report.provenance import Provenance, provenance
from deltagclip_cli.report.record import Record, sealed
from deltagclip_cli.results.compare.analysis import Analysis, analyse, overall_table
from deltagclip_cli.results.compare.effort import effort_table
from deltagclip_cli.results.compare.formats import csv_text, json_text, latex, markdown
from deltagclip_cli.results.compare.published import published_table
from deltagclip_cli.results.compare.scales import scaling_table
from deltagclip_cli.results.compare.sensitivity import (
    heat_map_table,
    sensitivity_tables,
    usual_heat_maps,
)
from deltagclip_cli.results.compare.tables import Table, cost_table, difference_table, value_table
from deltagclip_cli.theory.certificate import certificates_of, numbers_table, verdict_table

if TYPE_CHECKING:
    from deltagclip_cli.results.compare.comparison import Comparison
    from deltagclip_cli.results.compare.request import Request
    from deltagclip_cli.results.read.run import Reading, Run


@dataclass(frozen=True)
class ReportSection:
    """One comparison on the page."""

    name: str  # for links within the page
    title: str  # of the comparison
    sentences: Sequence[str]  # the answer in words
    tables: Sequence[PageTable]  # of the comparison, that of the values first


@dataclass(frozen=True)
class PageContent:
    """All that a page shows, of which :func:`render` makes it without another look at the runs.

    The page carries it as plain data, so that whoever has the runs can work it out anew.
    """

    title: str
    version: str  # of this program
    sections: Sequence[ReportSection]  # one for each comparison
    across: Sequence[PageTable]  # that belong to no comparison alone
    methods: Mapping[str, Sequence[MethodsPart]]  # of each experiment with a plan
    provenance: Provenance
    problems: Sequence[str]  # what could not be read, or is in doubt
    data: dict[str, Any]  # of the charts
    thinned: int  # how many points of each line are shown; 0 for all
    checklist: Checklist | None = None  # that was asked for
    record: Record | None = None  # what was asked and read; None of a page that nobody can verify


def page(title: str, runs: Sequence[Run], answer: Analysis | None, problems: Sequence[str]) -> str:
    """Return a report as HTML; without an answer there is nothing to compare yet."""
    return render(content_of(title, runs, answer, problems))


def content_of(
    title: str,
    runs: Sequence[Run],
    answer: Analysis | None,
    problems: Sequence[str],
    checklist: str | None = None,
) -> PageContent:
    """Work out what a page shows; with a checklist that is filled, if one is named."""
    origin = provenance(runs)
    comparisons = answer.comparisons if answer else []
    sections = [
        ReportSection(f"comparison-{number}", each.title, sentences(each), tables_of(each, answer))
        for number, each in enumerate(comparisons)
        if answer
    ]
    lines = PageLines.for_page(comparisons)
    longest = max((len(c.values) for run in runs for c in run.curves.values()), default=0)
    return PageContent(
        title=title,
        version=__version__,
        sections=sections,
        across=tables_across(answer) if answer else [],
        methods=_methods(answer) if answer else {},
        provenance=origin,
        problems=problems,
        data=_data(answer, sections, lines) if answer else {},
        thinned=lines.points if longest > lines.points else 0,
        checklist=checklist_of(checklist, runs, answer, origin.facts) if checklist else None,
    )


def render(content: PageContent) -> str:
    """Return a page as HTML, sealed; the same content has the same bytes."""
    shown = {each.name: getattr(content, each.name) for each in fields(content)}
    text = _template().render(
        **shown,
        carried={key: each for key, each in as_data(content).items() if key != "data"},
        plotly=_asset("plotly-cartesian.min.js"),
        script=_asset("page.js"),
        style=_asset("page.css"),
    )
    return sealed(text)


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader(__package__ or "", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # NaN is no JSON, and a browser would stop at it.
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment.get_template("page.html")


@cache
def _adapter() -> TypeAdapter[PageContent]:
    return TypeAdapter(PageContent)


def as_data(content: PageContent) -> dict[str, Any]:
    """Return the content of a page as JSON has it."""
    data: dict[str, Any] = _adapter().dump_python(content, mode="json")
    return data


def content_from(data: Mapping[str, Any]) -> PageContent:
    """Return the content of a page from what it carries; ValidationError if it is none."""
    return _adapter().validate_python(data)


@dataclass(frozen=True)
class MethodsPart:
    """A part of the methods section on the page."""

    heading: str
    paragraphs: Sequence[str]
    tables: Sequence[PageTable]


def _methods(answer: Analysis) -> dict[str, list[MethodsPart]]:
    return {
        name: [
            MethodsPart(
                part.heading,
                part.paragraphs,
                [PageTable("methods", each.title, each, _csv(each)) for each in part.tables],
            )
            for part in parts
        ]
        for name, parts in methods_of(answer).items()
    }


def _asset(name: str) -> str:
    return files(__package__ or "").joinpath("assets", name).read_text("utf-8")


def _data(answer: Analysis, sections: Sequence[ReportSection], lines: PageLines) -> dict[str, Any]:
    """Return what the charts show; their axes come last, when all lines have been made."""
    styles = LineStyles.of(answer.comparisons)
    pairs = zip(sections, answer.comparisons, strict=True)
    across = [each for _, chart in charts_across(answer, styles) for each in chart.page(lines)]
    charts = {section.name: _charts(comparison, styles, lines) for section, comparison in pairs}
    tuned = charts_of_methods(answer, styles)
    methods = {name: list(chart.page(lines)) for name, chart in tuned.items()}
    return {"sections": charts, "across": across, "methods": methods, "axes": lines.axes}


def _charts(comparison: Comparison, styles: LineStyles, lines: PageLines) -> dict[str, Any]:
    groups = [
        {"heading": chart.heading, "charts": list(chart.page(lines))}
        for chart in charts_of(comparison, styles)
    ]
    return {
        "lines": [asdict(styles.settings[row.group.name]) for row in comparison.rows],
        "shown": SHOWN_AT_FIRST,
        "epochs": comparison.has_epochs,
        "clock": f"{comparison.clock}s",
        "groups": [group for group in groups if group["charts"]],
    }


@dataclass(frozen=True)
class PageTable:
    """A table and what it is copied as."""

    kind: str  # a word for what it shows, such as ``values``
    caption: str  # its title without what all tables of the comparison have in theirs
    content: Table
    csv: str  # for programs; of values with every number in full precision

    @property
    def latex(self) -> str:
        return latex([self.content])

    @property
    def markdown(self) -> str:
        return markdown([self.content])


def tables_of(comparison: Comparison, answer: Analysis) -> list[PageTable]:
    """Return those of one comparison, first that of the values."""
    tables: list[tuple[str, Iterable[Table | None]]] = [
        ("values", [value_table(comparison, comparison.rows)]),
        ("cost", [cost_table(comparison, comparison.rows)]),
        ("differences", [difference_table(comparison)]),
        ("effort", [effort_table(comparison)]),
        ("sensitivity", sensitivity_tables([comparison], answer.margin)),
        ("published", [published_table(comparison)]),
        ("certificate", _certificate_tables(comparison)),
    ]
    whole = csv_text(replace(answer, comparisons=[comparison]))
    return [
        PageTable(kind, _caption(each, comparison), each, whole if kind == "values" else _csv(each))
        for kind, found in tables
        for each in found
        if each is not None
    ]


def tables_across(answer: Analysis) -> list[PageTable]:
    """Return those that belong to no comparison alone."""
    maps = [("heat-map", heat_map_table(each)) for each in answer.heat_maps]
    scaled = [("speed-up", scaling_table(each)) for each in answer.scalings]
    overall = [("across", overall_table(answer.across))] if answer.across is not None else []
    certified = [("certificate", each) for each in _certificates_across(answer.comparisons)]
    return [
        PageTable(kind, each.title, each, _csv(each))
        for kind, each in [*maps, *scaled, *overall, *certified]
    ]


def _certificate_tables(comparison: Comparison) -> Iterator[Table]:
    """Yield what each line came to for each setting, and its numbers; nothing if no run has any."""
    if found := certificates_of([run for row in comparison.rows for run in row.once]):
        yield verdict_table(f"{comparison.title}: certificate", found)
        yield numbers_table(f"{comparison.title}: numbers of the certificate", found)


def _certificates_across(comparisons: Sequence[Comparison]) -> Iterator[Table]:
    """Yield the numbers of all conditions of an experiment that has several, such as widths."""
    for name in dict.fromkeys(each.experiment for each in comparisons):
        own = [each for each in comparisons if each.experiment == name]
        runs = [run for each in own for row in each.rows for run in row.once]
        found = certificates_of(runs) if len(own) > 1 else []
        if found:
            yield numbers_table(f"{name}: numbers of the certificate", found)


def _caption(table: Table, comparison: Comparison) -> str:
    rest = table.title.removeprefix(f"{comparison.title}: ")
    is_metric = rest.startswith(comparison.question.metric)
    return rest if is_metric else f"{rest[:1].upper()}{rest[1:]}"


def _csv(table: Table) -> str:
    """Return it with a column more where something was chosen, for its notes stay behind."""
    more = [] if table.chosen_on is None else [table.chosen_on]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*table.headings, *(["chosen_on"] if more else [])])
    writer.writerows([*(cell.whole for cell in row), *more] for row in table.rows)
    return text.getvalue()


PAGE = "report.html"


def answered(reading: Reading, request: Request) -> Analysis | None:
    """Return the answer that a page gives; None if no run has come to the end of an epoch."""
    if not any(run.curves for run in reading.runs):
        return None
    answer = analyse(reading, request)
    if request.heatmap is None:
        return replace(answer, heat_maps=usual_heat_maps(answer.comparisons))
    return answer


def write_files(
    draft: Path,
    title: str,
    reading: Reading,
    answer: Analysis | None,
    formats: Sequence[str],
    style: Style | None,
    record: Callable[[Path], Record] | None = None,
    checklist: str | None = None,
) -> None:
    """Write a page, and beside it tables, figures (if in a style) and every number for programs.

    ``record`` returns what the page carries, given the folder with all else.
    """
    problems = answer.problems if answer else reading.problems
    content = content_of(title, reading.runs, answer, problems, checklist)
    names = FileNames()
    for name, text in texts_beside(content, answer, names).items():
        (draft / name).parent.mkdir(exist_ok=True)
        (draft / name).write_text(text, encoding="utf-8")
    if answer is not None and style is not None:
        (draft / "figures").mkdir()
        for each in figures(answer, style):
            path = draft / "figures" / names.name(each.title, each.kind)
            for ending in formats:
                save(each, path.with_suffix(f".{ending}"), style)
    if record is not None:  # behind all that was read for the content
        content = replace(content, record=record(draft))
    (draft / PAGE).write_text(render(content), encoding="utf-8")


def texts_beside(content: PageContent, answer: Analysis | None, names: FileNames) -> dict[str, str]:
    """Return the files beside a page that can be worked out anew, by name; figures cannot."""
    texts = {}
    if content.checklist is not None:
        texts[checklist_file(content.checklist)] = checklist_markdown(content.checklist)
    if answer is None:
        return texts
    texts["comparison.json"] = json_text(answer)
    own = [(c.title, each) for c in answer.comparisons for each in tables_of(c, answer)]
    for of, table in [*own, *(("", each) for each in tables_across(answer))]:
        name = f"tables/{names.name(of, table.kind)}"
        texts |= {f"{name}.tex": table.latex, f"{name}.md": table.markdown}
    return texts
