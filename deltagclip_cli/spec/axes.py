"""The values that are tried: lists and ranges, and what random ones are drawn from.

Only the form is checked here; whether a key exists and a value is legal is for
:mod:`~deltagclip_cli.spec.grid` to say, which knows the experiment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from random import Random
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    PositiveInt,
    Strict,
    TypeAdapter,
    ValidationError,
    WrapValidator,
)
from pydantic_core import InitErrorDetails

from deltagclip_cli.core import derive_seed, nearest
from deltagclip_cli.spec.component import SpecSection
from deltagclip_cli.spec.faults import Where, collected, explained, faults_of, raised, refused

Number = TypeVar("Number", int, float)


def rounded(value: float, digits: int) -> float:
    """Return ``value`` with so many significant digits."""
    return float(f"{value:.{digits}g}")


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


@dataclass(frozen=True)
class Uniform:
    """Numbers between two, both included: whole if these are; with ``log``, even in logarithms."""

    low: float
    high: float
    log: bool = False

    def at(self, share: float) -> float:
        """Return the number below which so much of the distribution lies, of 0 up to 1.

        A real one has 6 digits, for readable folders and tables.
        """
        value: float
        low, high = self.low, self.high
        is_whole = isinstance(low, int) and isinstance(high, int)
        if is_whole and self.log:
            # Each stands for the half to either side of it, so that the ends are as likely.
            value = round(math.exp(_between(math.log(low - 0.5), math.log(high + 0.5), share)))
        elif is_whole:
            value = low + int(share * (high - low + 1))
        elif self.log:
            value = rounded(math.exp(_between(math.log(low), math.log(high), share)), 6)
        else:
            value = rounded(_between(low, high, share), 6)
        return min(max(value, low), high)  # which rounding may have left

    def draw(self, random: Random) -> float:
        """Draw one number, as :meth:`at` has it."""
        if isinstance(self.low, int) and isinstance(self.high, int) and not self.log:
            return random.randint(self.low, self.high)
        return self.at(random.random())


@dataclass(frozen=True)
class Choice:
    """One of several values of any kind."""

    values: tuple[Any, ...]

    def at(self, share: float) -> Any:
        """Return the value below which so much of the distribution lies, of 0 up to 1."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def draw(self, random: Random) -> Any:
        """Draw one value."""
        return random.choice(self.values)


Distribution = Uniform | Choice


def _ascending(ends: tuple[Number, Number]) -> tuple[Number, Number]:
    if ends[0] >= ends[1]:
        raise refused(f"its low end must be below its high end (got {ends[0]!r} and {ends[1]!r}).")
    return ends


# A list is all that YAML has for a pair; the numbers inside stay strict.
_PAIR = (Strict(False), AfterValidator(_ascending))
_Positive = Annotated[float, Field(gt=0)]
_Count = Annotated[int, Field(gt=0)]
_FORMS: dict[str, Any] = {
    "uniform": Annotated[tuple[float, float], *_PAIR],
    "log_uniform": Annotated[tuple[_Positive, _Positive], *_PAIR],
    "integer": Annotated[tuple[int, int], *_PAIR],
    "log_integer": Annotated[tuple[_Count, _Count], *_PAIR],
    "choice": Annotated[list[Any], Field(min_length=1)],
}

WORDS = tuple(_FORMS)

DISTRIBUTIONS = {
    "uniform: [0, 1]": "numbers between two",
    "log_uniform: [1e-5, 1e-2]": "numbers above 0, even in their logarithms",
    "integer: [1, 8]": "whole numbers, both ends included",
    "log_integer: [16, 1024]": "whole numbers above 0, even in their logarithms",
    "choice: [relu, gelu]": "one of these values, of any kind",
}
"""An example of each, and what it draws."""


def as_written(distribution: Distribution) -> dict[str, list[Any]]:
    """Return the distribution as a spec has it."""
    if isinstance(distribution, Choice):
        return {"choice": list(distribution.values)}
    word = "integer" if isinstance(distribution.low, int) else "uniform"
    return {f"{'log_' * distribution.log}{word}": [distribution.low, distribution.high]}


def extremes(distribution: Distribution) -> Iterator[tuple[Where, Any]]:
    """Yield what must be legal for all draws to be, each with its place below the option."""
    ((word, values),) = as_written(distribution).items()
    yield from (((word, index), value) for index, value in enumerate(values))


def read_distribution(written: Any) -> Distribution:
    """Read a distribution from its one word and the limits, or values, after it."""
    words = f"distributions: {', '.join(WORDS)}"
    if not isinstance(written, dict) or len(written) != 1:
        message = "a distribution is one word with its limits, such as {log_uniform: [1e-3, 1]}."
        raise refused(message, words)
    ((word, arguments),) = written.items()
    if word not in WORDS:
        hint = f"{words}{nearest(word, WORDS)}"
        raise refused(f"there is no distribution '{word}'.", hint, (word,))
    try:
        checked = _adapter(word).validate_python(arguments)
    except ValidationError as error:
        raise raised(list(faults_of(error, (word,)))) from None
    if word == "choice":
        return Choice(tuple(checked))
    low, high = checked
    return Uniform(low, high, word.startswith("log_"))


@cache
def _adapter(word: str) -> TypeAdapter[Any]:
    return TypeAdapter(_FORMS[word], config=ConfigDict(strict=True, allow_inf_nan=False))


AnyDistribution = Annotated[Distribution, PlainValidator(read_distribution)]

Placed = tuple[Where, Any]
"""A value and the place to name if it is wrong."""


@dataclass(frozen=True)
class GridColumn:
    """One key of an axis, with its place in the grid and the number of its values.

    ``points`` makes them only when asked for, since a range can be of any length; ``extremes`` must
    be legal too, for all that could have been drawn to be.
    """

    key: str
    where: Where
    size: int
    points: Callable[[], list[Placed]]
    extremes: tuple[Placed, ...] = ()


Axis = tuple[GridColumn, ...]
"""Keys that are varied together."""

_RANDOM_EXAMPLE = "such as random: {draws: 20, lr: {log_uniform: [1e-3, 1]}}"
_EXAMPLES = "such as lr: [0.1, 1], or lr: {log_range: [1e-3, 1], count: 4}"


def read_axes(written: Any, where: Where, faults: list[InitErrorDetails]) -> list[Axis]:
    """Return the axes of a block of a grid; what is wrong with their form goes to ``faults``."""
    axes: list[Axis] = []
    if not isinstance(written, dict) or not written:
        message = f"'{where[-1]}' must be a mapping of what is varied to its values."
        faults.append(explained(message, _EXAMPLES, where))
        return axes
    for key, value in written.items():
        place = (*where, key)
        with collected(faults, place):
            match key:
                case "zip":
                    axes.append(_zipped(value, place))
                case "random":
                    axes.append(_drawn(value, place))
                case _:
                    axes.append((_column(key, value, place),))
    return axes


def _column(key: Any, written: Any, where: Where) -> GridColumn:
    if isinstance(written, list) and written:
        points = [((*where, index), value) for index, value in enumerate(written)]
        return GridColumn(str(key), where, len(points), lambda: points)
    if isinstance(written, dict) and "log_range" in written:
        log_range = _LogRange.model_validate(written)
        make = partial(_spaced, where, log_range.log_range, log_range.count, log=True)
        return GridColumn(str(key), where, log_range.count, make)
    if isinstance(written, dict) and "range" in written:
        evenly = _Range.model_validate(written)
        make = partial(_spaced, where, evenly.range, evenly.count, log=False)
        return GridColumn(str(key), where, evenly.count, make)
    message = f"'{key}' must be a list of values, or a range of numbers."
    random = isinstance(written, dict) and not written.keys().isdisjoint(WORDS)
    raise refused(message, _RANDOM_EXAMPLE if random else _EXAMPLES)


def _keep_whole(value: Any, check: Callable[[Any], float]) -> float:
    checked = check(value)
    return value if isinstance(value, int) else checked


_Real = Annotated[float, WrapValidator(_keep_whole)]
_PositiveReal = Annotated[float, Field(gt=0), WrapValidator(_keep_whole)]
_Several = Annotated[int, Field(ge=2)]


class _Range(SpecSection):
    count: _Several
    range: Annotated[tuple[_Real, _Real], *_PAIR]


class _LogRange(SpecSection):
    count: _Several
    log_range: Annotated[tuple[_PositiveReal, _PositiveReal], *_PAIR]


def _spaced(where: Where, ends: tuple[float, float], count: int, *, log: bool) -> list[Placed]:
    """Return numbers from one end to the other, both included.

    They have 12 digits, so that 1e-3 to 1 in four is 0.001, 0.01, 0.1, 1; and they are whole if
    the ends were written so and all come out so.
    """
    low, high = ends
    inner = []
    for step in range(1, count - 1):
        share = step / (count - 1)
        if log:
            number = math.exp(math.log(low) * (1 - share) + math.log(high) * share)
        else:
            number = low + (high - low) * share
        inner.append(rounded(number, 12))
    whole = all(isinstance(end, int) for end in ends) and all(map(float.is_integer, inner))
    return [(where, int(each) if whole else float(each)) for each in (low, *inner, high)]


def _zipped(written: Any, where: Where) -> Axis:
    if not isinstance(written, dict) or not written:
        hint = "such as zip: {lr: [0.1, 1], momentum: [0.9, 0]}"
        raise refused("'zip' pairs the values of several keys up.", hint)
    columns: list[GridColumn] = []
    faults: list[InitErrorDetails] = []
    for key, values in written.items():
        with collected(faults, (key,)):
            columns.append(_column(key, values, (*where, key)))
    if len({column.size for column in columns}) > 1:
        sizes = ", ".join(f"{column.key} has {column.size}" for column in columns)
        faults.append(explained("what 'zip' pairs up must be of one length.", sizes))
    if faults:
        raise raised(faults)
    return tuple(columns)


class _Random(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    draws: PositiveInt
    seed: Annotated[int, Field(ge=0)] = 0
    __pydantic_extra__: dict[str, AnyDistribution]


def _drawn(written: Any, where: Where) -> Axis:
    read = _Random.model_validate(written)
    if not read.__pydantic_extra__:
        raise refused("'random' has no options to draw.", _RANDOM_EXAMPLE)
    return tuple(
        GridColumn(
            str(key),
            (*where, key),
            read.draws,
            partial(_draws, (*where, key), distribution, read.draws, read.seed, key),
            tuple(((*where, key, *place), value) for place, value in extremes(distribution)),
        )
        for key, distribution in read.__pydantic_extra__.items()
    )


def _draws(
    where: Where, distribution: Distribution, draws: int, seed: int, key: str
) -> list[Placed]:
    """Return values from a stream of the seed and the key alone, the same for every optimizer."""
    random = Random(derive_seed(seed, "grid", key))
    return [(where, distribution.draw(random)) for _ in range(draws)]
