"""The console that commands print to, and log messages as lines on it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import rich.console
from rich.console import ConsoleDimensions, ConsoleOptions, RenderableType
from rich.progress import track
from rich.segment import Segment
from rich.text import Text

from deltagclip_cli.core import printable
from deltagclip_cli.terminal.streams import LEAST_COLUMNS
from deltagclip_cli.training.process import EPOCHS, SOURCES, shown_by

if TYPE_CHECKING:
    from deltagclip_cli.results.read.run import Watch

COLUMNS_OF_FILES = 160
_MOST_PROBLEMS = 20


class Console(rich.console.Console):
    """A console that obeys no text: of titles, labels, errors and words of other programs alike.

    To be made with ``markup=False`` and ``emoji=False``, for rich's own signs.
    """

    @property
    def size(self) -> ConsoleDimensions:
        """The size of the terminal, or what a table needs at least."""
        there = super().size
        return ConsoleDimensions(max(there.width, LEAST_COLUMNS), there.height)

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        self._width, self._height = new_size

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render something, with what a terminal would obey written out."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            if control or text.isprintable() or text == "\n":
                yield segment
            else:
                lines = "\n".join(map(printable, text.split("\n")))
                yield Segment(lines, style)


def make_console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal; in a file or a pipe, wide enough for every table."""
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = COLUMNS_OF_FILES
    return console


def waiting(
    console: rich.console.Console, words: str, *, quiet: bool = False
) -> AbstractContextManager[Any]:
    """Show on a terminal what something slow is at, while the context lasts."""
    if quiet or not console.is_terminal:
        return nullcontext()
    return console.status(words)


def shown_reading(*, quiet: bool) -> Watch:
    """Return what shows on a terminal how far the reading of runs is."""
    console = make_console(stderr=True)

    def watch(runs: Sequence[Any]) -> Iterable[Any]:
        disable = quiet or not console.is_terminal or not runs
        return track(runs, "reading", console=console, transient=True, disable=disable)

    return watch


def print_problems(problems: Sequence[str], *, all_in: str = "--json") -> None:
    """Print what is in doubt to stderr, of very many the first; ``all_in`` has all of them."""
    console = make_console(stderr=True)
    for problem in problems[:_MOST_PROBLEMS]:
        console.print(problem, style="yellow", soft_wrap=True)
    if len(problems) > _MOST_PROBLEMS:
        more = len(problems) - _MOST_PROBLEMS
        console.print(f"and {more} more of these; {all_in} has all", style="yellow")


class _ConsoleHandler(logging.Handler):
    def __init__(self, console: rich.console.Console, level: int) -> None:
        super().__init__(level)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        style = "yellow" if record.levelno >= logging.WARNING else ""
        self._console.print(Text(record.getMessage(), style=style), soft_wrap=True)


@contextmanager
def shown_messages(console: rich.console.Console, *, quiet: bool = False) -> Iterator[None]:
    """Print what the package and Python's ``warnings`` have to say while the context lasts.

    On a terminal the progress display tells of the epochs; elsewhere some are a line. Within
    another such context, which shows them already, this does nothing.
    """
    handlers = logging.getLogger(SOURCES[0]).handlers
    if any(isinstance(each, _ConsoleHandler) for each in handlers):
        yield
        return
    handler = _ConsoleHandler(console, logging.WARNING if quiet else logging.INFO)
    told = not console.is_terminal
    handler.addFilter(lambda each: each.name != EPOCHS or (told and each.__dict__["is_told"]))
    with shown_by(handler):
        yield
