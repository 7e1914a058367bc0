"""Tables of names."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_listing(rows: Sequence[dict[str, str]], console: Console | None = None) -> None:
    """Print rows with the same keys as a table; to a file or pipe, one tab-separated line each."""
    console = console or Console()
    if not console.is_terminal:
        for row in rows:
            print("\t".join(row.values()), file=console.file)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, key in enumerate(rows[0] if rows else ()):
        table.add_column(key, no_wrap=number == 0, style="bold" if number == 0 else "")
    for row in rows:
        table.add_row(*(Text(value) for value in row.values()))
    console.print(table)
