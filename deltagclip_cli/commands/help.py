"""The help of commands: what a terminal shows, and what the reference is written from.

A line for a command, in panels; a line for an option: its words, what it is for, its default.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer

_WIDEST = 100  # columns: longer lines are hard to read
_WIDEST_WORDS = 32


@dataclass(frozen=True, slots=True)
class Parameter:
    """An option or an argument of a command, as a reader sees it."""

    words: str
    sentence: str
    default: str
    variable: str

    @property
    def line(self) -> str:
        """Its sentence, with its default and the variable of the environment that sets it."""
        notes = [("default", self.default), ("environment", self.variable)]
        return self.sentence + "".join(f" [{name}: {note}]" for name, note in notes if note)


@dataclass(frozen=True, slots=True)
class Description:
    """A command, or a group of commands, as a reader sees it."""

    usage: str
    paragraphs: list[str]
    arguments: list[Parameter]
    options: list[Parameter]
    panels: dict[str, dict[str, str]]

    @classmethod
    def of(cls, command: Any, context: typer.Context) -> Description:
        """Describe a command in whose context its usage is known."""
        found = command.get_params(context)
        positional = [each for each in found if each.param_type_name == "argument"]
        panels: dict[str, dict[str, str]] = {}
        for name, each in getattr(command, "commands", {}).items():
            if not each.hidden:
                sentence = " ".join(each.help.split("\n\n")[0].split())
                panels.setdefault(_panel(each), {})[name] = sentence
        pieces = [_usage_of(each) for each in positional] + ["COMMAND"] * bool(panels)
        return cls(
            " ".join([context.command_path, *pieces, "[OPTIONS]"]),
            [" ".join(each.split()) for each in (command.help or "").split("\n\n")],
            [_parameter(each, context) for each in positional],
            [_parameter(each, context) for each in found if each not in positional],
            panels,
        )


def _panel(command: Any) -> str:
    panel = getattr(command, "rich_help_panel", None)
    return panel if isinstance(panel, str) else ""


def _usage_of(argument: Any) -> str:
    word = argument.metavar if argument.required else f"[{argument.metavar}]"
    return f"{word}..." if argument.nargs != 1 else word


def _parameter(each: Any, context: typer.Context) -> Parameter:
    if each.param_type_name == "argument":
        words = each.metavar
    else:
        short_last = sorted(each.opts, key=len, reverse=True)
        words = ", ".join(short_last) + ("" if _is_flag(each) else f" {each.metavar}")
    variable = each.envvar if isinstance(each.envvar, str) else ""
    return Parameter(words, each.help or "", _default(each, context), variable)


def _is_flag(each: Any) -> bool:
    return bool(getattr(each, "is_flag", False)) or each.name == "help"


def _default(each: Any, context: typer.Context) -> str:
    if isinstance(shown := each.show_default, str):
        return shown
    value = each.get_default(context, call=False)
    is_shown = shown and not (value is None or value is False or value == [] or callable(value))
    return _written(value) if is_shown and not _is_flag(each) else ""


def _written(value: Any) -> str:
    return str(value.value if isinstance(value, enum.Enum) else value)


def show_help(command: Any, context: typer.Context, formatter: Any) -> None:
    """Write the help of a command into the formatter of its library."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    console.width = min(console.width, _WIDEST)
    description = Description.of(command, context)
    with console.capture() as capture:
        for each in _overview(description) if description.panels else _details(description):
            console.print(each)
    formatter.write("\n".join(line.rstrip() for line in capture.get().split("\n")))


def _overview(found: Description) -> Iterator[Any]:
    from rich.table import Table
    from rich.text import Text

    flags = "  ".join(each.words.split(",")[0] for each in found.options if each.words)
    yield _usage(found.usage.replace("[OPTIONS]", "[--help]"))
    yield Text(found.paragraphs[0])
    yield ""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(style="cyan", no_wrap=True)
    for panel, commands in found.panels.items():
        titles = [panel, *[""] * len(commands)]
        for title, (name, sentence) in zip(titles, commands.items(), strict=False):
            table.add_row(title, name, sentence)
    yield table
    yield Text(flags, "dim")


def _details(found: Description) -> Iterator[Any]:
    from rich.table import Table
    from rich.text import Text

    yield _usage(found.usage)
    for paragraph in found.paragraphs:
        yield ""
        yield Text(paragraph)
    for title, parameters in (("Arguments", found.arguments), ("Options", found.options)):
        if not parameters:
            continue
        yield ""
        yield Text(title, "bold")
        table = Table.grid(padding=(0, 2))
        table.add_column(style="cyan", max_width=_WIDEST_WORDS)
        for each in parameters:
            table.add_row(each.words, each.line)
        yield table


def _usage(words: str) -> Any:
    from rich.text import Text

    return Text("Usage: ", "bold").append(words)
