"""Messages of the package, of Python's warnings, and of the epochs of a trial, on the console."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.text import Text

from deltagclip_cli.training.process import EPOCHS, SOURCES, shown_by
from deltagclip_cli.training.sinks import is_among

if TYPE_CHECKING:
    import rich.console


class _ConsoleHandler(logging.Handler):
    """Prints messages, and of the lines of epochs some.

    The last epoch is told in any case, whatever ended the training: before what comes next.
    """

    def __init__(
        self, console: rich.console.Console, level: int, *, tells_epochs: bool, every: int | None
    ) -> None:
        super().__init__(level)
        self._console, self._tells_epochs, self._every = console, tells_epochs, every
        self._untold: logging.LogRecord | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != EPOCHS:
            self._catch_up()
            self._print(record)
        elif self._tells_epochs:
            number, of = record.__dict__["number"], record.__dict__["of"]
            self._untold = record
            if is_among(number, of, self._every):
                self._catch_up()

    def _catch_up(self) -> None:
        if self._untold is not None:
            self._print(self._untold)
            self._untold = None

    def _print(self, record: logging.LogRecord) -> None:
        style = "yellow" if record.levelno >= logging.WARNING else ""
        self._console.print(Text(record.getMessage(), style=style), soft_wrap=True)

    def close(self) -> None:
        self._catch_up()
        super().close()


@contextmanager
def shown_messages(
    console: rich.console.Console, *, quiet: bool = False, every: int | None = None
) -> Iterator[None]:
    """Print what the package and Python's ``warnings`` have to say while the context lasts.

    On a terminal and in a notebook the progress display tells of the epochs; elsewhere some are a
    line. With ``every``, each so-manieth is a line everywhere. Within another such context, which
    shows them already, this does nothing.
    """
    handlers = logging.getLogger(SOURCES[0]).handlers
    if any(isinstance(each, _ConsoleHandler) for each in handlers):
        yield
        return
    handler = _ConsoleHandler(
        console,
        logging.WARNING if quiet else logging.INFO,
        tells_epochs=every is not None or not (console.is_terminal or console.is_jupyter),
        every=every,
    )
    with shown_by(handler):
        yield
