"""A curve in one line of text."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import pytest
from rich.console import Console

from deltagclip_cli.terminal.sparkline import Sparkline


def drawn(values: Sequence[float | None], width: int = 8, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    Console(file=file, width=80).print(Sparkline(values, width))
    file.seek(0)
    return file.read().strip()


def test_values_rise_from_the_lowest_to_the_highest() -> None:
    assert drawn([-4, -3, -2, -1, 0, 1, 2, 3]) == "▁▂▃▄▅▆▇█"


def test_what_is_above_zero_has_a_logarithmic_scale() -> None:
    assert drawn([128, 64, 32, 16, 8, 4, 2, 1]) == "█▇▆▅▄▃▂▁"


def test_of_many_values_each_column_shows_the_mean_of_some() -> None:
    assert drawn([-1, 1, 5, 7, 0, 0, 14, 14], width=4) == "▁▄▁█"


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_what_is_not_finite_is_a_cross(value: float | None) -> None:
    assert drawn([2, 1, value]) == "█▁×"
    assert drawn([2, 1, value], encoding="ascii") == "'_x"


def test_a_terminal_without_unicode_gets_ascii() -> None:
    assert drawn([-1, 0, 1, 2], encoding="ascii") == "_.-'"


@pytest.mark.parametrize("values", [[3.0, 3.0], [0.0, 0.0]])
def test_values_that_do_not_differ_make_a_flat_line(values: list[float]) -> None:
    assert drawn(values) == "▁▁"
