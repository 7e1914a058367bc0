"""``deltagclip certify``: what of the convergence theorem held in full-batch runs."""

from __future__ import annotations

from typing import Annotated

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.core import ClaimedError, ExitCode, NotYetError, UsageError


def certify(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN|EXPERIMENT",
            help="Run folders, or experiments of the runs folder.",
            autocompletion=options.offer_read_experiments,
        ),
    ],
    runs: options.Runs = options.RUNS,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Say which lines of the convergence theorem held.

    Of full-batch runs, of experiments with certificate: {every: N}. Each line holds, is violated at
    a step, or its premise is not met. Writes certificate.json into each run folder, which report
    shows.

    Exit codes: 0 every line of every run holds; 1 some do not; 2 a run has no certificate.
    """
    from deltagclip_cli.results.read.tree import Place
    from deltagclip_cli.terminal.compare_view import print_tables
    from deltagclip_cli.terminal.console import (
        make_console,
        print_json,
        print_problems,
        read_shown,
    )
    from deltagclip_cli.theory import certificate as theory

    reading = read_shown(Place(targets, runs), quiet=quiet)
    certificates: list[theory.Certificate] = []
    refusals: list[str] = []
    waiting: list[str] = []
    for run in reading.runs:
        try:
            certificates.append(theory.certificate_of(run))
        except NotYetError as error:
            waiting.append(str(error))
        except UsageError as error:
            refusals.append(str(error))
    if not certificates:
        kind = NotYetError if waiting and not refusals else UsageError
        raise kind("\n".join([*refusals, *waiting, *reading.problems]))
    for each in certificates:
        try:
            each.write()
        except ClaimedError as error:
            waiting.append(str(error))
    if as_json:
        print_json([each.record() for each in certificates])
    else:
        console = make_console()
        tables = [theory.certificate_table(each) for each in certificates]
        if len(certificates) > 1:
            tables.append(theory.numbers_table("All of these runs", certificates))
        print_tables(console, tables)
        console.print(theory.HOW_MEASURED, style="dim")
    print_problems([*refusals, *waiting, *reading.problems])
    if refusals:
        raise typer.Exit(ExitCode.USAGE)
    if waiting or not all(each.holds for each in certificates):
        raise typer.Exit(ExitCode.FAILED)
