"""Tables as they are shown, whatever they are written as: text, Markdown or LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from deltagclip_cli.results.compare.rows import Standing


@dataclass(frozen=True)
class Cell:
    """One cell.

    Args:
        text: what it says.
        detail: what belongs behind it, or below it where there is little room.
        shade: how good it is, from 0 to 1, for a colour behind it; None for no colour.
        is_best: whether it is to be printed in bold.
    """

    text: str
    detail: str = ""
    shade: float | None = None
    is_best: bool = False

    @property
    def whole(self) -> str:
        """The text and its detail."""
        return f"{self.text} {self.detail}".rstrip()


@dataclass(frozen=True)
class Line:
    """One row of cells, a cell for each column.

    Args:
        cells: the first of them names the row.
        standing: how the row is to be marked, if at all.
    """

    cells: Sequence[Cell]
    standing: Standing | None = None

    @property
    def mark(self) -> str:
        """A sign for its standing; empty if it has none."""
        return _MARKS.get(self.standing, "") if self.standing else ""


_MARKS = {Standing.BEST: "•", Standing.LIKE_BEST: "≈", Standing.UNTOLD: "?"}


@dataclass(frozen=True)
class Sheet:
    """A table.

    Args:
        title: what it is about.
        columns: their titles; the first column is text, the others are numbers.
        lines: its rows.
        notes: sentences that belong below it.
    """

    title: str
    columns: Sequence[str]
    lines: Sequence[Line]
    notes: Sequence[str] = ()


def line(cells: Iterable[str | Cell], standing: Standing | None = None) -> Line:
    """A row of cells, of which some are plain texts."""
    return Line([cell if isinstance(cell, Cell) else Cell(cell) for cell in cells], standing)


def marked(line: Line) -> list[Cell]:
    """The cells of a row, the first behind the mark of its standing."""
    first, *others = line.cells
    return [replace(first, text=f"{line.mark} {first.text}".lstrip()), *others]
