"""Words and numbers as people read them, short and without digits that mean nothing.

Every metric is shown by :func:`short`, and a mean by :func:`with_error`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

NOTHING = "–"
"""Stands for a number that is not there."""

_MOST_DECIMALS = 6
_MOST_NAMES = 4
_PLAIN = (1e-3, 1e6)  # what is smaller or larger is written with an exponent


def plural(count: int, noun: str) -> str:
    """Return ``1 task``, ``2 tasks``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def printable(text: str) -> str:
    """Return a text in which what a terminal would obey is written out, such as ``\\x1b``."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shortened(text: str, most: int = 80) -> str:
    """Return a text for a message: on one line, not much longer than ``most`` characters."""
    return printable(text if len(text) <= most else f"{text[: most - 1]}…")


def listed(names: Sequence[str]) -> str:
    """Return words as a list in a sentence, of many only the first ones."""
    if len(names) > _MOST_NAMES:
        names = [*names[: _MOST_NAMES - 1], f"{len(names) - _MOST_NAMES + 1} others"]
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def ranges(numbers: Sequence[int]) -> str:
    """Return whole numbers in order, with runs of them drawn together: ``0-4, 7``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = (f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
    return ", ".join(words)


def stopped(words: object) -> str:
    """Return words of others, such as an error's, as the end of a sentence: with one full stop."""
    return f"{str(words).rstrip().rstrip('.')}."


def by_size(word: str) -> tuple[float, str]:
    """Return a key that sorts numbers by their size, before words by their letters."""
    number = as_number(word)
    return math.inf if number is None else number, word


def standard_error(values: Sequence[float], ddof: int = 1) -> float | None:
    """Return the standard error of the mean of finite values, s/√n; None for fewer than two.

    s has n - ``ddof`` degrees of freedom: 1 estimates the spread of all seeds that there could be,
    0 is what the paper gives.
    """
    n = len(values)
    if n < 2:
        return None
    try:
        spread = statistics.stdev(values)
    except OverflowError:  # of values such as ±1.7e308
        return math.inf
    return spread * math.sqrt((n - 1) / (n - ddof) / n)


def shown_with(error: float | None, scale: float) -> Callable[[float], str]:
    """Return what writes values of about ``scale`` so that the error, if known, has two digits."""
    scale = abs(scale) if math.isfinite(scale) else 1.0
    if scale and not _PLAIN[0] <= scale < _PLAIN[1]:
        return lambda value: finite(value, "{:.3e}")
    if not error or not math.isfinite(error):
        return short
    decimals = min(max(0, 1 - math.floor(math.log10(error))), _MOST_DECIMALS)
    return lambda value: finite(value, f"{{:.{decimals}f}}")


def with_error(mean: float, error: float | None) -> str:
    """Return ``mean ± error``, in the digits that the error leaves a meaning."""
    show = shown_with(error, mean)
    if error is None:
        return show(mean)
    is_hidden = error and not float(show(error))  # all of its digits were cut off
    return f"{show(mean)} ± {error:.1e}" if is_hidden else f"{show(mean)} ± {show(error)}"


def as_number(word: str) -> float | None:
    """Return the number that a word is; None if it is none."""
    try:
        return float(word)
    except ValueError:
        return None


def finite(value: float | None, form: str) -> str:
    """Return a number in some form; a dash for none."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return form.format(value)


def short(value: float | None) -> str:
    """Return a number in four digits that count."""
    return finite(value, "{:.4g}")


def memory(size_bytes: int) -> str:
    """Return an amount of memory in the largest decimal unit of which there is one."""
    value, unit = float(size_bytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"


def duration(seconds: float) -> str:
    """Return a time span in its two largest units, of which the smallest is a second.

    NaN, which stands for one that nobody knows, becomes a dash.
    """
    if math.isnan(seconds):
        return NOTHING
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
