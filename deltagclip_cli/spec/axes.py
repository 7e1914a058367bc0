"""What a grid is made of: keys that are varied together, and the values that they go through.

Only the form is checked here; whether a key exists and a value is legal is for
:mod:`~deltagclip_cli.spec.grid` to say, which knows the experiment.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    Strict,
    WrapValidator,
)
from pydantic_core import InitErrorDetails

from deltagclip_cli.core import derive_seed
from deltagclip_cli.spec.component import Settings
from deltagclip_cli.spec.distributions import (
    WORDS,
    AnyDistribution,
    Distribution,
    ascending,
    extremes,
    rounded,
)
from deltagclip_cli.spec.document import Where
from deltagclip_cli.spec.faults import collected, explained, raised

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
    raise raised([explained(message, _RANDOM_EXAMPLE if random else _EXAMPLES, (), written)])


def _keep_whole(value: Any, check: Callable[[Any], float]) -> float:
    checked = check(value)
    return value if isinstance(value, int) else checked


_Real = Annotated[float, WrapValidator(_keep_whole)]
_Positive = Annotated[float, Field(gt=0), WrapValidator(_keep_whole)]
_Several = Annotated[int, Field(ge=2)]
_PAIR = (Strict(False), AfterValidator(ascending))


class _Range(Settings):
    count: _Several
    range: Annotated[tuple[_Real, _Real], *_PAIR]


class _LogRange(Settings):
    count: _Several
    log_range: Annotated[tuple[_Positive, _Positive], *_PAIR]


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
        raise raised([explained("'zip' pairs the values of several keys up.", hint, ())])
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
        raise raised([explained("'random' has no options to draw.", _RANDOM_EXAMPLE, ())])
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
