"""Values that YAML can write, but that no machine holds as what they are meant for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic_core import InitErrorDetails, PydanticCustomError

from deltagclip_cli.spec.document import Where

_BITS = 63  # of a whole number besides its sign, in files and in torch
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def faults_of_values(data: Any) -> Iterator[InitErrorDetails]:
    """Every whole number of more than 64 bits and every text that no file can hold, once each."""
    pending: list[tuple[Where, Any]] = [((), data)]
    seen = set()
    while pending:
        where, value = pending.pop()
        if isinstance(value, (dict, list)):
            if id(value) in seen:  # an alias; and what many of them unfold to has no end
                continue
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            pending += reversed([((*where, key), item) for key, item in items])
        elif isinstance(value, int) and value.bit_length() > _BITS:
            yield _fault("must be a whole number of at most 64 bits", where, value)
        elif isinstance(value, str) and _NO_TEXT.search(value):
            yield _fault(r"must be a text without \0 or half a surrogate pair", where, value)


def _fault(rule: str, where: Where, value: Any) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError("limit", rule), loc=where, input=value)
