"""Attempts to use a part of a trial, and which of its options is to blame where one fails."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from deltagclip_cli.core import UsageError
from deltagclip_cli.spec.component import Component
from deltagclip_cli.spec.trial import Trial

Made = TypeVar("Made")


class Refused(Exception):
    """A part of a trial refuses it, for a reason in words; an option alone may be to blame."""

    def __init__(self, part: str, reason: str, option: str = "") -> None:
        super().__init__(reason)
        self.part, self.option = part, option


def tried(part: str, trial: Trial, attempt: Callable[[Trial], Made]) -> Made:
    """What an attempt gives.

    Raises:
        Refused: it failed; with the option that is to blame, if that is clear.
    """
    try:
        return attempt(trial)
    except Exception as error:
        component: Component = getattr(trial, part)
        options = dict(component.simpler())
        words = str(error)
        if not isinstance(error, UsageError):
            words = f"{part} '{component.name}' cannot be used: {said_by(error)}."
        named = [option for option in options if re.search(rf"\b{re.escape(option)}\b", words)]
        advised = "\n" in words  # and then by us, who know the option
        if advised and len(named) == 1:
            raise Refused(part, words, named[0]) from None
        for option, other in options.items():
            if other is not None and _succeeds(attempt, trial.model_copy(update={part: other})):
                hint = "" if advised else f"\n  It is accepted without '{option}'."
                raise Refused(part, words + hint, option) from None
        hint = "" if advised else f"\n  Change its options, or choose another {part}."
        raise Refused(part, words + hint, named[0] if len(named) == 1 else "") from None


def _succeeds(attempt: Callable[[Trial], Any], trial: Trial) -> bool:
    try:
        attempt(trial)
    except Exception:
        return False
    return True


def said_by(error: Exception) -> str:
    """What an error says, and its name where that is needed to understand it."""
    words = str(error).strip().rstrip(".")
    expected = isinstance(error, (ValueError, RuntimeError)) and words
    return words if expected else f"{type(error).__name__}: {words}"
