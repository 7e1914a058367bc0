"""Faults that pydantic found, as sentences: what is wrong, what was got, and a hint."""

from __future__ import annotations

import re
from collections.abc import Sequence
from reprlib import Repr

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from deltagclip_cli.core import plural, shortened
from deltagclip_cli.spec.document import Where
from deltagclip_cli.spec.faults import nearest


def sentence(where: Where, all_details: Sequence[ErrorDetails]) -> tuple[Where, str]:
    """Faults of one place as the sections that lead there, and what is wrong in the last of them.

    Args:
        where: the place; its last part is the setting.
        all_details: its faults, several if each kind of value that is legal has its own.
    """
    first = all_details[0]
    context = first.get("ctx", {})
    if "message" in context:
        trail, message = where[:-1] or where, context["message"]
    elif first["type"] == "missing" and first["loc"][-1] == where[-1]:
        trail, message = where[:-1], f"'{where[-1]}' is missing."
    elif first["type"] == "missing":
        trail, message = where[:-1], f"'{where[-1]}' has too few items (got {len(first['input'])})."
    else:
        last = where[-1]
        what = f"value {last + 1} of '{where[-2]}'" if isinstance(last, int) else f"'{last}'"
        trail = where[: -2 if isinstance(last, int) else -1]
        rules = ", or ".join(dict.fromkeys(rule(details["msg"]) for details in all_details))
        message = f"{what} {rules} (got {got(first['input'])})."
        context = {"hint": _hint(where[-1], all_details)}
    hint = f"\n  {context['hint']}" if context.get("hint") else ""
    return trail, f"{message}{hint}"


def _hint(key: object, all_details: Sequence[ErrorDetails]) -> str:
    value, kinds = all_details[0]["input"], [each["type"] for each in all_details]
    if kinds[0] in ("list_type", "tuple_type"):
        return _list_of(key, value)
    literals = [each["ctx"]["expected"] for each in all_details if each["type"] == "literal_error"]
    words = [word for each in literals for word in re.findall(r"'([^']*)'", each)]
    return nearest(value, words).removeprefix(" - ") if isinstance(value, str) else ""


def _list_of(key: object, value: object) -> str:
    """How one value is written where a list is wanted; ``seeds: 5`` means that there be five."""
    if key == "seeds" and type(value) is int and 1 < value <= _MOST_SEEDS:
        return f"{value} seeds are {list(range(value))}; this one alone is [{value}]"
    return "" if isinstance(value, dict) else f"a list is written [{shortened(str(value), 40)}]"


def in_one_line(error: ValidationError) -> str:
    """The first fault of an error, and how many more there are; without a full stop."""
    faults = error.errors(include_url=False)
    where = faults[0]["loc"] or ("the whole",)
    trail, message = sentence(where, [each for each in faults if each["loc"] == faults[0]["loc"]])
    line = " ".join(" › ".join([*map(str, trail), message]).split()).rstrip(".")
    more = len({each["loc"] for each in faults}) - 1
    return f"{line}; and {plural(more, 'more fault')}" if more else line


def rule(message: str) -> str:
    """pydantic's sentence as the end of ours: "must be a valid number"."""
    ours = re.sub(r"^(Input|List|Dictionary|Value|Tuple) should", "must", message)
    ours = re.sub(r" (after validation, not \d+|or instance of \w+)$", "", ours)
    ours = re.sub(r"(valid (integer|number|boolean)), .*", r"\1", ours)
    return ours.replace("a valid dictionary", "a mapping").replace("a valid tuple", "a list")


def got(value: object) -> str:
    """A value for a message: short, and on one line whatever it holds."""
    if not isinstance(value, str):
        return _SHORT.repr(value)[:80]
    return f"the text '{shortened(value)}'"


_MOST_SEEDS = 10  # that are written out in a hint

_SHORT = Repr()
_SHORT.maxlevel = 3  # cut before, not after: what aliases unfold to is as long as it likes
