"""Tables of names."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deltagclip_cli.console.terminal import make_console
from deltagclip_cli.wording import printable


def print_listing(rows: Sequence[dict[str, str]], console: Console | None = None) -> None:
    """Print rows with the same keys, each a name, what it is, and more, which goes on below that.

    To a file or pipe, a row is one line, separated by tabs.
    """
    console = console or make_console()
    if not console.is_terminal:
        for row in rows:
            print("\t".join(map(printable, row.values())), file=console.file)
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for row in rows:
        (_, name), (_, about), *others = row.items()
        more = "".join(f"\n{key}: {value}" for key, value in others if value)
        table.add_row(Text(name), Text(about).append(more, style="dim"))
    console.print(table)
