"""Comparisons for programs and papers: JSON and CSV in full precision, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, is_dataclass
from string import Template
from typing import TYPE_CHECKING, Any

from deltagclip_cli.results.compare.choosing import Selection, chosen_on
from deltagclip_cli.results.compare.comparison import Comparison, Row, camps
from deltagclip_cli.results.compare.effort import effort_columns, efforts
from deltagclip_cli.results.compare.method_tables import verdict_record
from deltagclip_cli.results.compare.published import caveats, published
from deltagclip_cli.results.compare.scales import scaling_columns
from deltagclip_cli.results.compare.sensitivity import sensitivities, sensitivity_columns
from deltagclip_cli.results.compare.tables import Cell, Table, make_record, setting_columns
from deltagclip_cli.results.statistics.summary import CONFIDENCE

if TYPE_CHECKING:
    from deltagclip_cli.results.compare.analysis import Analysis
    from deltagclip_cli.results.read.run import Run


def json_text(analysis: Analysis) -> str:
    """Return :func:`everything` as JSON."""
    return json.dumps(everything(analysis), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def everything(analysis: Analysis) -> dict[str, Any]:
    """Return all that is known as plain data, with the run folders behind each number.

    What is not finite is None: a cost if the target was missed, a median, best or worst value if a
    run diverged.
    """
    across = analysis.across
    content = {
        "at": analysis.request.at,
        "ddof": analysis.request.ddof,
        "confidence": CONFIDENCE,
        "experiments": [_experiment(each, analysis) for each in analysis.comparisons],
        "heat_maps": [
            {
                "title": each.title,
                "keys": each.keys,
                **_choice(each.choice),
                "cells": [
                    {"words": words, "setting": row.group.name, "mean": row.mean}
                    for words, row in each.cells.items()
                ],
            }
            for each in analysis.heat_maps
        ],
        "across": across
        and {
            "ranking": across.ranking,
            "profiles": across.profiles,
            "inside_schedule": across.inside_schedule,
            "chosen_on": chosen_on(across.choices),
        },
        "problems": analysis.problems,
    }
    if analysis.scalings:
        content["scalings"] = [
            {
                **{key: getattr(each, key) for key in ("title", "key", "target", "baseline")},
                "chosen_on": chosen_on(one for one in each.choices if one is not None),
                "optimizers": [make_record(scaling_columns(each), one) for one in each.at],
            }
            for each in analysis.scalings
        ]
    if analysis.verdicts:
        content["tuned"] = [verdict_record(each) for each in analysis.verdicts]
    plain: dict[str, Any] = plain_data(content)
    return plain


def _experiment(comparison: Comparison, analysis: Analysis) -> dict[str, Any]:
    columns = setting_columns(comparison)
    spent, sensitive = efforts(comparison), sensitivities(comparison, analysis.margin)
    record: dict[str, Any] = {
        "experiment": comparison.experiment,
        "conditions": comparison.conditions,
        "metric": comparison.question.metric,
        "higher_is_better": comparison.question.higher_is_better,
        **_choice(comparison.choice),
        "baseline": comparison.baseline.group.name if comparison.baseline else None,
        "target": asdict(comparison.target) if comparison.target else None,
        "unlike_circumstances": [asdict(camp) for camp in camps(comparison)],
        "settings": [
            {**make_record(columns, row), "runs": [_run(row, run) for run in row.runs]}
            for row in comparison.rows
        ],
        "effort": [make_record(effort_columns(spent), each) for each in spent],
        "sensitivity": [
            make_record(sensitivity_columns(analysis.margin, sensitive), each) for each in sensitive
        ],
    }
    if analysis.request.published:
        figures = []
        for each in published(comparison.experiment, comparison.question.metric):
            ours = each.ours(comparison.rows)
            figures.append({**asdict(each), "ours": ours.group.name if ours else None})
        record["published"] = {"figures": figures, "caveats": caveats(comparison.experiment)}
    return record


def _choice(choice: Selection | None) -> dict[str, str | None]:
    """Return by which metric one chose among settings or epochs, and what of the data it is of."""
    return {
        "chosen_by": choice.by if choice else None,
        "chosen_on": choice.on if choice else None,
    }


def _run(row: Row, run: Run) -> dict[str, Any]:
    counts = row.counted.get(run.seed_or_folder) is run
    return {
        "folder": run.folder,
        "seed": run.seed_or_folder,
        "outcome": run.outcome,
        "reason": run.reason,
        "counts": counts,
        "value": row.values[run.seed_or_folder] if counts else None,
        "circumstances": run.circumstances,
    }


def plain_data(value: Any) -> Any:
    """Return data that JSON can write; a number that is not finite is null."""
    if is_dataclass(value):
        value = asdict(value)  # type: ignore[arg-type]
    match value:
        case bool() | int() | None:
            return value
        case str():
            return _written(value)
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): plain_data(item) for key, item in value.items()}
        case list() | tuple():
            return [plain_data(item) for item in value]
    return plain_data(str(value))


def _written(text: str) -> str:
    """Return a text that UTF-8 can write: names of files may hold bytes that are none."""
    return str(text).encode("utf-8", "backslashreplace").decode()


def csv_text(analysis: Analysis) -> str:
    """Return :func:`setting_rows` as CSV, in full precision."""
    rows = setting_rows(analysis)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def setting_rows(analysis: Analysis) -> list[dict[str, bool | int | float | str | None]]:
    """Return a row for each setting, all with the same keys, ``inf`` and ``nan`` among the numbers.

    None stands where there is nothing to be said of a setting.
    """
    rows = []
    for each in analysis.comparisons:
        known = setting_columns(each)
        rows += [_flat_row(each, row, make_record(known, row)) for row in each.rows]
    columns = dict.fromkeys(name for row in rows for name in row)
    return [{name: _flat_value(row.get(name)) for name in columns} for row in rows]


def _flat_value(value: Any) -> bool | int | float | str | None:
    is_plain = isinstance(value, bool | int | float) or value is None
    return value if is_plain else str(value)


def _flat_row(comparison: Comparison, row: Row, known: dict[str, Any]) -> dict[str, Any]:
    question = comparison.question
    del known["options"]  # which settings tell apart
    return {
        "experiment": comparison.experiment,
        "conditions": _joined(comparison.conditions),
        "optimizer": known.pop("optimizer"),
        "settings": _joined(known.pop("settings")),
        "metric": question.metric,
        "at": str(question.moment),
        **_choice(comparison.choice),
        "standing": known.pop("standing"),
        **_flat("", known.pop("summary") or {"n": 0}),
        **_flat("merit_", known.pop("merit", None) or {}),
        "ddof": question.ddof,
        **{f"runs_{why.replace(' ', '_')}": n for why, n in known.pop("left_out").items()},
        "target": comparison.target,
        **_flat("reached_", known.pop("reached") or {}),
        "epoch_seconds": known.pop("epoch_seconds"),
        **_flat("", known.pop("regimes") or {}),
        "baseline": comparison.baseline.group.name if comparison.baseline else None,
        **_flat("versus_", known.pop("versus_baseline") or {}),
        **_flat("", known),
        "folders": ";".join(_written(str(run.folder)) for run in row.counted.values()),
    }


def _flat(prefix: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what has parts, such as an interval, as columns: ``median_interval_low``."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if value is None and name.endswith("interval"):
            value = {"low": None, "high": None}
        if isinstance(value, Mapping):
            flat |= _flat(f"{prefix}{name}_", value)
        else:
            flat[prefix + name] = value
    return flat


def _joined(settings: Mapping[str, str]) -> str:
    return " ".join(f"{key}={word}" for key, word in settings.items())


_MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~&$])")
_MINUS = re.compile(r"(?<![^\s\[(])-(?=[\d∞])")
_MOST_ROWS = 40  # of a LaTeX table on one page


def markdown(tables: Iterable[Table]) -> str:
    """Return tables in the form that GitHub reads, best in bold, with titles and notes."""
    return "\n".join(map(_markdown, tables))


def _markdown(table: Table) -> str:
    rule = ["---", *["---:"] * (len(table.headings) - 1)]
    rows = [[markdown_text(heading) for heading in table.headings], rule]
    rows += [[_in_bold(cell, markdown_text, "**{}**") for cell in row] for row in table.rows]
    text = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    notes = "".join(f"{markdown_text(note)}  \n" for note in table.notes)
    return f"### {markdown_text(table.title)}\n\n{text}\n\n{notes}"


def markdown_text(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    return _MARKDOWN_SPECIAL.sub(r"\\\1", text)


def _in_bold(cell: Cell, escape: Callable[[str], str], bold: str) -> str:
    text = escape(f"{cell.mark} {cell.whole}".lstrip())
    return bold.format(text) if cell.is_best and text else text


def latex(tables: Iterable[Table]) -> str:
    """Return tables with the rules of booktabs, best in bold, over several pages if need be."""
    packages = "% needs \\usepackage{booktabs,graphicx,longtable} and \\usepackage[T1]{fontenc}\n"
    return packages + "\n".join(_latex(table, _latex_escape()) for table in tables)


_SHORT = Template(
    r"""\begin{table}
\centering
\caption{$title}
\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%
\begin{tabular}{$columns}
\toprule
$head
\midrule
$body
\bottomrule
\end{tabular}}\par\smallskip
{\footnotesize $notes\par}
\end{table}
"""
)
_LONG = Template(
    r"""{\footnotesize
\begin{longtable}{$columns}
\caption{$title} \\
\toprule
$head
\midrule
\endhead
\bottomrule
\endlastfoot
$body
\end{longtable}}
{\footnotesize $notes\par}
"""
)


def _latex(table: Table, escape: Callable[[str], str]) -> str:
    rows = [[_in_bold(cell, escape, r"\textbf{{{}}}") for cell in row] for row in table.rows]
    head, *body = (" & ".join(cells) + r" \\" for cells in [map(escape, table.headings), *rows])
    return (_SHORT if len(rows) <= _MOST_ROWS else _LONG).substitute(
        title=escape(table.title),
        columns="l" + "r" * (len(table.headings) - 1),
        head=head,
        body="\n".join(body),
        notes=" ".join(map(escape, table.notes)),
    )


def _latex_escape() -> Callable[[str], str]:
    from pylatexenc.latexencode import UnicodeToLatexEncoder

    encoder = UnicodeToLatexEncoder(
        unknown_char_policy="replace",
        unknown_char_warning=False,
        replacement_latex_protection="braces-all",
    )

    def escape(text: str) -> str:
        encoded: str = encoder.unicode_to_latex(_MINUS.sub("−", text))
        return encoded.replace("[", "{[}").replace("]", "{]}")  # behind \\ they are an argument

    return escape
