"""A curve in one line of text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.segment import Segment

_HEIGHTS = "▁▂▃▄▅▆▇█"
_ASCII_HEIGHTS = "_.-'"  # of rising height within a line
_NOT_FINITE, _ASCII_NOT_FINITE = "×", "x"


@dataclass(frozen=True)
class Sparkline:
    """Values in their order, lowest to highest finite one over the height of a line of text.

    The scale is logarithmic where all are above zero, as losses fall by factors.
    Of more values than there are columns, each column shows the mean of its share of them; where
    one of those is not finite, it shows a cross. In a terminal without Unicode, ASCII has to do.
    """

    values: Sequence[float | None]  # None counts as not finite
    width: int  # in columns, at most

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it, for rich."""
        columns = list(_columns(self.values, min(self.width, options.max_width)))
        heights, cross = (
            (_ASCII_HEIGHTS, _ASCII_NOT_FINITE) if options.ascii_only else (_HEIGHTS, _NOT_FINITE)
        )
        finite = [value for value in columns if math.isfinite(value)]
        if min(finite, default=0.0) > 0:
            columns = [math.log(value) if math.isfinite(value) else value for value in columns]
            finite = [value for value in columns if math.isfinite(value)]
        low, high = min(finite, default=0.0), max(finite, default=0.0)
        steps = (len(heights) - 1) / ((high - low) or math.inf)
        drawn = (
            heights[round((value - low) * steps)] if math.isfinite(value) else cross
            for value in columns
        )
        yield Segment("".join(drawn))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Tell rich how much room it needs."""
        width = min(self.width, len(self.values), options.max_width)
        return Measurement(width, width)


def _columns(values: Sequence[float | None], width: int) -> Iterator[float]:
    """The values to draw, at most ``width``."""
    count = min(len(values), width)
    for begin, end in pairwise(round(n * len(values) / max(count, 1)) for n in range(count + 1)):
        yield sum(math.nan if value is None else value for value in values[begin:end]) / (
            end - begin
        )
