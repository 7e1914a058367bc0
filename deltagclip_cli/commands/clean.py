"""``deltagclip clean``: remove checkpoints that nobody needs any more."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from deltagclip_cli.commands import options


def clean(
    experiments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="EXPERIMENT",
            help="Whose run folders.",
            show_default="all",
            autocompletion=options.offer_read_experiments,
        ),
    ] = None,
    runs: options.Runs = options.RUNS,
    last: Annotated[
        bool,
        typer.Option("--last", help="Remove the last checkpoints of ended trials, too."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed, and remove nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Remove checkpoints that nobody needs any more, and say how many bytes that frees.

    Of trials that have ended, all but the last checkpoint; of all, halves of files whose process
    was killed. Nothing that an unfinished trial goes on from, nothing where a process works, and
    nothing behind a link.

    Exit codes: 0 all that could go is gone; 1 something cannot be removed; 2 wrong input.
    """
    from deltagclip_cli.commands.clean_session import Cleaning, clean_up
    from deltagclip_cli.terminal.console import make_console

    console = make_console(stderr=as_json)
    console.quiet = quiet
    wish = Cleaning(runs, experiments or (), keep_last=not last, dry_run=dry_run)
    ask = not yes and sys.stdin.isatty()
    code = clean_up(console, wish, ask=ask, as_json=as_json)
    if code:
        raise typer.Exit(code)
