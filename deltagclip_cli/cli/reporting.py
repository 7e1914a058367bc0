"""The one place where errors become messages and exit codes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer

from deltagclip_cli.errors import DeltaGClipError, ExitCode

P = ParamSpec("P")
R = TypeVar("R")


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Show the errors of a command that has the option ``debug`` as messages, not tracebacks."""

    @functools.wraps(command)
    def reporting(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (KeyboardInterrupt, typer.Abort):
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except (typer.Exit, BrokenPipeError):  # of a reader such as head; typer ends quietly
            raise
        except Exception as error:
            if kwargs.get("debug"):
                raise
            _print_error(error)
            code = error.exit_code if isinstance(error, DeltaGClipError) else ExitCode.FAILED
            raise typer.Exit(code) from None

    return reporting


def _print_error(error: Exception) -> None:
    message = str(error)
    if not isinstance(error, DeltaGClipError):
        message = (
            f"this should not have happened: {type(error).__name__}: {error}\n"
            "  The same command with --debug shows where."
        )
    typer.secho("error: ", fg=typer.colors.RED, bold=True, err=True, nl=False)
    typer.echo(message, err=True)
