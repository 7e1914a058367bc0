"""How a metric depends on one setting, for charts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from deltagclip_cli.report.line_styles import Looks
from deltagclip_cli.results.compare.comparison import Comparison, Row

LEAST_VALUES = 3  # two make no curve


def sensitivity_charts(comparison: Comparison, looks: Looks) -> list[dict[str, Any]]:
    """For each setting that is a number, the best mean at each of its values.

    The best is that over all other settings, so that each optimizer is shown at what it can do. A
    value at which every setting has a seed that diverged has no point.
    """
    curves: dict[str, dict[str, dict[float, Row]]] = defaultdict(lambda: defaultdict(dict))
    for row in comparison.rows:  # the best first
        for key, word in row.group.settings.items():
            if (value := _number(word)) is not None and row.mean is not None:
                curves[key][row.group.optimizer].setdefault(value, row)
    return [
        {"key": key, "metric": comparison.question.metric, "lines": _lines(by_optimizer, looks)}
        for key, by_optimizer in curves.items()
        if max(map(len, by_optimizer.values())) >= LEAST_VALUES
    ]


def _number(word: str) -> float | None:
    """A number that has a place on an axis."""
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _lines(by_optimizer: Mapping[str, Mapping[float, Row]], looks: Looks) -> list[dict[str, Any]]:
    return [
        {**asdict(looks.optimizers[label]), **_points(rows)}
        for label, rows in by_optimizer.items()
        if len(rows) > 1
    ]


def _points(rows: Mapping[float, Row]) -> dict[str, Sequence[Any]]:
    values = sorted(rows)
    return {
        "x": values,
        "mean": [rows[value].mean for value in values],
        "error": [_error(rows[value]) for value in values],
        "setting": [rows[value].group.name for value in values],
    }


def _error(row: Row) -> float | None:
    return row.summary.standard_error if row.summary else None
