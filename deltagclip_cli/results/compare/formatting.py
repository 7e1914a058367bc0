"""Numbers as they are shown: no more digits than the standard error leaves a meaning."""

from __future__ import annotations

import math
from collections.abc import Callable

from deltagclip_cli.results.statistics.summary import Interval

NOTHING = "–"
_MOST_DECIMALS = 6
_PLAIN = (1e-3, 1e6)  # what is smaller or larger is written with an exponent

Show = Callable[[float], str]


def shown_with(error: float | None, scale: float) -> Show:
    """How to show values of a setting: the standard error has two digits that count.

    Args:
        error: the standard error; None or 0 if nobody knows it.
        scale: a typical value.
    """
    scale = abs(scale) if math.isfinite(scale) else 1.0
    if scale and not _PLAIN[0] <= scale < _PLAIN[1]:
        return lambda value: finite(value, "{:.3e}")
    if not error or not math.isfinite(error):
        return lambda value: finite(value, "{:.4g}")
    decimals = min(max(0, 1 - math.floor(math.log10(error))), _MOST_DECIMALS)
    return lambda value: finite(value, f"{{:.{decimals}f}}")


def with_error(mean: float, error: float | None) -> str:
    """``mean ± error``, in the digits that the error leaves a meaning."""
    show = shown_with(error, mean)
    if error is None:
        return show(mean)
    is_hidden = error and not float(show(error))  # all of its digits were cut off
    return f"{show(mean)} ± {error:.1e}" if is_hidden else f"{show(mean)} ± {show(error)}"


def finite(value: float | None, form: str) -> str:
    """A number in some form; a dash for none."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return form.format(value)


def short(value: float | None) -> str:
    """A number in four digits that count."""
    return finite(value, "{:.4g}")


def amount(value: float | None) -> str:
    """How many epochs, steps or seconds: in four digits, or all that are before the point."""
    is_large = value is not None and 1e3 <= value < 1e9
    return finite(value, "{:.0f}" if is_large else "{:.4g}")


def p_value(p: float | None) -> str:
    """A p-value; a very small one by its order."""
    return finite(p, "{:.4f}" if p is None or p >= 1e-3 else "{:.1e}")


def share(part: float | None) -> str:
    """A share in percent."""
    return finite(part, "{:.1%}")


def interval(bounds: Interval | None, show: Show) -> str:
    """``[low, high]``; nothing for none."""
    return f"[{show(bounds.low)}, {show(bounds.high)}]" if bounds else ""
