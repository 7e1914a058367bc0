"""Tables on a terminal: what does not fit beside the names continues below, under them again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import rich.table
from rich import box
from rich.cells import cell_len
from rich.color import Color, blend_rgb
from rich.color_triplet import ColorTriplet
from rich.console import Console
from rich.style import Style
from rich.text import Text

from deltagclip_cli.results.compare.comparison import Standing
from deltagclip_cli.results.compare.tables import Cell, Table

_STYLES = {Standing.BEST: "bold green", Standing.LIKE_BEST: "green"}
_DARK, _BRIGHT = ColorTriplet(68, 1, 84), ColorTriplet(253, 231, 37)  # the ends of viridis
_GAP = 2
_LEAST_NAME = 20


def print_tables(console: Console, tables: Iterable[Table]) -> None:
    """Print tables with their titles and notes."""
    for table in tables:
        console.print(Text(table.title, style="bold"))
        for number, part in enumerate(_parts(table, console.width)):
            if number:
                console.print()
            console.print(part)
        for note in table.notes:
            console.print(Text(note, style="dim"))
        console.print()


def _parts(table: Table, width: int) -> Iterator[rich.table.Table]:
    """Yield the tables that one is laid out in.

    Everything stands on one line if there is room. Else details go below their numbers, names are
    folded, and the columns that still do not fit make a table of their own.
    """
    has_marks = any(name.mark for name, *_ in table.rows)
    width -= 1 + _GAP if has_marks else 0
    widths = _widths(table, " ")
    between = " " if sum(widths) + _GAP * (len(widths) - 1) <= width else "\n"
    name, *numbers = _widths(table, between)
    for_names = min(name, max(_LEAST_NAME, width // 4))
    room = width - for_names
    chunks: list[list[int]] = [[]]  # the columns of each table but the first, which names its rows
    used = 0
    for column, needed in enumerate(numbers, start=1):
        if chunks[-1] and used + _GAP + needed > room:
            chunks.append([])
            used = 0
        chunks[-1].append(column)
        used += _GAP + needed
    for columns in chunks:
        left = width - sum(numbers[column - 1] + _GAP for column in columns)
        yield _part(table, [0, *columns], between, max(left, for_names), has_marks=has_marks)


def _part(
    table: Table, columns: Sequence[int], between: str, for_name: int, *, has_marks: bool
) -> rich.table.Table:
    part = rich.table.Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, _GAP - 1, 0, 0),  # the box adds one
        header_style="bold",
    )
    if has_marks:
        part.add_column("", width=1)
    part.add_column(Text(table.headings[0]), max_width=for_name, overflow="fold")
    for column in columns[1:]:
        part.add_column(Text(table.headings[column]), justify="right")
    for row in table.rows:
        cells = [Text(row[0].mark)] if has_marks else []
        cells += [Text(_text(row[at], between), style=_shade(row[at])) for at in columns]
        part.add_row(*cells, style=_STYLES.get(row[0].standing) if row[0].standing else None)
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
    letters = "black" if cell.shade > 0.5 else "white"
    shade = blend_rgb(_DARK, _BRIGHT, cell.shade)
    return Style(color=letters, bgcolor=Color.from_triplet(shade))
