"""Bands around lines of charts that are not over the training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deltagclip_cli.report.appearance import LineStyle
from deltagclip_cli.report.charts.lines import Json

_PALE = 0.2


def band_traces(
    style: LineStyle, x: Sequence[float], low: Sequence[float], high: Sequence[float]
) -> list[Json]:
    """Return the two traces of plotly's that fill a band in the colour of a line."""
    red, green, blue = (int(style.colour[at : at + 2], 16) for at in (1, 3, 5))
    edge: dict[str, Any] = {
        "x": list(x),
        "mode": "lines",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    fill = {"fill": "tonexty", "fillcolor": f"rgba({red}, {green}, {blue}, {_PALE})"}
    return [{**edge, "y": list(low)}, {**edge, **fill, "y": list(high)}]
