"""Log messages as lines for a person."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from deltagclip_cli.training.logs import EPOCHS, SOURCES, handled_by


class _ConsoleHandler(logging.Handler):
    def __init__(self, console: Console, level: int) -> None:
        super().__init__(level)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        style = "yellow" if record.levelno >= logging.WARNING else ""
        self._console.print(Text(record.getMessage(), style=style), soft_wrap=True)


@contextmanager
def shown_messages(console: Console, *, quiet: bool = False) -> Iterator[None]:
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
    for name in SOURCES:
        logging.getLogger(name).setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        with handled_by(handler):
            yield
    finally:
        logging.captureWarnings(False)
