"""Tables on a terminal: what does not fit beside the names continues below, under them again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import rich.table
from rich import box
from rich.cells import cell_len
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from deltagclip_cli.results.compare.comparison import Standing
from deltagclip_cli.results.compare.tables import Cell, Table

_STYLES = {Standing.BEST: "bold green", Standing.LIKE_BEST: "green"}
_DARK, _BRIGHT = (68, 1, 84), (253, 231, 37)  # the ends of viridis
_GAP = 2
_LEAST_NAME = 20


def print_tables(console: Console, tables: Iterable[Table]) -> None:
    """Print tables with their titles and notes."""
    for table in tables:
        console.print(Text(table.title, style="bold"))
        layout = _Layout(table, console.width)
        for number, columns in enumerate(layout.chunks()):
            if number:
                console.print()
            console.print(layout.part(columns))
        for note in table.notes:
            console.print(Text(note, style="dim"))
        console.print()


class _Layout:
    """A table that is laid out in a width.

    Everything stands on one line if there is room. Else details go below their numbers, names are
    folded, and the columns that still do not fit make a table of their own.
    """

    def __init__(self, table: Table, width: int) -> None:
        self._table = table
        self._has_marks = any(name.mark for name, *_ in table.rows)
        self._width = width - (1 + _GAP if self._has_marks else 0)
        widths = _widths(table, " ")
        total = sum(widths) + _GAP * (len(widths) - 1)
        self._between = " " if total <= self._width else "\n"
        self._name, *self._numbers = _widths(table, self._between)

    def chunks(self) -> Iterator[list[int]]:
        """Yield the columns of each table but the first, which names its rows."""
        room = self._width - min(self._name, max(_LEAST_NAME, self._width // 4))
        chunk: list[int] = []
        used = 0
        for column, width in enumerate(self._numbers, start=1):
            if chunk and used + _GAP + width > room:
                yield chunk
                chunk, used = [], 0
            chunk.append(column)
            used += _GAP + width
        yield chunk

    def part(self, columns: Sequence[int]) -> rich.table.Table:
        """Return some columns, beside the names."""
        part = rich.table.Table(
            box=box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            padding=(0, _GAP - 1, 0, 0),  # the box adds one
            header_style="bold",
        )
        if self._has_marks:
            part.add_column("", width=1)
        room = self._width - sum(self._numbers[column - 1] + _GAP for column in columns)
        part.add_column(Text(self._table.headings[0]), max_width=max(room, 1), overflow="fold")
        for column in columns:
            part.add_column(Text(self._table.headings[column]), justify="right")
        for row in self._table.rows:
            cells = [Text(row[0].mark)] if self._has_marks else []
            for cell in (row[0], *(row[column] for column in columns)):
                cells.append(Text(_text(cell, self._between), style=_shade(cell)))
            style = _STYLES.get(row[0].standing) if row[0].standing else None
            part.add_row(*cells, style=style)
        return part


def _widths(table: Table, between: str) -> list[int]:
    """Return that of each column, with something between texts and their details."""
    rows = [list(map(Cell, table.headings)), *table.rows]
    return [
        max(cell_len(part) for cell in column for part in _text(cell, between).split("\n"))
        for column in zip(*rows, strict=True)
    ]


def _text(cell: Cell, between: str) -> str:
    return f"{cell.text}{between}{cell.detail}" if cell.detail else cell.text


def _shade(cell: Cell) -> Style:
    """Return a colour between dark and bright, with letters that can be read on it."""
    if cell.shade is None:
        return Style()
    red, green, blue = (
        round(dark + cell.shade * (bright - dark))
        for dark, bright in zip(_DARK, _BRIGHT, strict=True)
    )
    letters = "black" if cell.shade > 0.5 else "white"
    return Style(color=letters, bgcolor=Color.from_rgb(red, green, blue))
