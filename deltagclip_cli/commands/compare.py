"""``deltagclip compare``: which optimizer is better, by how much, how sure, at what cost."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from deltagclip_cli.commands import compare_options as questions
from deltagclip_cli.commands import options


class Format(StrEnum):
    """What a comparison is written as."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    MARKDOWN = "markdown"
    LATEX = "latex"


_ENDINGS = {
    "": Format.TABLE,
    ".txt": Format.TABLE,
    ".csv": Format.CSV,
    ".json": Format.JSON,
    ".md": Format.MARKDOWN,
    ".tex": Format.LATEX,
}


def compare(
    targets: questions.Targets = None,
    metric: questions.Metric = None,
    at: questions.At = "last",
    baseline: questions.Baseline = None,
    target: questions.Target = None,
    interval: questions.Interval = False,
    ddof: questions.Ddof = 1,
    mode: questions.Better = None,
    heatmap: questions.Heatmap = None,
    within: questions.Within = "1%",
    published: Annotated[
        bool, typer.Option("--published", help="Add what the paper's authors got.")
    ] = False,
    group: questions.Group = None,
    format_: Annotated[
        Format | None, typer.Option("--format", help="What to write.", show_default="table")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to; its ending tells the format."),
    ] = None,
    runs: options.Runs = options.RUNS,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Compare optimizers over seeds: means, medians, tests, and what they cost.

    Reads run folders of this program, and TensorBoard logs of any other.

    Exit codes: 0 compared; 1 no run has come to its end yet; 2 wrong input.
    """
    from deltagclip_cli.commands.compare_session import compare_and_write
    from deltagclip_cli.results.compare.analysis import Request
    from deltagclip_cli.results.read.tree import Place

    request = Request(
        metric=metric,
        at=at,
        baseline=baseline,
        targets=target or (),
        ddof=ddof,
        mode=mode,
        intervals=interval,
        heat_map=questions.two_settings(heatmap),
        within=within,
        published=published,
    )
    place = Place(targets or (), runs, group)
    written = _format(format_, output, as_json)
    code = compare_and_write(place, request, written, output, quiet=quiet)
    if code:
        raise typer.Exit(code)


def _format(asked: Format | None, output: Path | None, as_json: bool) -> Format:
    """What was asked for, else what the ending of the file says, else a table."""
    from deltagclip_cli.core import UsageError

    if as_json and asked not in (None, Format.JSON):
        raise UsageError(f"--json and --format {asked}: say one of them.")
    if as_json or asked is not None or output is None:
        return Format.JSON if as_json else asked or Format.TABLE
    if output.suffix.lower() not in _ENDINGS:
        known = ", ".join(ending for ending in _ENDINGS if ending)
        raise UsageError(
            f"--output {output}: its ending is none of {known}.\n  Say the format with --format."
        )
    return _ENDINGS[output.suffix.lower()]
