"""Numbers as people read them."""

from __future__ import annotations

from deltagclip_cli.plan.summaries import Mean


def metric(name: str, value: float | None) -> str:
    """A metric: accuracies in percent; a dash for what is not there."""
    if value is None:
        return "–"
    return f"{value:.2%}" if name.endswith("accuracy") else f"{value:.4g}"


def mean(name: str, value: Mean) -> str:
    """A mean with its standard error, if there is one."""
    if not value.n:
        return "–"
    error = value.standard_error
    if name.endswith("accuracy"):
        return f"{value.value:.2%}" + ("" if error is None else f" ± {error:.2%}")
    return f"{value.value:.4g}" + ("" if error is None else f" ± {error:.2g}")


def memory(size_bytes: int) -> str:
    """An amount of memory in the largest decimal unit of which there is one."""
    value, unit = float(size_bytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"


def seconds(value: float) -> str:
    """A time span in its two largest units, of which the smallest is a second."""
    if value < 10:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
