"""``deltagclip try``: a first verdict on an optimizer, against two that were tuned alike."""

from __future__ import annotations

from typing import Annotated

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.trying.protocol import DRAWS, MOST_ROUNDS, ROUNDS


def try_(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="The optimizer, as in a spec: a short name, FILE.py:NAME, PACKAGE:NAME.",
            autocompletion=options.offer_optimizers,
        ),
    ],
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Fix an option of it, such as weight_decay=0.1. Repeatable.",
        ),
    ] = None,
    around: Annotated[
        float | None,
        typer.Option(
            min=1e-30,
            max=1e30,
            metavar="LR",
            help="Scan learning rates around this.",
            show_default="its own default",
        ),
    ] = None,
    rounds: Annotated[
        int,
        typer.Option(
            min=2,
            max=MOST_ROUNDS,
            metavar="N",
            help=f"Rounds of {DRAWS} draws, a choice and a fresh seed.",
        ),
    ] = ROUNDS,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            metavar="N",
            help="Train on the CPU, N trials at a time.",
            show_default="one a core",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Start nothing; show what would be run.")
    ] = False,
    runs: options.Runs = options.RUNS,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Try an optimizer for two minutes against tuned rivals.

    Is it better than AdamW and SGD with momentum? On three small made problems, each method tuned
    with the same draws. The same command goes on, and a larger --rounds adds to what is there.

    Exit codes: 0 there is a verdict; 1 it does not train; 2 wrong input;
    75 stopped early, run it again; 130 interrupted by Ctrl-C.
    """
    from deltagclip_cli.terminal.console import make_console
    from deltagclip_cli.trying.candidate import read_candidate
    from deltagclip_cli.trying.conduct import Conduct

    where = options.option_words(runs=runs)
    spec, candidate = read_candidate(name, sets or (), around, runs, where)
    console = make_console(stderr=as_json)
    conduct = Conduct.of(
        *(spec, candidate, console),
        runs=runs,
        rounds=rounds,
        jobs=jobs,
        as_json=as_json,
        quiet=quiet,
    )
    raise typer.Exit(conduct.show() if dry_run else conduct.run())
