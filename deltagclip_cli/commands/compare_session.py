"""From words on the command line to a comparison, on the terminal or in a file."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

from deltagclip_cli.core import ExitCode, UsageError, write_text
from deltagclip_cli.results.compare.analysis import Analysis, Request, analyse
from deltagclip_cli.results.compare.export import csv_text, json_text, latex, markdown
from deltagclip_cli.results.read.run import Outcome, Run
from deltagclip_cli.results.read.tree import Place
from deltagclip_cli.terminal.compare_view import print_tables
from deltagclip_cli.terminal.console import (
    COLUMNS_OF_FILES,
    Console,
    make_console,
    print_problems,
    shown_reading,
)
from deltagclip_cli.terminal.streams import write_json

_MOST_PROBLEMS = 20


def not_ended(runs: Sequence[Run]) -> str:
    """What is said where no run has come to its end: how far they are."""
    epochs = [
        curve.epochs[-1] for run in runs for curve in run.curves.values() if len(curve.epochs)
    ]
    far = f" (the longest is at epoch {max(epochs):g})" if epochs else ""
    return f"No run has come to its end yet{far}; deltagclip status shows how far they are."


def compare_and_write(
    place: Place, request: Request, format_: str, output: Path | None, *, quiet: bool
) -> ExitCode:
    """Compare the runs of a place, and write what came of it.

    Args:
        place: where the runs are.
        request: what is asked.
        format_: ``table``, ``csv``, ``json``, ``markdown`` or ``latex``.
        output: the file; None for the terminal.
        quiet: show no progress.

    Returns:
        ``FAILED`` if no run has come to its end, so that there is nothing to compare.

    Raises:
        UsageError: there are no runs, or they do not have what is asked for.
        NotYetError: no run has come to the end of its first epoch.
    """
    reading = place.read(shown_reading(quiet=quiet))
    found = analyse(reading, request)
    if output is None and format_ == "table":
        print_tables(make_console(), found.tables())
    elif output is None:
        write = write_json if format_ == "json" else sys.stdout.write
        write(_text(found, format_))
    else:
        _write(output, _text(found, format_))
    print_problems(found.problems)
    values = any(row.values for each in found.comparisons for row in each.rows)
    if values or any(run.outcome is Outcome.DIVERGED for run in reading.runs):
        return ExitCode.OK
    print_problems([not_ended(reading.runs)])
    return ExitCode.FAILED


def _text(found: Analysis, format_: str) -> str:
    match format_:
        case "csv":
            return csv_text(found)
        case "json":
            return json_text(found)
        case "markdown":
            return markdown(found.tables())
        case "latex":
            return latex(found.tables())
    file = io.StringIO()
    console = Console(file=file, width=COLUMNS_OF_FILES, highlight=False, color_system=None)
    print_tables(console, found.tables())
    return file.getvalue()


def _write(output: Path, text: str) -> None:
    try:
        write_text(output, text)
    except (OSError, ValueError) as error:  # ValueError of a name such as '' or '.'
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"--output {output}: cannot be written: {why}.") from None
