"""Arguments of what Python programs call, checked against its annotations."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from reprlib import repr as shortly
from typing import Any, ParamSpec, TypeVar

from pydantic import ConfigDict, ValidationError, validate_call

from deltagclip_cli.core import UsageError

_POSITIONAL = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)

P = ParamSpec("P")
R = TypeVar("R")


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Raise UsageError where an argument has a type that a function is not written for.

    It gets the arguments as they are, and is not called with wrong ones.
    """
    annotations = {n: text for n, text in function.__annotations__.items() if n != "return"}

    @functools.wraps(function)
    def accept(*args: Any, **kwargs: Any) -> None:
        """Do nothing with arguments that pydantic has let pass."""

    accept.__annotations__ = annotations
    check = validate_call(config=ConfigDict(strict=True))(accept)
    signature = inspect.signature(function)
    positional = [each.name for each in signature.parameters.values() if each.kind in _POSITIONAL]

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            check(*args, **kwargs)
        except ValidationError as error:
            signature.bind(*args, **kwargs)  # Python's error where one is not known, or lacks
            place = error.errors()[0]["loc"][0]
            if isinstance(place, int):
                name, value = positional[min(place, len(positional) - 1)], args[place]
            else:
                name, value = place, kwargs[place]
            got = " ".join(shortly(value).split())
            raise UsageError(f"{name}={got}: expected {annotations[name]}.") from None
        return function(*args, **kwargs)

    return call
