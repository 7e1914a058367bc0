"""The command line: its commands, hints on words that they cannot read, and their errors.

A command's module is imported when it is called, described or completed, and no other with it.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from deltagclip_cli import __version__
from deltagclip_cli.commands.help import show_help
from deltagclip_cli.core import (
    DeltaGClipError,
    ExitCode,
    UsageError,
    load_target,
    nearest,
    nearest_word,
    shortened,
)
from deltagclip_cli.terminal.streams import check_output

P = ParamSpec("P")
R = TypeVar("R")

# What `deltagclip --help` shows: of each command the line that begins the docstring of the function
# of its name, in the module of its name. Those of the last panel are called by launchers.
PANELS = {
    "Run": {
        "new": "Write experiments.yaml and parts.py to begin with.",
        "train": "Train one trial: one optimizer and one seed.",
        "sweep": "Run every trial of experiments that is not finished.",
        "tune": "Tune all optimizers alike; run the choices on new seeds.",
        "try": "Try an optimizer for two minutes against tuned rivals.",
        "check": "Test an optimizer: state, groups, precision, DDP, cost.",
        "validate": "Find every error in a file of experiments; run nothing.",
        "list": "List experiments, or the parts that they can be made of.",
        "data": "Get the data of experiments ready.",
        "cancel": "End the Slurm jobs of a runs folder, waiting or running.",
        "clean": "Remove checkpoints that nobody needs any more.",
        "skill": "Print a page for coding agents: a fair comparison.",
    },
    "Read": {
        "status": "Show which trials are finished, running, lost or failed.",
        "compare": "Compare optimizers over seeds: means, tests, costs.",
        "report": "Write a web page with the answer, and figures for a paper.",
        "verify": "Work out every number of a report anew.",
        "tensorboard": "Open TensorBoard with means and bands over seeds.",
        "export": "Send runs to Parquet, CSV, W&B, MLflow or Trackio.",
    },
    "δ-GClip": {
        "certify": "Say which lines of the convergence theorem held.",
        "reproduce": "Show the paper's figures beside what came out here.",
    },
    "": {
        "worker": "Train the trial of a run folder, or those of several as members of one stack.",
        "job": "Run the trials of one task of an array job.",
        "controller": "Hand out the trials of a search with Optuna.",
    },
}
COMMANDS = [name for commands in PANELS.values() for name in commands]
_MODULES = {"try": "try_"}  # which would be a word of Python
_OTHER_NAMES = {"try": "try_", "list": "list_components", "data": "app"}


# That of typer is click's, or a copy of it; neither is promised a place to be imported from.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]


class CommandGroup(TyperGroup):
    """Several commands, whose help, which is shown where none is named, is a line for each."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            raise typer.Exit(ExitCode.USAGE)
        with _taken():
            return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        show_help(self, ctx, formatter)


class LazyGroup(CommandGroup):
    """Commands of which only the names and the first sentences are known until one is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command that the first word names, and import it."""
        name, command, rest = super().resolve_command(ctx, args)
        try:
            return name, command if name is None else load_command(name), rest
        except KeyboardInterrupt:  # which typer would end without a word
            typer.echo("Interrupted.", err=True)
            raise typer.Exit(ExitCode.INTERRUPTED) from None


@functools.cache
def load_command(name: str) -> Any:
    """The command of a name, with its options."""
    module, attribute = _MODULES.get(name, name), _OTHER_NAMES.get(name, name)
    found = load_target(f"{__package__}.{module}:{attribute}")
    is_group = isinstance(found, typer.Typer)
    app: typer.Typer = found if is_group else typer.Typer(add_completion=False)
    app.info.cls = CommandGroup
    if not is_group:
        app.command(name)(found)
    for each in app.registered_commands:
        assert each.callback is not None
        each.cls, each.callback = Command, reports_errors(each.callback)
    return (typer.main.get_group if is_group else typer.main.get_command)(app)


class Command(TyperCommand):
    """A command that answers unknown options and wrong values with a guess at what was meant."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        show_help(self, ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line; a hint stands behind what is wrong with them."""
        try:
            with _taken():
                return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            param: Any = error.param
            if hasattr(error, "param_type") and param.opts[0].startswith("-"):  # it is missing
                words = f"Missing option '{param.opts[0]} {param.metavar}'"
                raise _UsageError(words, ctx) from None
            error.message = _reworded(error)
            raise
        except _UsageError as error:
            if hasattr(error, "possibilities"):  # there is no such option
                error.possibilities = None
                error.message = f"No such option: {error.option_name}"
                error.message += _meant(ctx, error.option_name)
            raise


@contextmanager
def _taken() -> Iterator[None]:
    """Make it an error if help, or what a shell asks for, could not be written."""
    try:
        yield
    except (typer.Exit, SystemExit):
        try:
            check_output()
        except DeltaGClipError as error:
            _print_error(error)
            raise typer.Exit(error.exit_code) from None
        raise


def _reworded(error: typer.BadParameter) -> str:
    """Return the message of a wrong value, without the words of the library that found it."""
    from pydantic import ValidationError

    from deltagclip_cli.spec.faults import rule

    words = error.message.removeprefix("Value error, ")
    if choice := re.match(r"'(.*)' is not one of (.*)", words):
        legal = re.findall(r"'([^']*)'", choice[2])
        return f"'{choice[1]}' is none of {', '.join(legal)}{nearest(choice[1], legal)}"
    if not isinstance(error.__cause__, ValidationError):
        return words
    (fault, *_) = error.__cause__.errors(include_url=False)
    several = " - for several, repeat the option" if getattr(error.param, "multiple", False) else ""
    return f"{rule(fault['msg'])} (got '{shortened(str(fault['input']))}'){several}"


def _meant(ctx: Any, option: str) -> str:
    """Return a hint on an option that a command has not."""
    from deltagclip_cli.spec.schema import setting_named

    own = [word for each in ctx.command.params for word in each.opts if word.startswith("--")]
    if option == "--spec" and any(each.name == "file" for each in ctx.command.params):
        return f". Write the file alone: {ctx.command_path} FILE"
    near = nearest_word(option, own)
    key = setting_named(option.lstrip("-")) if "--set" in own else None
    if near and (key is None or near.startswith(option[:3])):  # --seed is meant by --seeds
        return f" - did you mean '{near}'?"
    return "." if key is None else f" - did you mean '--set {key}=...'?"


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


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"deltagclip {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=LazyGroup,
    help="Compare optimizers: from YAML experiments to trained runs and honest numbers.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _panel, _commands in PANELS.items():
    for _name, _sentence in _commands.items():
        app.command(_name, help=_sentence, rich_help_panel=_panel, hidden=not _panel)(lambda: None)


@app.callback()
@reports_errors
def _options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    if context.invoked_subcommand == "worker":  # which has its paths, and can do without
        return
    try:
        os.getcwd()
    except OSError as error:
        raise UsageError(
            f"the working folder is not there any more: {error.strerror}.\n"
            "  Go into one that is, and run the command again."
        ) from None
