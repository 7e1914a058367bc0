"""Distributions: their words, their limits, and what is drawn from them."""

from __future__ import annotations

import statistics
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from deltagclip_cli.spec.axes import (
    Choice,
    Distribution,
    Uniform,
    extremes,
    read_distribution,
)

WORDS = [
    ({"uniform": [0, 1]}, Uniform(0.0, 1.0)),
    ({"log_uniform": [1e-3, 1]}, Uniform(0.001, 1.0, log=True)),
    ({"integer": [-2, 3]}, Uniform(-2, 3)),
    ({"log_integer": [1, 100]}, Uniform(1, 100, log=True)),
    ({"choice": [True, "a", None, [1]]}, Choice((True, "a", None, [1]))),
]


@pytest.mark.parametrize(("written", "distribution"), WORDS)
def test_each_word_is_a_distribution(written: Any, distribution: Distribution) -> None:
    read = read_distribution(written)
    assert read == distribution
    assert repr(read) == repr(distribution)


@pytest.mark.parametrize(("written", "distribution"), WORDS)
def test_the_extremes_are_the_ends_or_the_choices_where_they_were_written(
    written: Any, distribution: Distribution
) -> None:
    ((word, values),) = written.items()
    assert list(extremes(distribution)) == [((word, i), value) for i, value in enumerate(values)]


def draws(distribution: Distribution, number: int = 4000) -> list[Any]:
    random = Random(1)
    return [distribution.draw(random) for _ in range(number)]


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, 2.0), (100.0, 400.0)])
def test_uniform_draws_lie_evenly_between_the_ends(low: float, high: float) -> None:
    drawn = draws(Uniform(low, high))
    assert all(low <= value <= high for value in drawn)
    tolerance = 0.02 * (high - low)
    assert statistics.fmean(drawn) == pytest.approx((low + high) / 2, abs=tolerance)


@pytest.mark.parametrize("log", [False, True])
def test_a_draw_that_is_rounded_stays_between_the_ends(log: bool) -> None:
    assert set(draws(Uniform(0.12345678, 0.12345679, log), 50)) <= {0.12345678, 0.12345679}


def test_half_of_log_uniform_draws_lie_below_the_geometric_mean() -> None:
    drawn = draws(Uniform(1e-4, 1.0, log=True))
    assert all(1e-4 <= value <= 1 for value in drawn)
    assert statistics.fmean(value < 1e-2 for value in drawn) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("distribution", [Uniform(0.1, 0.7), Uniform(1e-7, 1e3, log=True)])
def test_real_draws_are_their_own_short_form(distribution: Distribution) -> None:
    assert all(float(f"{value:.6g}") == value for value in draws(distribution))


def test_integers_are_equally_likely_and_both_ends_are_drawn() -> None:
    drawn = draws(Uniform(-1, 2))
    for value in (-1, 0, 1, 2):
        assert drawn.count(value) / len(drawn) == pytest.approx(0.25, abs=0.03)


def test_log_integers_are_drawn_up_to_both_ends_and_the_small_ones_more_often() -> None:
    drawn = draws(Uniform(1, 8, log=True))
    counts = [drawn.count(value) for value in range(1, 9)]
    assert sum(counts) == len(drawn)
    assert counts[0] > counts[1] > counts[3] > counts[7] > 50
    assert all(type(value) is int for value in drawn)


def test_each_choice_is_drawn() -> None:
    assert set(draws(Choice((True, "a", None)), 100)) == {True, "a", None}


@pytest.mark.parametrize(
    ("written", "place", "words"),
    [
        (3, (), "one word"),
        (None, (), "one word"),
        ([0, 1], (), "one word"),
        ({}, (), "one word"),
        ({"uniform": [0, 1], "choice": [1]}, (), "one word"),
        ({"log-uniform": [0, 1]}, ("log-uniform",), "no distribution 'log-uniform'"),
        ({3: [0, 1]}, (3,), "no distribution '3'"),
        ({"uniform": [1, 0]}, ("uniform",), "below its high end (got 1.0 and 0.0)"),
        ({"uniform": [1, 1]}, ("uniform",), "below its high end"),
        ({"integer": [1, 1]}, ("integer",), "below its high end"),
        ({"uniform": ["0", 1]}, ("uniform", 0), "valid number"),
        ({"uniform": [True, 2]}, ("uniform", 0), "valid number"),
        ({"uniform": [0, float("inf")]}, ("uniform", 1), "finite"),
        ({"uniform": 3}, ("uniform",), "tuple"),
        ({"uniform": [0]}, ("uniform", 1), "required"),
        ({"uniform": [0, 1, 2]}, ("uniform",), "at most 2"),
        ({"log_uniform": [0, 1]}, ("log_uniform", 0), "greater than 0"),
        ({"log_integer": [0, 1]}, ("log_integer", 0), "greater than 0"),
        ({"integer": [1.0, 2]}, ("integer", 0), "valid integer"),
        ({"choice": []}, ("choice",), "at least 1"),
        ({"choice": "ab"}, ("choice",), "list"),
    ],
)
def test_what_is_no_distribution_is_found_where_it_is(
    written: Any, place: tuple[Any, ...], words: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        read_distribution(written)
    (fault,) = caught.value.errors()
    assert fault["loc"] == place
    assert words in fault["msg"]


def test_an_unknown_distribution_gets_the_nearest() -> None:
    with pytest.raises(ValidationError) as caught:
        read_distribution({"log-uniform": [0, 1]})
    assert caught.value.errors()[0]["ctx"]["hint"] == (
        "distributions: uniform, log_uniform, integer, log_integer, choice"
        " - did you mean 'log_uniform'?"
    )
