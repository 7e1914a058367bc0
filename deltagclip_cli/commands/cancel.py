"""``deltagclip cancel``: end the batch jobs of experiments, and no others."""

from __future__ import annotations

from typing import Annotated

import typer

from deltagclip_cli.commands import options


def cancel(
    experiments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="EXPERIMENT",
            help="Whose jobs to end.",
            show_default="all",
            autocompletion=options.offer_read_experiments,
        ),
    ] = None,
    runs: options.Runs = options.RUNS,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be ended and end nothing.")
    ] = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """End the Slurm jobs that were submitted for a runs folder, waiting or running.

    Trials that run write a checkpoint first: the sweep, submitted again, goes on with them.
    """
    from deltagclip_cli.commands.cancel_session import cancel_jobs
    from deltagclip_cli.terminal.console import make_console

    console = make_console()
    console.quiet = quiet
    cancel_jobs(console, runs, experiments or (), dry_run=dry_run)
