"""Faults of a spec, as pydantic carries them: with a place, a message, and a hint.

pydantic collects the errors of a whole model. A validator that raises a ``ValidationError`` of its
own has its errors taken into that collection, so one pass finds everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from deltagclip_cli.core import shortened
from deltagclip_cli.spec.customary import nearest_word
from deltagclip_cli.spec.document import Where

MOST_FAULTS = 100
"""Of so many of a file is told what is wrong, and of the others how many they are."""

_MOST_CHARACTERS = 200  # of words that are several


def nearest(word: object, words: Iterable[str]) -> str:
    """``" - did you mean 'x'?"``, or nothing if no word is near."""
    words = list(words)
    several = str(word)[:_MOST_CHARACTERS].replace(" ", "").split(",")
    if len(several) > 1 and all(each in words for each in several):
        return f" - did you mean '{several[0]}' and '{several[1]}', each as a word of its own?"
    found = nearest_word(word, words)
    return f" - did you mean '{found}'?" if found else ""


def explained(message: str, hint: str, where: Where, value: object = None) -> InitErrorDetails:
    """A fault in our own words."""
    context = {"message": message, "hint": hint}
    kind = PydanticCustomError("explained", "{message}", context)
    return InitErrorDetails(type=kind, loc=where, input=value)


def raised(faults: list[InitErrorDetails]) -> ValidationError:
    """One error of several faults."""
    return ValidationError.from_exception_data("spec", faults)


@contextmanager
def collected(faults: list[InitErrorDetails], where: Where) -> Iterator[None]:
    """Put the faults that are raised inside into ``faults``, below ``where``, and go on.

    For what is checked by hand, a list or mapping of many things, so that all faults are found.
    """
    try:
        yield
    except ValidationError as error:
        faults += faults_of(error, where)


def faults_of(error: ValidationError, where: Where = ()) -> Iterator[InitErrorDetails]:
    """The faults of an error, each at its place below ``where``."""
    for fault in error.errors(include_url=False):
        context = dict(fault.get("ctx", {}))
        kind: str | PydanticCustomError = fault["type"]
        if kind == "explained":
            kind = PydanticCustomError("explained", "{message}", context)
        place = (*where, *fault["loc"])
        yield InitErrorDetails(type=kind, loc=place, input=fault["input"], ctx=context)


def naming_legal_options(
    error: ValidationError, owner: str, legal: list[str], elsewhere: Callable[[str], str | None]
) -> ValidationError:
    """The same error, in which every unknown option of the outermost level names the legal ones.

    Args:
        error: of a group of settings.
        owner: see :func:`unknown_option`.
        legal: the options that there are.
        elsewhere: where an option stands that is none of this group; None if it is not known.
    """
    faults = list(faults_of(error))
    for number, fault in enumerate(faults[:MOST_FAULTS]):
        if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1:
            name, where = fault["loc"][0], fault["loc"]
            faults[number] = unknown_option(name, owner, legal, where, elsewhere)
    return raised(faults)


def nowhere(option: str) -> None:
    """No option stands elsewhere."""


def unknown_option(
    name: object,
    owner: str,
    legal: list[str],
    where: Where,
    elsewhere: Callable[[str], str | None] = nowhere,
) -> InitErrorDetails:
    """``owner`` reads ``" for adam"``, or is empty where the place says enough."""
    place = elsewhere(str(name))
    near = f" - did you mean '{place}'?" if place else nearest(name, legal)
    hint = f"options: {', '.join(legal) or 'none'}{near}"
    return explained(f"unknown option '{shortened(str(name))}'{owner}.", hint, where)


def unknown_label(label: object, labels: list[str], where: Where) -> InitErrorDetails:
    """There is no such optimizer in the experiment."""
    hint = f"optimizers: {', '.join(labels)}{nearest(label, labels)}"
    return explained(f"there is no optimizer '{label}' in this experiment.", hint, where)
