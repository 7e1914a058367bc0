"""Hints on words of the command line that a command cannot read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import typer
from typer.core import TyperCommand

# That of typer is click's, or a copy of it; neither is promised a place to be imported from.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]

_MOST_NUMBERS = 10  # of a range, that are written out


class Command(TyperCommand):
    """A command that answers unknown options and wrong values with a guess at what was meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line.

        Raises:
            click.UsageError: they are wrong, with a hint.
        """
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = _reworded(error)
            raise
        except _UsageError as error:
            if hasattr(error, "possibilities"):  # there is no such option
                error.possibilities = None
                error.message = f"No such option: {error.option_name}"
                error.message += _meant(ctx, error.option_name, given)
            raise


def _reworded(error: typer.BadParameter) -> str:
    """Return the message of a wrong value, without the words of the library that found it."""
    from pydantic import ValidationError

    from deltagclip_cli.core import shortened
    from deltagclip_cli.spec.faults import nearest, rule

    words = error.message.removeprefix("Value error, ")
    choice = re.match(r"'(.*)' is not one of (.*)", words)
    if choice:
        legal = re.findall(r"'([^']*)'", choice[2])
        return f"'{choice[1]}' is none of {', '.join(legal)}{nearest(choice[1], legal)}"
    if not isinstance(error.__cause__, ValidationError):
        return words
    (fault, *_) = error.__cause__.errors(include_url=False)
    several = list(_listed(str(fault["input"])))
    hint = ""
    option = "" if error.param is None else error.param.opts[0]
    is_repeated = bool(option) and getattr(error.param, "multiple", False)
    if len(several) > 1 and (is_repeated or option == "--seed"):
        repeated = " ".join(f"{option} {word}" for word in several)
        hint = f" - did you mean '{'' if is_repeated else 'sweep '}{repeated}'?"
    return f"{rule(fault['msg'])} (got '{shortened(str(fault['input']))}'){hint}"


def _listed(words: str) -> Iterator[str]:
    """The values of a list or a range in one word; a range has both its ends, as Slurm's have.

    A long range, which nobody would write out, is left as it is.
    """
    for word in filter(None, map(str.strip, words.strip(" ()[]{}").split(","))):
        ends = re.fullmatch(r"(\d{1,9})(?:-|:|\.\.+)(\d{1,9})", word)
        numbers = range(int(ends[1]), int(ends[2]) + 1) if ends else ()
        yield from map(str, numbers) if 1 < len(numbers) <= _MOST_NUMBERS else [word]


def _meant(ctx: Any, option: str, args: Sequence[str]) -> str:
    """Return a hint on an option that a command has not."""
    from deltagclip_cli.spec.faults import nearest_word
    from deltagclip_cli.spec.schema import setting_named

    own = [each for each in _options(ctx.command) if each != "--help"]
    near = nearest_word(option, own)
    if near is not None:
        return f" - did you mean '{near}'?"
    key = setting_named(option.lstrip("-"))
    if key is not None and "--set" in own:
        label = _value("--optimizer", args)
        key = key if label == "..." else key.replace("LABEL", label)
        return f" - did you mean '--set {key}={_value(option, args)}'?"
    having = [name for name, each in _others(ctx.parent) if option in _options(each)]
    if having:
        return f", which {' and '.join(having)} {'has' if len(having) == 1 else 'have'}."
    return "."


def _others(group: Any) -> Iterator[tuple[str, Any]]:
    for name, command in group.command.commands.items() if group is not None else ():
        if not command.hidden:
            yield name, group.command.resolve_command(group, [name])[1]


def _options(command: Any) -> Iterator[str]:
    return (word for each in command.params for word in each.opts if word.startswith("--"))


def _value(option: str, args: Sequence[str]) -> str:
    """Return the value that was given to an option, in either form."""
    for number, word in enumerate(args):
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
        if word == option and len(args) > number + 1 and not args[number + 1].startswith("--"):
            return args[number + 1]
    return "..."
