"""The command line: one file per command, listed here."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from deltagclip_cli import __version__
from deltagclip_cli.commands import data
from deltagclip_cli.commands.cancel import cancel
from deltagclip_cli.commands.certify import certify
from deltagclip_cli.commands.clean import clean
from deltagclip_cli.commands.command import Command
from deltagclip_cli.commands.compare import compare
from deltagclip_cli.commands.error_handling import reports_errors
from deltagclip_cli.commands.job import job
from deltagclip_cli.commands.list_command import list_components
from deltagclip_cli.commands.report import report
from deltagclip_cli.commands.reproduce import reproduce
from deltagclip_cli.commands.status import status
from deltagclip_cli.commands.sweep import sweep
from deltagclip_cli.commands.tensorboard import tensorboard
from deltagclip_cli.commands.train import train
from deltagclip_cli.commands.validate import validate
from deltagclip_cli.commands.worker import worker
from deltagclip_cli.core import UsageError

app = typer.Typer(
    help="Compare optimizers: YAML experiments to trained runs, curves and honest numbers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train", cls=Command)(train)
app.command("sweep", cls=Command)(sweep)
app.command("status", cls=Command)(status)
app.command("compare", cls=Command)(compare)
app.command("report", cls=Command)(report)
app.command("certify", cls=Command)(certify)
app.command("tensorboard", cls=Command)(tensorboard)
app.command("reproduce", cls=Command)(reproduce)
app.command("cancel", cls=Command)(cancel)
app.command("clean", cls=Command)(clean)
app.command("validate", cls=Command)(validate)
app.command("list", cls=Command)(list_components)
app.add_typer(data.app, name="data")
app.command("worker", cls=Command, hidden=True)(worker)
app.command("job", cls=Command, hidden=True)(job)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"deltagclip {__version__}")
        raise typer.Exit


@app.callback()
@reports_errors
def _options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    if context.invoked_subcommand != "worker":  # which has its paths, and can do without
        _check_working_folder()


def _check_working_folder() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise UsageError(
            f"the working folder is not there any more: {error.strerror}.\n"
            "  Go into one that is, and run the command again."
        ) from None
