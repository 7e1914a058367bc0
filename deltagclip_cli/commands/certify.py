"""``deltagclip certify``: what of the convergence theorem held in full-batch runs."""

from __future__ import annotations

from typing import Annotated

import typer

from deltagclip_cli.commands import options


def certify(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN|EXPERIMENT...",
            help="Run folders, or experiments of the runs folder.",
            autocompletion=options.offer_read_experiments,
        ),
    ],
    runs: options.Runs = options.RUNS,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Say of full-batch runs which lines of the convergence theorem held.

    Of experiments with certificate: {every: N}. Each line holds, is violated at a step, or its
    premise is not met. Writes certificate.json into each run folder, which report shows.

    Exit codes: 0 every line of every run holds; 1 some do not; 2 a run has no certificate.
    """
    from deltagclip_cli.commands.certify_session import certify as certify_runs
    from deltagclip_cli.results.read.tree import Place

    code = certify_runs(Place(targets, runs), as_json=as_json, quiet=quiet)
    if code:
        raise typer.Exit(code)
