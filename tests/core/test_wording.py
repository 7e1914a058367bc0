"""Words and numbers as people read them."""

from __future__ import annotations

import math

import pytest

from deltagclip_cli.core import duration, memory, standard_error, stopped, with_error


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (10.0, "10 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (61, "1 min 01 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (7 * 3600 + 300, "7 h 05 min"),
        (24 * 3600, "1 d 0 h"),
        (1e6, "11 d 13 h"),
    ],
)
def test_a_time_is_shown_in_its_two_largest_units(value: float, shown: str) -> None:
    assert duration(value) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (39_600, "39.6 kB"),
        (999_600, "1 MB"),
        (184_320_000, "184 MB"),
        (38_500_000_000, "38.5 GB"),
        (2e15, "2e+03 TB"),
    ],
)
def test_memory_is_shown_in_its_largest_unit(size: int, shown: str) -> None:
    assert memory(size) == shown


@pytest.mark.parametrize(
    ("mean", "error", "shown"),
    [
        (0.97838, None, "0.9784"),
        (0.706, 0.0019, "0.7060 ± 0.0019"),
        (0.45721, 0.00172, "0.4572 ± 0.0017"),
        (math.nan, None, "–"),
    ],
)
def test_a_mean_is_shown_with_its_standard_error_if_there_is_one(
    mean: float, error: float | None, shown: str
) -> None:
    assert with_error(mean, error) == shown


def test_a_standard_error_needs_two_values_and_no_small_numbers() -> None:
    assert standard_error([0.1]) is None
    assert standard_error([0.0, 2.0]) == pytest.approx(1.0)
    assert standard_error([0.0, 2.0], ddof=0) == pytest.approx(math.sqrt(0.5))
    assert standard_error([0.0, 2e200]) == pytest.approx(1e200)


@pytest.mark.parametrize(
    "words", ["it is wrong", "it is wrong.", "it is wrong...", "it is wrong.\n"]
)
def test_words_of_others_end_with_one_full_stop(words: str) -> None:
    assert stopped(ValueError(words)) == "it is wrong."
