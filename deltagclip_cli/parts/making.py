"""Parts that are made by calling what their names mean, and the words for those that refuse."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import DeltaGClipError, UsageError, stopped
from deltagclip_cli.source.loading import call, user_frame

if TYPE_CHECKING:
    from deltagclip_cli.spec.component import Component


def make(
    part: Component,
    *positional: Any,
    supplied: Mapping[str, Any],
    usual: Mapping[str, Any] | None = None,
) -> Any:
    """Call what a part's name means with its options, and with what it names of what is supplied.

    Args:
        positional: what it gets first, whatever it calls it.
        usual: options that its own ones replace.

    Raises:
        UsageError: it refuses what it is given, or fails; what the import of its file raises is
            passed on as it is.
    """
    function = part.load()
    try:
        options = {**(usual or {}), **part.options}
        return call(function, *positional, supplied=supplied, options=options)
    except (DeltaGClipError, NotImplementedError):  # which devices without memory raise
        raise
    except (Exception, SystemExit) as error:
        from torch import OutOfMemoryError

        if isinstance(error, OutOfMemoryError):
            raise
        raise UsageError(refusal(part, error)) from error


def make_inner(
    part: Component, holder: str, inner: Component, parameters: Any, supplied: Mapping[str, Any]
) -> Any:
    """Make the optimizer that another one takes, or what makes it if that wants a class.

    Args:
        holder: the argument that takes it. It gets a class if it is annotated so, or not at all;
            but an optimizer if it is the first argument, which has no parameters then.
    """

    def made(parameters: Any, **options: Any) -> Any:
        changed = inner.model_copy(update={"options": {**inner.options, **options}})
        return make(changed, parameters, supplied=supplied)

    arguments = inspect.signature(part.load()).parameters
    kind = arguments[holder].annotation if holder in arguments else None
    written = kind if isinstance(kind, str) else inspect.formatannotation(kind)
    takes_one = "Optimizer" in re.sub(r"[Tt]ype\[[^]]*\]|OptimizerType", "", written)
    is_first = next(iter(arguments), None) == holder
    return made(parameters) if is_first or takes_one else made


def refusal(part: Component, error: BaseException) -> str:
    """Say that a part cannot be made, with the lines of its own files that say why."""
    expected = isinstance(error, (TypeError, ValueError, RuntimeError)) and str(error)
    words = stopped(error if expected else f"{type(error).__name__}: {error}")
    where = own_lines(error)
    if where:
        return f"{part.table().kind} '{part.name}' cannot be made: {words}{where}"
    said = "refuses its options" if expected else "cannot be made"
    return f"{part.table().kind} '{part.name}' {said}: {words}"


def said_by(error: BaseException) -> str:
    """Return what an error says, and its name where that is needed to understand it."""
    expected = isinstance(error, (TypeError, ValueError, RuntimeError)) and str(error)
    return str(error) if expected else f"{type(error).__name__}: {error}"


def own_lines(error: BaseException) -> str:
    """Return the lines of a user's own files that an error came from, each indented; or nothing."""
    return "".join(f"\n  {line}" for line in user_frame(error, Path()).splitlines())


def wrong_kind(part: Component, made: Any, kind: str, hint: str) -> UsageError:
    """Return the error that a part has made something else than ``kind``, which has an article."""
    got = "nothing" if made is None else f"an object of type {type(made).__qualname__}"
    return UsageError(
        f"{part.table().kind} '{part.name}' made {got}, where {kind} is needed.\n  {hint}."
    )
