"""Where messages come from, and the log file of a run folder that takes them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deltagclip_cli.core import Check, ClaimedError, TakenOverError, unchecked

EPOCHS = "deltagclip_cli.epochs"  # the logger of a line an epoch
SOURCES = ("deltagclip_cli", "py.warnings")


class _LogFile(logging.FileHandler):
    """A log that cannot be written stops nothing: the metrics, on the same disk, will tell."""

    def __init__(self, path: Path, check: Check) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self._check = check

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError, TakenOverError):  # the next write of a metric will raise it again
            self._check()
            super().emit(record)

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
def shown_by(handler: logging.Handler) -> Iterator[None]:
    """Let the package and Python's ``warnings`` say all that they have to say, to a handler too.

    For the outermost of contexts, which has the process to itself.
    """
    for name in SOURCES:
        logging.getLogger(name).setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        with handled_by(handler):
            yield
    finally:
        logging.captureWarnings(False)


@contextmanager
def logged_to(path: Path, check: Check = unchecked) -> Iterator[None]:
    """Append all messages, with the time, to a file while the context lasts.

    Args:
        path: of the file.
        check: called before each; one for which it raises an error is left out.
    """
    handler = _LogFile(path, check)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    with handled_by(handler):
        yield


@contextmanager
def left_to_others(path: Path) -> Iterator[None]:
    """Say no more in a log file once a :class:`ClaimedError` ends the context: it is another's.

    A launcher may have made it the place of this process's errors too.
    """
    try:
        yield
    except ClaimedError:
        with suppress(OSError):
            if os.path.samestat(os.fstat(2), path.stat()):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, 2)
                os.close(null)
        raise
