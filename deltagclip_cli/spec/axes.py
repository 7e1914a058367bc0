"""The values that are tried: lists and ranges, and what random ones are drawn from.

Only the form is checked here; whether a key exists and a value is legal is for
:mod:`~deltagclip_cli.spec.grid` to say, which knows the experiment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
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

from deltagclip_cli.core import derive_seed
from deltagclip_cli.spec.component import SpecSection
from deltagclip_cli.spec.faults import (
    Where,
    collected,
    explained,
    faults_of,
    nearest,
    raised,
    refused,
)

Number = TypeVar("Number", int, float)


def rounded(value: float, digits: int) -> float:
    """``value`` with so many significant digits."""
    return float(f"{value:.{digits}g}")


def _clamped(value: Number, low: Number, high: Number) -> Number:
    """Rounding must not lead out of the limits that were checked."""
    return min(max(value, low), high)


@dataclass(frozen=True)
class Uniform:
    """Real numbers between two, evenly; with 6 digits, for readable folders and tables."""

    low: float
    high: float

    def draw(self, random: Random) -> float:
        """One value."""
        return _clamped(rounded(random.uniform(self.low, self.high), 6), self.low, self.high)


@dataclass(frozen=True)
class LogUniform:
    """Positive real numbers between two, evenly in their logarithm; with 6 digits."""

    low: float
    high: float

    def draw(self, random: Random) -> float:
        """One value."""
        value = math.exp(random.uniform(math.log(self.low), math.log(self.high)))
        return _clamped(rounded(value, 6), self.low, self.high)


@dataclass(frozen=True)
class Integer:
    """Whole numbers from one to another, both included."""

    low: int
    high: int

    def draw(self, random: Random) -> int:
        """One value."""
        return random.randint(self.low, self.high)


@dataclass(frozen=True)
class LogInteger:
    """Positive whole numbers from one to another, both included, evenly in their logarithm.

    Each number stands for the half to either side of it, so that the ends are as likely as others.
    """

    low: int
    high: int

    def draw(self, random: Random) -> int:
        """One value."""
        value = random.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5))
        return _clamped(round(math.exp(value)), self.low, self.high)


@dataclass(frozen=True)
class Choice:
    """One of several values of any kind."""

    values: tuple[Any, ...]

    def draw(self, random: Random) -> Any:
        """One value."""
        return random.choice(self.values)


Distribution = Uniform | LogUniform | Integer | LogInteger | Choice


def ascending(ends: tuple[Number, Number]) -> tuple[Number, Number]:
    """Refuse ends that are equal or the wrong way round."""
    if ends[0] >= ends[1]:
        message = f"its low end must be below its high end (got {ends[0]!r} and {ends[1]!r})."
        raise refused(message)
    return ends


# A list is all that YAML has for a pair; the numbers inside stay strict.
_PAIR = (Strict(False), AfterValidator(ascending))
_Positive = Annotated[float, Field(gt=0)]
_Count = Annotated[int, Field(gt=0)]
_KINDS: Mapping[str, tuple[type[Distribution], Any]] = {
    "uniform": (Uniform, Annotated[tuple[float, float], *_PAIR]),
    "log_uniform": (LogUniform, Annotated[tuple[_Positive, _Positive], *_PAIR]),
    "integer": (Integer, Annotated[tuple[int, int], *_PAIR]),
    "log_integer": (LogInteger, Annotated[tuple[_Count, _Count], *_PAIR]),
    "choice": (Choice, Annotated[list[Any], Field(min_length=1)]),
}

WORDS = tuple(_KINDS)


def extremes(distribution: Distribution) -> Iterator[tuple[Where, Any]]:
    """The values that must be legal for all draws to be, each with its place below the option."""
    ((word, values),) = as_written(distribution).items()
    yield from (((word, index), value) for index, value in enumerate(values))


def as_written(distribution: Distribution) -> dict[str, list[Any]]:
    """The distribution as a spec has it."""
    (word,) = (word for word, (kind, _) in _KINDS.items() if isinstance(distribution, kind))
    match distribution:
        case Choice(values):
            return {word: list(values)}
        case _:
            return {word: [distribution.low, distribution.high]}


def read_distribution(written: Any) -> Distribution:
    """A distribution from its one word and the limits, or values, after it.

    Raises:
        ValidationError: there is no such word, or the limits are wrong.
    """
    words = f"distributions: {', '.join(_KINDS)}"
    if not isinstance(written, dict) or len(written) != 1:
        message = "a distribution is one word with its limits, such as {log_uniform: [1e-3, 1]}."
        raise refused(message, words)
    ((word, arguments),) = written.items()
    if word not in _KINDS:
        hint = f"{words}{nearest(word, list(_KINDS))}"
        raise refused(f"there is no distribution '{word}'.", hint, (word,))
    try:
        checked = _adapter(word).validate_python(arguments)
    except ValidationError as error:
        raise raised(list(faults_of(error, (word,)))) from None
    return Choice(tuple(checked)) if word == "choice" else _KINDS[word][0](*checked)


@cache
def _adapter(word: str) -> TypeAdapter[Any]:
    return TypeAdapter(_KINDS[word][1], config=ConfigDict(strict=True, allow_inf_nan=False))


AnyDistribution = Annotated[Distribution, PlainValidator(read_distribution)]


Placed = tuple[Where, Any]
"""A value and the place to name if it is wrong."""


@dataclass(frozen=True)
class Column:
    """One key of an axis.

    Args:
        key: what is varied.
        where: the place of the key in the grid.
        size: how many values there are.
        points: makes the values; only when asked for, since a range can be of any length.
        extremes: what must be legal too, for all that could have been drawn to be.
    """

    key: str
    where: Where
    size: int
    points: Callable[[], list[Placed]]
    extremes: tuple[Placed, ...] = ()


Axis = tuple[Column, ...]


def read_axes(written: Any, where: Where, faults: list[InitErrorDetails]) -> list[Axis]:
    """The axes of a block of a grid; what is wrong with their form goes to ``faults``."""
    axes: list[Axis] = []
    if not isinstance(written, dict) or not written:
        message = f"'{where[-1]}' must be a mapping of what is varied to its values."
        faults.append(explained(message, _EXAMPLES, where))
        return axes
    for key, value in written.items():
        read = {"zip": _zipped, "random": _drawn}.get(key, _single)
        with collected(faults, (*where, key)):
            axes.append(read(key, value, (*where, key)))
    return axes


_RANDOM_EXAMPLE = "such as random: {draws: 20, lr: {log_uniform: [1e-3, 1]}}"
_EXAMPLES = "such as lr: [0.1, 1], or lr: {log_range: [1e-3, 1], count: 4}"


def _single(key: Any, written: Any, where: Where) -> Axis:
    return (_column(key, written, where),)


def _column(key: Any, written: Any, where: Where) -> Column:
    if isinstance(written, list) and written:
        points = [((*where, index), value) for index, value in enumerate(written)]
        return Column(str(key), where, len(points), lambda: points)
    if isinstance(written, dict) and "log_range" in written:
        log_range = _LogRange.model_validate(written)
        make = partial(_spaced, where, log_range.log_range, log_range.count, _geometric)
        return Column(str(key), where, log_range.count, make)
    if isinstance(written, dict) and "range" in written:
        evenly = _Range.model_validate(written)
        make = partial(_spaced, where, evenly.range, evenly.count, _arithmetic)
        return Column(str(key), where, evenly.count, make)
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


def _arithmetic(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


def _geometric(low: float, high: float, share: float) -> float:
    return math.exp(math.log(low) * (1 - share) + math.log(high) * share)


def _spaced(
    where: Where,
    ends: tuple[float, float],
    count: int,
    between: Callable[[float, float, float], float],
) -> list[Placed]:
    """Numbers from one end to the other, both included.

    They have 12 digits, so that 1e-3 to 1 in four is 0.001, 0.01, 0.1, 1; and they are whole if
    the ends were written so and all come out so.
    """
    inner = [rounded(between(*ends, step / (count - 1)), 12) for step in range(1, count - 1)]
    whole = all(isinstance(end, int) for end in ends) and all(map(float.is_integer, inner))
    points = [ends[0], *(int(number) if whole else number for number in inner), ends[1]]
    return [(where, number if whole else float(number)) for number in points]


def _zipped(_: str, written: Any, where: Where) -> Axis:
    if not isinstance(written, dict) or not written:
        hint = "such as zip: {lr: [0.1, 1], momentum: [0.9, 0]}"
        raise refused("'zip' pairs the values of several keys up.", hint)
    columns: list[Column] = []
    faults: list[InitErrorDetails] = []
    for key, values in written.items():
        with collected(faults, (key,)):
            columns.append(_column(key, values, (*where, key)))
    if len({column.size for column in columns}) > 1:
        sizes = ", ".join(f"{column.key} has {column.size}" for column in columns)
        faults.append(explained("what 'zip' pairs up must be of one length.", sizes, ()))
    if faults:
        raise raised(faults)
    return tuple(columns)


class _Random(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    draws: PositiveInt
    seed: Annotated[int, Field(ge=0)] = 0
    __pydantic_extra__: dict[str, AnyDistribution]


def _drawn(_: str, written: Any, where: Where) -> Axis:
    read = _Random.model_validate(written)
    if not read.__pydantic_extra__:
        raise refused("'random' has no options to draw.", _RANDOM_EXAMPLE)
    return tuple(
        Column(
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
    """Values from a stream that belongs to the seed and the key alone.

    So neither another axis nor more draws change those that there are, and optimizers with the
    same distribution get the same values.
    """
    random = Random(derive_seed(seed, "grid", key))
    return [(where, distribution.draw(random)) for _ in range(draws)]
