"""A space of the spec in Optuna's words, and Optuna's choices in those of the spec."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from deltagclip_cli.spec.axes import (
    Choice,
    Distribution,
    Integer,
    LogInteger,
    LogUniform,
    Uniform,
    rounded,
)

DIGITS = 6


def as_optuna(space: Mapping[str, Distribution]) -> dict[str, BaseDistribution]:
    """The distributions that Optuna draws from."""
    return {option: _distribution(each) for option, each in space.items()}


def _distribution(distribution: Distribution) -> BaseDistribution:
    match distribution:
        case Uniform(low, high):
            return FloatDistribution(low, high)
        case LogUniform(low, high):
            return FloatDistribution(low, high, log=True)
        case Integer(low, high):
            return IntDistribution(low, high)
        case LogInteger(low, high):
            return IntDistribution(low, high, log=True)
        case Choice(values):
            return CategoricalDistribution(list(_by_name(values)))


def chosen(space: Mapping[str, Distribution], params: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a choice of Optuna's stands for; real numbers with few digits."""
    return {option: _value(each, params[option]) for option, each in space.items()}


def _value(distribution: Distribution, drawn: Any) -> Any:
    match distribution:
        case Uniform(low, high) | LogUniform(low, high):
            return min(max(rounded(drawn, DIGITS), low), high)
        case Choice(values):
            return _by_name(values)[drawn]
    return drawn


def _by_name(values: tuple[Any, ...]) -> dict[str, Any]:
    """Values by words of which no two are equal, as 1, 1.0 and true would be."""
    return {json.dumps(value, default=str): value for value in values}
