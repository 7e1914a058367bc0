"""Faults of a spec, as pydantic carries them: with a place, a message, and a hint.

pydantic collects the errors of a whole model. A validator that raises a ``ValidationError`` of its
own has its errors taken into that collection, so one pass finds everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from deltagclip_cli.spec.document import Where


def nearest(word: object, words: list[str]) -> str:
    """``" - did you mean 'x'?"``, or nothing if no word is near."""
    found = get_close_matches(str(word), words, n=1)
    return f" - did you mean '{found[0]}'?" if found else ""


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


def naming_legal_options(error: ValidationError, owner: str, legal: list[str]) -> ValidationError:
    """The same error, in which every unknown option of the outermost level names the legal ones."""
    return raised(
        [
            unknown_option(fault["loc"][0], owner, legal, fault["loc"])
            if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1
            else fault
            for fault in faults_of(error)
        ]
    )


def unknown_option(name: object, owner: str, legal: list[str], where: Where) -> InitErrorDetails:
    """``owner`` reads ``" for adam"``, or is empty where the place says enough."""
    hint = f"options: {', '.join(legal) or 'none'}{nearest(name, legal)}"
    return explained(f"unknown option '{name}'{owner}.", hint, where)


def unknown_label(label: object, labels: list[str], where: Where) -> InitErrorDetails:
    """There is no such optimizer in the experiment."""
    hint = f"optimizers: {', '.join(labels)}{nearest(label, labels)}"
    return explained(f"there is no optimizer '{label}' in this experiment.", hint, where)
