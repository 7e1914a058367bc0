"""``deltagclip compare``: which optimizer is better, by how much, how sure, at what cost."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from deltagclip_cli.cli import options
from deltagclip_cli.cli.reporting import reports_errors
from deltagclip_cli.comparison.mode import Mode


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


@reports_errors
def compare(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="EXPERIMENT|FOLDER",
            help="Experiments of the runs folder, or folders with runs or with TensorBoard logs.",
            show_default="all experiments",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="What to compare.", show_default="test/accuracy or test/loss"),
    ] = None,
    at: Annotated[
        str, typer.Option(metavar="last|best|epoch=N|step=N", help="When the metric is read.")
    ] = "last",
    baseline: Annotated[
        str | None, typer.Option(metavar="OPTIMIZER", help="Test every other one against this.")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=VALUE",
            help="Show what it took to reach a value. EXPERIMENT:METRIC=VALUE for one experiment."
            " Repeatable for those.",
        ),
    ] = None,
    interval: Annotated[
        bool, typer.Option("--interval", help="Show 95 % intervals instead of standard errors.")
    ] = False,
    ddof: Annotated[
        int, typer.Option(min=0, max=1, help="Of the standard error; 0 is the paper's.")
    ] = 1,
    mode: Annotated[
        Mode | None,
        typer.Option(help="Which values of the metric are good.", show_default="by its name"),
    ] = None,
    heatmap: Annotated[
        str | None,
        typer.Option(metavar="KEY,KEY", help="A map over two settings, such as lr,gamma."),
    ] = None,
    within: Annotated[
        str, typer.Option(metavar="DISTANCE", help="How far from the best a good setting may be.")
    ] = "1%",
    published: Annotated[
        bool, typer.Option("--published", help="Add what the paper's authors got.")
    ] = False,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="How other people's runs are named: (?P<optimizer>…), (?P<seed>…), (?P<lr>…), ….",
        ),
    ] = None,
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
    """
    from deltagclip_cli.comparison.answer import Request
    from deltagclip_cli.console.compare_session import Place, compare_and_write

    request = Request(
        metric=metric,
        at=at,
        baseline=baseline,
        targets=target or (),
        ddof=ddof,
        mode=mode,
        intervals=interval,
        heat_map=_keys(heatmap),
        within=within,
        published=published,
    )
    place = Place(targets or (), runs, group)
    compare_and_write(place, request, _format(format_, output, as_json), output, quiet=quiet)


def _keys(text: str | None) -> tuple[str, str] | None:
    from deltagclip_cli.errors import UsageError

    if text is None:
        return None
    keys = [key.strip() for key in text.split(",")]
    if len(keys) != 2 or not all(keys) or keys[0] == keys[1]:
        raise UsageError(f"--heatmap {text}: say two settings, such as lr,gamma.")
    return keys[0], keys[1]


def _format(asked: Format | None, output: Path | None, as_json: bool) -> Format:
    """What was asked for, else what the ending of the file says, else a table."""
    from deltagclip_cli.errors import UsageError

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
