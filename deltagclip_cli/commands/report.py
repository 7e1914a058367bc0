"""``deltagclip report``: a page to send, figures for a paper, and tables beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.commands.compare import Group, Targets, takes_request
from deltagclip_cli.results.compare.request import Request


@takes_request(
    heatmap=typer.Option(
        "--heatmap",
        metavar="KEY,KEY",
        help="Maps over two settings, such as lr,gamma.",
        show_default="the two with most values",
    ),
    published=None,
)
def report(
    targets: Targets = None,
    *,
    request: Request,
    group: Group = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format", metavar="pdf,png,svg|none", help="Of the figures; one or several of these."
        ),
    ] = "pdf",
    style: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A matplotlib style file, laid over the built-in one."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where to.", show_default="report/ of the experiment's folder"
        ),
    ] = None,
    opens: Annotated[
        bool, typer.Option("--open", help="Show the page in the web browser.")
    ] = False,
    runs: options.Runs = options.RUNS,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Write a web page with the answer, its curves and tables, and figures for a paper.

    The page is one file that needs no network: send it, keep it. Reads run folders of this program,
    and TensorBoard logs of any other.
    """
    from deltagclip_cli.commands.report_session import Figures, write_report
    from deltagclip_cli.results.read.tree import Place

    place = Place(targets or (), runs, group)
    figures = Figures.parse(format_, style)
    code = write_report(place, request, figures, output, opens=opens, quiet=quiet)
    if code:
        raise typer.Exit(code)
