"""Faults that pydantic found, as sentences: what is wrong, what was got, and a hint."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from deltagclip_cli.spec.document import Where
from deltagclip_cli.wording import plural, printable


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
        rules = ", or ".join(dict.fromkeys(_rule(details["msg"]) for details in all_details))
        message = f"{what} {rules} (got {got(first['input'])})."
    hint = f"\n  {context['hint']}" if context.get("hint") else ""
    return trail, f"{message}{hint}"


def in_one_line(error: ValidationError) -> str:
    """The first fault of an error, and how many more there are; without a full stop."""
    faults = error.errors(include_url=False)
    where = faults[0]["loc"] or ("the whole",)
    trail, message = sentence(where, [each for each in faults if each["loc"] == faults[0]["loc"]])
    line = " ".join(" › ".join([*map(str, trail), message]).split()).rstrip(".")
    more = len({each["loc"] for each in faults}) - 1
    return f"{line}; and {plural(more, 'more fault')}" if more else line


def _rule(message: str) -> str:
    """pydantic's sentence as the end of ours: "must be a valid number"."""
    ours = re.sub(r"^(Input|List|Dictionary|Value|Tuple) should", "must", message)
    return re.sub(r" (after validation, not \d+|or instance of \w+)$", "", ours)


def got(value: object) -> str:
    """A value for a message: short, and on one line whatever it holds."""
    if not isinstance(value, str):
        return repr(value)[:80]
    return f"the text '{printable(value[:60])}'"
