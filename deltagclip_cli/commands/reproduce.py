"""``deltagclip reproduce``: the paper's figures, and what came of repeating them."""

from __future__ import annotations

from typing import Annotated

import typer

from deltagclip_cli.commands import options


def reproduce(
    experiments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="EXPERIMENT",
            help="Experiments of the spec.",
            show_default="all that repeat a figure",
        ),
    ] = None,
    spec: options.Spec = options.SPEC,
    runs: options.Runs = options.RUNS,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Show the paper's figures: how to run each, what was published, what came out here.

    Runs nothing: what was not run is said to be so, with the command that does.
    """
    from deltagclip_cli.commands.reproduce_session import show_reproduction

    show_reproduction(spec, experiments or (), runs, as_json=as_json, quiet=quiet)
