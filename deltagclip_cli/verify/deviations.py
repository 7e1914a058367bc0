"""Differences between two contents of a page, each with its place in words."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_NUMBER = re.compile(r"[-−+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
_AS_CLOSE = 2e-6  # charts have six digits
_MOST_LETTERS = 120  # of what a difference shows


@dataclass(frozen=True)
class Deviation:
    """One thing that a report says otherwise than its runs."""

    # ``file`` that was read, ``run``, ``page``, its ``seal``, ``beside`` of a file beside it,
    # ``number`` that comes out otherwise, or ``request`` that cannot be answered any more
    kind: str
    place: str  # in words, or a file
    said: str  # by the report
    found: str  # when it was worked out anew
    run: str = ""  # the folder of the run that it is about, if it is about one

    def __str__(self) -> str:
        match self.kind:
            case "file" | "run":
                return f"{self.place}: {self.found} ({self.said} for the report)."
            case "page":
                return f"{self.place}: it shows {self.said}, and carries {self.found}."
            case "seal":
                return f"{self.place}: {self.found}."
            case "request":
                return f"{self.place}: {self.found}"
        return f"{self.place}: {self.said} in the report, {self.found} by the run folders."


@dataclass(frozen=True)
class Likeness:
    """A rule by which two values count as the same: exactly, or but for their last digits."""

    is_exact: bool

    def are_alike(self, one: Any, other: Any) -> bool:
        """Tell whether two plain values count as the same."""
        if one == other and type(one) is not bool and type(other) is not bool:
            return True
        if type(one) is bool or type(other) is bool:
            return one is other
        if self.is_exact:
            return False
        if isinstance(one, str) and isinstance(other, str):
            pairs = zip(_NUMBER.findall(one), _NUMBER.findall(other), strict=False)
            return _NUMBER.sub("#", one) == _NUMBER.sub("#", other) and all(
                a == b or _are_close(float(a.replace("−", "-")), float(b.replace("−", "-")))
                for a, b in pairs
            )
        numbers = (int, float)
        return isinstance(one, numbers) and isinstance(other, numbers) and _are_close(one, other)


def _are_close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_AS_CLOSE, abs_tol=1e-12)


def deviations(said: Any, found: Any, likeness: Likeness) -> list[Deviation]:
    """Return what differs between the content of a page and what it should be."""
    return list(_between(said, found, [], likeness))


Place = Sequence[str]


def _between(said: Any, found: Any, place: Place, likeness: Likeness) -> Iterator[Deviation]:
    match said, found:
        case {"headings": _, "rows": _}, {"headings": _, "rows": _}:
            yield from _between_tables(said, found, place, likeness)
        case Mapping(), Mapping():
            said, found = _with_csv(said), _with_csv(found)
            for key in dict.fromkeys([*said, *found]):
                inner = [*place, *_words(key)]
                yield from _at(key in said, key in found, said, found, key, inner, likeness)
        case list(), list() if _are_numbers(said) and _are_numbers(found):
            yield from _between_numbers(said, found, place, likeness)
        case list(), list():
            yield from _between_lists(said, found, place, likeness)
        case str(), str() if "\n" in said or "\n" in found:
            yield from _between_lists(said.split("\n"), found.split("\n"), place, likeness)
        case str(), str() if not likeness.are_alike(said, found):
            yield Deviation("number", _in_words(place), *around(said, found))
        case _ if not likeness.are_alike(said, found):
            yield Deviation("number", _in_words(place), _short(said), _short(found))


def _at(
    is_said: bool, is_found: bool, said: Any, found: Any, key: Any, place: Place, likeness: Likeness
) -> Iterator[Deviation]:
    if is_said and is_found:
        yield from _between(said[key], found[key], place, likeness)
    elif is_said:
        yield Deviation("number", _in_words(place), _short(said[key]), "nothing")
    else:
        yield Deviation("number", _in_words(place), "nothing", _short(found[key]))


# Keys that a place in words can do without.
_SILENT = {"sections", "tables", "content", "groups", "charts", "data", "lines", "pieces"}


def _words(key: Any) -> list[str]:
    return [] if key in _SILENT else [str(key)]


def _with_csv(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take the CSV of a table apart, so that a number in it has a row and a column."""
    text = data.get("csv")
    if not isinstance(text, str):
        return data
    head, *rows = list(csv.reader(io.StringIO(text))) or [[]]
    names = [f"row {number}" for number in range(1, len(rows) + 1)]
    cells = (dict(zip(head, row, strict=False)) | {"cells": len(row)} for row in rows)
    return {**data, "csv": {"columns": ",".join(head), **dict(zip(names, cells, strict=True))}}


def around(said: str, found: str, reach: int = 40) -> tuple[str, str]:
    """Return two texts, of long ones the surroundings of the first place at which they differ."""
    if max(len(said), len(found)) <= _MOST_LETTERS:
        return said or "nothing", found or "nothing"
    letters = zip(said, found, strict=False)
    at = next((i for i, (a, b) in enumerate(letters) if a != b), min(len(said), len(found)))
    start = max(0, at - reach)
    return f"…{said[start : at + reach]}…", f"…{found[start : at + reach]}…"


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(each is None or type(each) in (int, float) for each in values)


def _between_numbers(
    said: Sequence[Any], found: Sequence[Any], place: Place, likeness: Likeness
) -> Iterator[Deviation]:
    if len(said) != len(found):
        lengths = f"{len(said)} points", f"{len(found)} points"
        yield Deviation("number", _in_words(place), *lengths)
        return
    unlike = [
        number
        for number, (one, other) in enumerate(zip(said, found, strict=True))
        if not likeness.are_alike(one, other)
    ]
    for first in unlike[:1]:
        more = f" and {len(unlike) - 1} more of {len(said)}" if len(unlike) > 1 else ""
        where = _in_words([*place, f"point {first + 1}{more}"])
        yield Deviation("number", where, _short(said[first]), _short(found[first]))


def _between_lists(
    said: Sequence[Any], found: Sequence[Any], place: Place, likeness: Likeness
) -> Iterator[Deviation]:
    """Compare by names where the elements have any, else in turn."""
    own, others = _names(said), _names(found)
    if own is not None and others is not None:
        ours, theirs = dict(zip(own, said, strict=True)), dict(zip(others, found, strict=True))
        for name in dict.fromkeys([*ours, *theirs]):
            inner = [*place, name]
            yield from _at(name in ours, name in theirs, ours, theirs, name, inner, likeness)
        return
    for number in range(max(len(said), len(found))):
        inner = [*place, str(number + 1)]
        there = number < len(said), number < len(found)
        yield from _at(*there, said, found, number, inner, likeness)


_NAMES: Sequence[Callable[[Mapping[str, Any]], Any]] = (
    lambda each: each["folder"],  # of a run, which is told of twice if it did not finish
    lambda each: each["caption"],  # of a table
    lambda each: each["title"],  # of a comparison, a chart
    lambda each: each["heading"],  # of some charts
    lambda each: each["name"],  # of a line
)


def _names(values: Sequence[Any]) -> list[str] | None:
    """Return a name for each of some things, if they have different ones."""
    if not values or not all(isinstance(each, Mapping) for each in values):
        return None
    for name_of in _NAMES:
        try:
            names = [str(name_of(each)) for each in values]
        except KeyError:
            continue
        if len(set(names)) == len(names):
            return names
    return None


def _between_tables(
    said: Mapping[str, Any], found: Mapping[str, Any], place: Place, likeness: Likeness
) -> Iterator[Deviation]:
    for key in ("title", "headings", "notes"):
        yield from _between(said[key], found[key], [*place, *_words(key)], likeness)
    if said["headings"] != found["headings"]:
        return
    ours, theirs = _by_row(said["rows"]), _by_row(found["rows"])
    for name in dict.fromkeys([*ours, *theirs]):
        inner = [*place, name]
        if name not in ours or name not in theirs:
            yield from _at(name in ours, name in theirs, ours, theirs, name, inner, likeness)
            continue
        for heading, one, other in zip(said["headings"], ours[name], theirs[name], strict=True):
            if not likeness.are_alike(_whole(one), _whole(other)):
                yield Deviation("number", _in_words([*inner, heading]), _whole(one), _whole(other))
            else:
                yield from _between(_rest(one), _rest(other), [*inner, heading], likeness)
    if list(ours) != list(theirs) and set(ours) == set(theirs):
        orders = (", ".join(each) for each in (ours, theirs))
        yield Deviation("number", _in_words([*place, "order of the rows"]), *orders)


def _rest(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a cell has beside its words, such as a colour."""
    return {key: each for key, each in cell.items() if key not in ("text", "detail")}


def _by_row(rows: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for row in rows:
        name = _whole(row[0])
        found[name if name not in found else f"{name} ({len(found) + 1})"] = row
    return found


def _whole(cell: Mapping[str, Any]) -> str:
    return f"{cell['text']} {cell['detail']}".rstrip()


def _in_words(place: Place) -> str:
    return " › ".join(place) or "the page"


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return "there"
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 1]}…"
