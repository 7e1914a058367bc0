"""What random values are drawn from: ``{log_uniform: [1e-3, 1]}``, in grids and in searches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PlainValidator,
    Strict,
    TypeAdapter,
    ValidationError,
)

from deltagclip_cli.spec.document import Where
from deltagclip_cli.spec.faults import explained, faults_of, nearest, raised

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
        raise raised([explained(message, "", ())])
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
        raise raised([explained(message, words, (), written)])
    ((word, arguments),) = written.items()
    if word not in _KINDS:
        hint = f"{words}{nearest(word, list(_KINDS))}"
        raise raised([explained(f"there is no distribution '{word}'.", hint, (word,))])
    try:
        checked = _adapter(word).validate_python(arguments)
    except ValidationError as error:
        raise raised(list(faults_of(error, (word,)))) from None
    return Choice(tuple(checked)) if word == "choice" else _KINDS[word][0](*checked)


@cache
def _adapter(word: str) -> TypeAdapter[Any]:
    return TypeAdapter(_KINDS[word][1], config=ConfigDict(strict=True, allow_inf_nan=False))


AnyDistribution = Annotated[Distribution, PlainValidator(read_distribution)]
