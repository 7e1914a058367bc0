"""Faults of a spec: with a place, a message and a hint, and as sentences; what names must be like.

pydantic collects the errors of a whole model. A validator that raises a ``ValidationError`` of its
own has its errors taken into that collection, so one pass finds everything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from reprlib import Repr
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError, ValidationError

from deltagclip_cli.core import nearest, plural, shortened

Where = tuple[str | int, ...]
"""The keys and numbers that lead to a place in a spec."""

MOST_FAULTS = 100
"""Of so many of a file is told what is wrong, and of the others how many they are."""

_MOST_SEEDS = 10  # that are written out in a hint

_OF_THE_DATA = (
    "Write a value, or what the data have: $shape, $channels, $classes, $vocabulary or $window."
)

_SHORT = Repr()
_SHORT.maxlevel = 3  # cut before, not after: what aliases unfold to is as long as it likes


def explained(message: str, hint: str = "", where: Where = ()) -> InitErrorDetails:
    """Return a fault in our own words."""
    kind = PydanticCustomError("explained", "{message}", {"message": message, "hint": hint})
    return InitErrorDetails(type=kind, loc=where, input=None)


def refused(message: str, hint: str = "", where: Where = ()) -> ValidationError:
    """Return an error of one fault in our own words."""
    return raised([explained(message, hint, where)])


def raised(faults: list[InitErrorDetails]) -> ValidationError:
    """Return one error of several faults."""
    return ValidationError.from_exception_data("spec", faults)


@contextmanager
def collected(faults: list[InitErrorDetails], where: Where) -> Iterator[None]:
    """Put the faults that are raised inside into ``faults``, below ``where``, and go on."""
    try:
        yield
    except ValidationError as error:
        faults += faults_of(error, where)


def faults_of(error: ValidationError, where: Where = ()) -> Iterator[InitErrorDetails]:
    """Yield the faults of an error, each at its place below ``where``."""
    for fault in error.errors(include_url=False):
        context = dict(fault.get("ctx", {}))
        kind: str | PydanticCustomError = fault["type"]
        if kind == "explained":
            kind = PydanticCustomError("explained", "{message}", context)
        place = (*where, *fault["loc"])
        yield InitErrorDetails(type=kind, loc=place, input=fault["input"], ctx=context)


def unknown_option(
    name: object, owner: str, legal: list[str], where: Where, place: str | None = None
) -> InitErrorDetails:
    """Return the fault that an owner, such as ``" for adam"``, has no such option.

    ``place`` is the key of the option of something else that it is, if that is known.
    """
    near = f" - did you mean '{place}'?" if place else nearest(name, legal)
    hint = f"options: {', '.join(legal) or 'none'}{near}"
    return explained(f"unknown option '{shortened(str(name))}'{owner}.", hint, where)


def naming_legal_options(
    error: ValidationError,
    owner: str,
    legal: list[str],
    elsewhere: Callable[[str], str | None] = lambda option: None,
) -> ValidationError:
    """Return the same error, whose unknown options name the legal ones, or a place elsewhere."""
    faults = list(faults_of(error))
    for number, fault in enumerate(faults[:MOST_FAULTS]):
        if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1:
            name = str(fault["loc"][0])
            faults[number] = unknown_option(name, owner, legal, fault["loc"], elsewhere(name))
    return raised(faults)


def unknown_label(label: object, labels: Iterable[str], where: Where) -> InitErrorDetails:
    """Return the fault that there is no such optimizer in the experiment."""
    labels = list(labels)
    hint = f"optimizers: {', '.join(labels)}{nearest(label, labels)}"
    return explained(f"there is no optimizer '{label}' in this experiment.", hint, where)


def sentence(where: Where, all_details: Sequence[ErrorDetails]) -> tuple[Where, str]:
    """Return the sections that lead to a fault, and what is wrong with the setting at their end."""
    first, last = all_details[0], where[-1]
    trail, hint = where[:-1], ""
    if "message" in first.get("ctx", {}):
        message, hint = first["ctx"]["message"], first["ctx"].get("hint", "")
        trail = trail or where
    elif first["type"] == "missing" and first["loc"][-1] == last:
        message = f"'{last}' is missing."
        if trail[-1:] == ("model",) and last != "name":
            hint = _OF_THE_DATA
    elif first["type"] == "missing":
        message = f"'{last}' has too few items (got {len(first['input'])})."
    else:
        rules = ", or ".join(dict.fromkeys(rule(details["msg"]) for details in all_details))
        what = f"'{last}'"
        if isinstance(last, int):
            what, trail = f"value {last + 1} of '{where[-2]}'", where[:-2]
        message = f"{what} {rules} (got {got(first['input'])})."
        hint = _hint(last, all_details)
    return trail, f"{message}\n  {hint}" if hint else message


def _hint(key: object, all_details: Sequence[ErrorDetails]) -> str:
    value = all_details[0]["input"]
    if all_details[0]["type"] in ("list_type", "tuple_type"):
        if key == "seeds" and type(value) is int and 1 < value <= _MOST_SEEDS:
            return f"{value} seeds are {list(range(value))}; this one alone is [{value}]"
        return "" if isinstance(value, dict) else f"a list is written [{shortened(str(value), 40)}]"
    if not isinstance(value, str):
        return ""
    literals = [each["ctx"]["expected"] for each in all_details if each["type"] == "literal_error"]
    words = [word for each in literals for word in re.findall(r"'([^']*)'", each)]
    return nearest(value, words).removeprefix(" - ")


def in_one_line(error: ValidationError) -> str:
    """Return the first fault of an error and how many more there are, without a full stop."""
    faults = error.errors(include_url=False)
    where = faults[0]["loc"] or ("the whole",)
    trail, message = sentence(where, [each for each in faults if each["loc"] == faults[0]["loc"]])
    line = " ".join(" › ".join([*map(str, trail), message]).split()).rstrip(".")
    more = len({each["loc"] for each in faults}) - 1
    return f"{line}; and {plural(more, 'more fault')}" if more else line


def rule(message: str) -> str:
    """Return pydantic's sentence as the end of ours: "must be a valid number"."""
    ours = re.sub(r"^(Input|List|Dictionary|Value|Tuple) should", "must", message)
    ours = re.sub(r" (after validation, not \d+|or instance of \w+)$", "", ours)
    ours = re.sub(r"(valid (integer|number|boolean)), .*", r"\1", ours)
    return ours.replace("a valid dictionary", "a mapping").replace("a valid tuple", "a list")


def got(value: object) -> str:
    """Return a value for a message: short, and on one line whatever it holds."""
    if not isinstance(value, str):
        return _SHORT.repr(value)[:80]
    return f"the text '{shortened(value)}'"


# Names become folders: nothing may lead out of the runs folder, or be longer than 255 bytes.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}")
NAMES = "names begin with a letter or digit and hold up to 200 letters, digits, '-' and '_'"


def _check_name(value: object) -> object:
    if isinstance(value, str) and not NAME.fullmatch(value):
        raise refused(f"'{shortened(value)}' cannot be a name.", NAMES)
    return value


Name = Annotated[str, BeforeValidator(_check_name)]
