"""The parts of the name of a run: what may be a setting, and what surely is none.

A name is the path of a run below the folder that is searched. The word *seed* with a number is a
seed wherever it stands; time-stamps and the random names that tools give to runs are left out. Of
some other parts nobody knows from one name whether they are settings: they are told by their kind.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from deltagclip_cli.results.read.stamps import DATE, STAMP, SUMMARY_WRITER


class PartKind(StrEnum):
    """What a part of a name is."""

    SEED = "seed"
    STAMP = "time-stamp"
    HOST = "host"  # what follows torch's time-stamp: a host's name, perhaps with a comment
    NUMBER = "number behind the time-stamp"
    VERSION = "version"
    DATE = "date"
    PLACE = "folder"


DOUBTFUL = (PartKind.HOST, PartKind.NUMBER, PartKind.VERSION, PartKind.DATE, PartKind.PLACE)
"""The kinds of parts that may be settings."""

_GONE = "\0"
_AROUND = r"[._\-+,=@~&:| ]*"
_GONE_RUN = rf"\0(?:{_AROUND}\0)*"
_BETWEEN = re.compile(
    rf"(?P<before>{_AROUND})(?:[(\[{{]{_GONE_RUN}[)\]}}]|{_GONE_RUN})(?P<after>{_AROUND})"
)
_COMPONENT = r"(?:(?<=/)|(?<=^))"

_TOOLS = (
    re.compile(rf"{_COMPONENT}(?:offline-)?run-\d{{8}}_\d{{6}}(?:-[0-9a-z]{{6,8}}(?=/|$))?"),  # W&B
    re.compile(r"(?:(?<=_)|(?<=/)|(?<=^))[0-9a-f]{5,8}_\d{5}_\d+(?=_|/|$)"),  # Ray Tune
    re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{32}(?![0-9A-Za-z])"),  # Guild AI, MLflow
    re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![0-9A-Za-z])"),
)
# CleanRL: the environment, the experiment, the seed and the time.
_CLEANRL = re.compile(r"(?<=__)(?P<seed>\d+)__1\d{9}(?=/|$)")
_OWN = "rng|random|rnd|manual|global|torch|numpy|np|python|training"
_PARTIAL = "data|dataset|env|split|init|model|shuffle|sampler|train|val|test|eval"
_SEED = re.compile(
    rf"(?:(?<![A-Za-z])(?:(?i:(?P<partial>{_PARTIAL})|{_OWN})[-_]?)?(?i:seed)|(?<=[a-z])Seed"
    r"|(?<![A-Za-z])(?i:seeds)(?=/))"
    r"(?:_|[^\w\0,;(){}\[\]]){0,3}(?P<open>[(\[{])?(?P<seed>\d+)(?(open)[)\]}])"
    r"(?!\d|\.\d|e[-+]?\d)"
)
_NUMBER = re.compile(r"(?<=\0)[._\-/](?P<number>\d+)(?=$|[/._\-\0])")
_VERSION = re.compile(rf"{_COMPONENT}version_\d+(?=/|$)")
_PLACES = re.compile(
    rf"{_COMPONENT}(?i:\.?guild|events?|files|lightning_logs|logs?|runs|summar(?:y|ies)"
    r"|tb(?:_?logs?)?|tensor_?board(?:_?logs?)?|vis_data|wandb)(?=/|$)"
)


@dataclass(frozen=True)
class Part:
    """Something in a name that is no plain text.

    Args:
        start: where it begins.
        end: where it ends.
        kind: what it is.
    """

    start: int
    end: int
    kind: PartKind


@dataclass(frozen=True)
class Name:
    """A name and its parts.

    Args:
        text: the path of the run, with ``/``.
        parts: in order, none within another.
        seed: a number without leading zeros; None if there is none.
    """

    text: str
    parts: tuple[Part, ...]
    seed: str | None

    @classmethod
    def of(cls, text: str) -> Name:
        """Take a name apart."""
        return _Taker(text).name()

    def words(self, kind: PartKind) -> tuple[str, ...]:
        """The parts of a kind as they are written."""
        return tuple(self.text[p.start : p.end] for p in self.parts if p.kind is kind)

    def without(self, kept: Collection[PartKind] = ()) -> str:
        """The plain text, and the parts of the kinds that are to be kept; perhaps empty."""
        rest = self.text
        for part in self.parts:
            if part.kind not in kept:
                gone = _GONE * (part.end - part.start)
                rest = rest[: part.start] + gone + rest[part.end :]
        return "/".join(filter(None, map(_joined, rest.split("/"))))

    @cached_property
    def plain(self) -> str:
        """The plain text alone."""
        return self.without()


def _joined(component: str) -> str:
    """A folder's name without what is gone from it."""

    def between(found: re.Match[str]) -> str:
        before, after = component[: found.start()], component[found.end() :]
        if not before or not after or before[-1] in "([{" or after[0] in ")]}":
            return ""
        return found["before"] or found["after"] or "-"

    return _BETWEEN.sub(between, component)


class _Taker:
    """Finds the parts of a name, first those that are surest."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._rest = text.replace(_GONE, "?")  # without what was found so far
        self._parts: list[Part] = []
        self._seed: str | None = None

    def name(self) -> Name:
        self._take_cleanrl()
        for pattern in _TOOLS:
            self._take(pattern, PartKind.STAMP)
        hosts = [found.end() for found in SUMMARY_WRITER.finditer(self._rest)]
        self._take(STAMP, PartKind.STAMP)
        self._take_seeds()
        for begin in hosts:
            self._take_host(begin)
        self._take(_NUMBER, PartKind.NUMBER)
        self._take(_VERSION, PartKind.VERSION)
        self._take(_PLACES, PartKind.PLACE)
        self._take(DATE, PartKind.DATE)
        return Name(self._text, tuple(sorted(self._parts, key=lambda p: p.start)), self._seed)

    def _take(self, pattern: re.Pattern[str], kind: PartKind) -> None:
        for found in list(pattern.finditer(self._rest)):
            start, end = found.span("number" if "number" in pattern.groupindex else 0)
            self._add(start, end, kind)

    def _add(self, start: int, end: int, kind: PartKind) -> None:
        self._parts.append(Part(start, end, kind))
        self._rest = self._rest[:start] + _GONE * (end - start) + self._rest[end:]

    def _take_cleanrl(self) -> None:
        found = _CLEANRL.search(self._rest)
        if found:
            self._seed = _number(found["seed"])
            self._add(*found.span("seed"), PartKind.SEED)

    def _take_seeds(self) -> None:
        """Take the last seed; one of the data, say, counts only where there is no other."""
        found = list(_SEED.finditer(self._rest))
        whole = [each for each in found if not each["partial"]] or found
        if whole:
            self._seed = _number(whole[-1]["seed"])
            for each in whole:
                if _number(each["seed"]) == self._seed:
                    self._add(*each.span(), PartKind.SEED)

    def _take_host(self, begin: int) -> None:
        end = self._rest.find("/", begin)
        for start, stop in _runs_of_text(self._rest, begin, len(self._rest) if end < 0 else end):
            self._add(start, stop, PartKind.HOST)


def _runs_of_text(rest: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    for found in re.finditer(r"[^\0]+", rest[begin:end]):
        word = found[0]
        start = begin + found.start() + len(word) - len(re.sub(rf"^{_AROUND}", "", word))
        stop = begin + found.start() + len(re.sub(rf"{_AROUND}$", "", word))
        if start < stop:
            yield start, stop


def _number(digits: str) -> str:
    return digits.lstrip("0") or "0"
