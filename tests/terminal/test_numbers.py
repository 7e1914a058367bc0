"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from deltagclip_cli.plan.summaries import Mean
from deltagclip_cli.terminal.numbers import mean, memory, metric, seconds


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
    assert seconds(value) == shown


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


def test_accuracies_are_percentages_and_what_is_not_there_is_a_dash() -> None:
    assert metric("test/accuracy", 0.97838) == "97.84%"
    assert metric("test/loss", 0.123456) == "0.1235"
    assert metric("test/loss", None) == "–"


def test_a_mean_is_shown_with_its_standard_error_if_there_is_one() -> None:
    assert mean("test/accuracy", Mean(3, 0.706, 0.0019)) == "70.60% ± 0.19%"
    assert mean("test/loss", Mean(3, 0.45721, 0.00172)) == "0.4572 ± 0.0017"
    assert mean("test/loss", Mean(1, 0.45721, None)) == "0.4572"
    assert mean("test/loss", Mean(0, math.nan, None)) == "–"
