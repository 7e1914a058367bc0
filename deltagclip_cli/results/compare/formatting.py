"""Numbers of comparisons: p-values, shares, costs and intervals."""

from __future__ import annotations

from collections.abc import Callable

from deltagclip_cli.core import finite
from deltagclip_cli.results.statistics.summary import Interval


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


def interval(bounds: Interval | None, show: Callable[[float], str]) -> str:
    """``[low, high]``; nothing for none."""
    return f"[{show(bounds.low)}, {show(bounds.high)}]" if bounds else ""
