"""Sheets as Markdown and as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from deltagclip_cli.results.compare.text_table import Cell, Sheet, marked

_MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~&$])")
_MINUS = re.compile(r"(?<![^\s\[(])-(?=[\d∞])")
_MOST_LINES = 40  # of a LaTeX table on one page


def markdown(sheets: Iterable[Sheet]) -> str:
    """Tables in the form that GitHub reads, best in bold, each with its title and notes."""
    return "\n".join(_markdown(sheet) for sheet in sheets)


def _markdown(sheet: Sheet) -> str:
    rule = ["---", *["---:"] * (len(sheet.columns) - 1)]
    rows = [[_escaped(column) for column in sheet.columns], rule]
    for line in sheet.lines:
        rows.append([_in_bold(cell, _escaped, "**{}**") for cell in marked(line)])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    notes = "".join(f"{_escaped(note)}  \n" for note in sheet.notes)
    return f"### {_escaped(sheet.title)}\n\n{table}\n\n{notes}"


def _escaped(text: str) -> str:
    return _MARKDOWN_SPECIAL.sub(r"\\\1", text)


def _in_bold(cell: Cell, escape: Callable[[str], str], bold: str) -> str:
    text = escape(cell.whole)
    return bold.format(text) if cell.is_best and text else text


def latex(sheets: Iterable[Sheet]) -> str:
    """Tables with the rules of booktabs, best in bold, no wider than the page.

    Those of more lines than a page has go on to the next. The first line names the packages that
    the document needs.
    """
    packages = "% needs \\usepackage{booktabs,graphicx,longtable} and \\usepackage[T1]{fontenc}\n"
    return packages + "\n".join(_latex(sheet, _latex_escape()) for sheet in sheets)


def _latex(sheet: Sheet, escape: Callable[[str], str]) -> str:
    head = [" & ".join(map(escape, sheet.columns)) + r" \\", r"\midrule"]
    body = []
    for line in sheet.lines:
        cells = (_in_bold(cell, escape, r"\textbf{{{}}}") for cell in marked(line))
        body.append(" & ".join(cells) + r" \\")
    caption = rf"\caption{{{escape(sheet.title)}}}"
    columns = f"{{l{'r' * (len(sheet.columns) - 1)}}}"
    layout = _short_table if len(sheet.lines) <= _MOST_LINES else _long_table
    notes = " ".join(map(escape, sheet.notes))
    return "\n".join(layout(caption, columns, head, body, rf"{{\footnotesize {notes}\par}}")) + "\n"


def _short_table(
    caption: str, columns: str, head: list[str], body: list[str], notes: str
) -> list[str]:
    return [
        r"\begin{table}",
        r"\centering",
        caption,
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{columns}",
        r"\toprule",
        *head,
        *body,
        r"\bottomrule",
        r"\end{tabular}}\par\smallskip",
        notes,
        r"\end{table}",
    ]


def _long_table(
    caption: str, columns: str, head: list[str], body: list[str], notes: str
) -> list[str]:
    return [
        r"{\footnotesize",
        rf"\begin{{longtable}}{columns}",
        rf"{caption} \\",
        r"\toprule",
        *head,
        r"\endhead",
        r"\bottomrule",
        r"\endlastfoot",
        *body,
        r"\end{longtable}}",
        notes,
    ]


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
