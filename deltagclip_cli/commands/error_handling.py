"""The one place where errors become messages and exit codes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer

from deltagclip_cli.core import DeltaGClipError, ExitCode
from deltagclip_cli.terminal.streams import check_output

P = ParamSpec("P")
R = TypeVar("R")


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Show the errors of a command that has the option ``debug`` as messages, not tracebacks.

    One that trains raises ``typer.Exit`` with the code of its trials, whatever became of what it
    printed; of another, output that could not be written is an error.
    """

    @functools.wraps(command)
    def reporting(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            answer = command(*args, **kwargs)
            check_output()
            return answer
        except (KeyboardInterrupt, typer.Abort):
            typer.echo("Interrupted.", err=True)
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except typer.Exit:
            raise
        except Exception as error:
            if kwargs.get("debug"):
                raise
            _print_error(error)
            code = error.exit_code if isinstance(error, DeltaGClipError) else ExitCode.FAILED
            raise typer.Exit(code) from None

    return reporting


def _print_error(error: Exception) -> None:
    from rich.style import Style
    from rich.text import Text

    from deltagclip_cli.terminal.console import make_console

    message = str(error)
    if not isinstance(error, DeltaGClipError):
        message = (
            f"this should not have happened: {type(error).__name__}: {error}\n"
            "  The same command with --debug shows where."
        )
    line = Text("error: ", "bold red").append(message, Style.null())
    make_console(stderr=True).print(line, soft_wrap=True)
