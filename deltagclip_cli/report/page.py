"""One HTML file that needs nothing but itself: the answer, tables, charts, where all came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from deltagclip_cli import __version__
from deltagclip_cli.report.charts import Charts, profiles
from deltagclip_cli.report.line_styles import Looks
from deltagclip_cli.report.page_tables import PageTable, tables_across, tables_of
from deltagclip_cli.report.prose import sentences
from deltagclip_cli.report.provenance import provenance
from deltagclip_cli.report.sensitivity_charts import sensitivity_charts
from deltagclip_cli.results.compare.analysis import Analysis, Overall
from deltagclip_cli.results.compare.comparison import Comparison
from deltagclip_cli.results.read.run import Run

SHOWN_AT_FIRST = 10  # lines of a chart; the legend switches the others on


@dataclass(frozen=True)
class Section:
    """One comparison on the page.

    Args:
        name: for links within the page.
        title: of the comparison.
        sentences: the answer in words.
        tables: of the comparison, that of the values first.
    """

    name: str
    title: str
    sentences: Sequence[str]
    tables: Sequence[PageTable]


def page(title: str, runs: Sequence[Run], answer: Analysis | None, problems: Sequence[str]) -> str:
    """A report as HTML.

    Args:
        title: of the page.
        runs: all that were found.
        answer: what a comparison of them came to; None if there is nothing to compare yet.
        problems: what could not be read or is in doubt.
    """
    sections = _sections(answer) if answer else []
    charts = Charts.for_page(answer.comparisons if answer else [])
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=title,
            version=__version__,
            sections=sections,
            across=tables_across(answer) if answer else [],
            provenance=provenance(runs),
            problems=problems,
            data=_data(answer, sections, charts) if answer else {},
            thinned=charts.points if charts.thinned else 0,
            plotly=_asset("plotly-cartesian.min.js"),
            script=_asset("page.js"),
            style=_asset("page.css"),
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__ or "", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # NaN is no JSON, and a browser would stop at it.
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment


def _asset(name: str) -> str:
    return files(__package__ or "").joinpath("assets", name).read_text("utf-8")


def _sections(answer: Analysis) -> list[Section]:
    return [
        Section(f"comparison-{number}", each.title, sentences(each), tables_of(each, answer))
        for number, each in enumerate(answer.comparisons)
    ]


def _data(answer: Analysis, sections: Sequence[Section], charts: Charts) -> dict[str, Any]:
    """What the charts show; their axes come last, when all lines have been made."""
    looks = Looks.of(answer.comparisons)
    return {
        "sections": {
            section.name: _data_of(comparison, looks, charts)
            for section, comparison in zip(sections, answer.comparisons, strict=True)
        },
        "profiles": _profiles(answer.across, looks) if answer.across else None,
        "axes": charts.axes,
    }


def _data_of(comparison: Comparison, looks: Looks, charts: Charts) -> dict[str, Any]:
    return {
        "lines": [asdict(looks.settings[row.group.name]) for row in comparison.rows],
        "shown": SHOWN_AT_FIRST,
        "epochs": comparison.has_epochs,
        "charts": charts.of(comparison),
        "regimes": charts.regimes(comparison),
        "sensitivity": sensitivity_charts(comparison, looks),
    }


def _profiles(across: Overall, looks: Looks) -> dict[str, Any]:
    lines = [asdict(looks.optimizers[label]) for label in across.ranking.mean_rank]
    return {"lines": lines, "clocks": profiles(across)}
