"""Where messages come from, and the log file of a run folder that takes them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

EPOCHS = "deltagclip_cli.epochs"  # the logger of a line an epoch
SOURCES = ("deltagclip_cli", "py.warnings")


class _LogFile(logging.FileHandler):
    """A log that cannot be written stops nothing: the metrics, on the same disk, will tell."""

    def handleError(self, record: logging.LogRecord) -> None: ...

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def handled_by(handler: logging.Handler) -> Iterator[None]:
    """Give all messages to a handler while the context lasts, and close it afterwards."""
    loggers = [logging.getLogger(name) for name in SOURCES]
    for each in loggers:
        each.addHandler(handler)
    try:
        yield
    finally:
        for each in loggers:
            each.removeHandler(handler)
        handler.close()


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Append all messages, with the time, to a file while the context lasts."""
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    with handled_by(handler):
        yield
