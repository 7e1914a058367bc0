"""The console that commands print to."""

from __future__ import annotations

from rich.console import Console

COLUMNS_OF_FILES = 160


def make_console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal; in a file or a pipe, wide enough for every table.

    Args:
        stderr: print there, since stdout is for programs.
    """
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = COLUMNS_OF_FILES
    return console
