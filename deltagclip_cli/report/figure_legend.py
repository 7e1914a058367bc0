"""A legend below the panels that never covers them: the figure grows by its height."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deltagclip_cli.report.figure_settings import colour, marker
from deltagclip_cli.report.figure_text import LITERAL, letters, wrapped
from deltagclip_cli.report.line_styles import Look

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

GREY = "0.35"  # of what is said of all settings
_MOST_COLUMNS = 6
_MOST_LINES = 4  # of a note


@dataclass(frozen=True, eq=False)
class Entry:
    """What a legend says, and of what."""

    handle: Artist
    label: str


def entry(look: Look, label: str) -> Entry:
    """The entry of a setting, or of an optimizer."""
    from matplotlib.lines import Line2D

    return Entry(Line2D([], [], color=colour(look), **marker(look)), label)


def line_entry(label: str, linestyle: Any, marker: str = "") -> Entry:
    """What a kind of line means, whatever its colour."""
    from matplotlib.lines import Line2D

    return Entry(Line2D([], [], color=GREY, linestyle=linestyle, marker=marker), label)


def add_legend(figure: Figure, entries: Sequence[Entry], note: str = "") -> None:
    """Put a legend and a note below everything, in as many columns as there is room for."""
    width, height = figure.get_size_inches()
    title = wrapped(note, letters(0.9), _MOST_LINES)
    for columns in _balanced(len(entries)):
        legend = _legend(figure, entries, title, columns)
        extent = legend.get_window_extent()
        if extent.width <= 0.98 * width * figure.dpi:
            break
        if columns > 1:
            legend.remove()
    figure.set_size_inches(width, height + extent.height / figure.dpi)


def _balanced(count: int) -> list[int]:
    """Numbers of columns that leave the last one hardly shorter than the others, most first."""
    most = min(_MOST_COLUMNS, count)
    return sorted({-(-count // -(-count // columns)) for columns in range(1, most + 1)})[::-1]


def _legend(figure: Figure, entries: Sequence[Entry], title: str, columns: int) -> Legend:
    legend = figure.legend(
        [each.handle for each in entries],
        [str(number) for number in range(len(entries))],  # the labels might begin with _
        loc="outside lower center",
        ncols=columns,
        title=title or None,
    )
    for text, each in zip(legend.get_texts(), entries, strict=True):
        text.set(text=each.label, **LITERAL)
    return legend
