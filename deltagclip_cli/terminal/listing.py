"""Tables of names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deltagclip_cli.core import printable
from deltagclip_cli.terminal.console import make_console


def print_listing(
    rows: Sequence[Mapping[str, str | list[str]]], console: Console | None = None
) -> None:
    """Print rows with the same keys, each a name, what it is, and more, which goes on below that.

    To a file or pipe, a row is one line, separated by tabs.
    """
    console = console or make_console()
    if not console.is_terminal:
        for row in rows:
            print("\t".join(map(_text, row.values())), file=console.file)
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for row in rows:
        (_, name), (_, about), *others = row.items()
        more = "".join(f"\n{key}: {_text(value)}" for key, value in others if value)
        table.add_row(Text(_text(name)), Text(_text(about)).append(more, style="dim"))
    console.print(table)


def _text(value: str | list[str]) -> str:
    return printable(value if isinstance(value, str) else ", ".join(value))
