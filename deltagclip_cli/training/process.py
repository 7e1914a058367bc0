"""A process that trains: that it is alone, the signals that stop it, and its log file."""

from __future__ import annotations

import _thread
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from deltagclip_cli.core import ClaimedError, ExitCode, TakenOverError, UsageError

if TYPE_CHECKING:
    from deltagclip_cli.runs.hold import HeldFolder

logger = logging.getLogger(__name__)

_Handler = Callable[[int, FrameType | None], object]
_TELLING_SECONDS = 5.0  # a terminal that takes nothing must not hold up the end


def check_started_alone() -> None:
    """Refuse to be one of several processes of torchrun, each of which would do the whole.

    Raises:
        UsageError: with what to write instead.
    """
    told = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE")
    count, here, nodes = (os.environ.get(name, "1") for name in told)
    if "TORCHELASTIC_RUN_ID" in os.environ and count != "1":
        raise UsageError(
            f"torchrun has started this process as one of {count}, but deltagclip starts the "
            "processes of a trial itself.\n"
            f"  Call deltagclip without torchrun, and write devices: {here}"
            f"{f' and nodes: {nodes}' if nodes != '1' else ''} into the spec."
        )


class StopRequest:
    """Remembers signals that ask to stop, so that work can stop where it can go on later.

    They are SIGINT, SIGTERM, SIGHUP and SIGUSR1, which batch systems send before a job's time is
    up. Nothing is saved in the handler, where a step may be half made. The second SIGINT interrupts
    at once, for whoever does not want to wait.

    Attributes:
        signal: the first that came; None before it.
        signals: all that came.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.signals: set[int] = set()
        self._interrupt: _Handler = signal.default_int_handler
        self._telling = _thread.allocate_lock()  # held until the first SIGINT has been told

    def __call__(self) -> bool:
        """Tell whether a signal has come."""
        return self.signal is not None

    @property
    def exit_code(self) -> ExitCode:
        """The code of a command that stopped early: its work can be gone on with."""
        interrupted = self.signal == signal.SIGINT
        return ExitCode.INTERRUPTED if interrupted else ExitCode.STOPPED

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch the signals while the context lasts, at whose end all of them have been told.

        Within such a context, and in a thread where Python lets nobody catch any, catch nothing.
        """
        try:
            with self._caught():
                yield
        finally:
            if self._telling.acquire(timeout=_TELLING_SECONDS):
                self._telling.release()

    @contextmanager
    def _caught(self) -> Iterator[None]:
        is_main = threading.current_thread() is threading.main_thread()
        if not is_main or signal.getsignal(signal.SIGTERM) == self._catch:
            yield
            return
        numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup makes it
            numbers.append(signal.SIGHUP)
        before = {number: signal.getsignal(number) for number in numbers}
        interrupt = before[signal.SIGINT]
        self._interrupt = interrupt if callable(interrupt) else signal.default_int_handler
        try:
            for number in numbers:
                signal.signal(number, self._catch)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or number
        self.signals.add(number)
        if number == signal.SIGINT:
            # It may have come in the middle of output, into which nothing can be written from here.
            if self._telling.acquire(blocking=False):
                _thread.start_new_thread(self._tell, ())
            signal.signal(signal.SIGINT, self._interrupt)

    def _tell(self) -> None:
        try:
            logger.warning("Stopping after this step; Ctrl-C again stops at once.")
        finally:
            self._telling.release()


EPOCHS = "deltagclip_cli.epochs"  # the logger of a line an epoch
SOURCES = ("deltagclip_cli", "py.warnings")


SPEAKER: ContextVar[object] = ContextVar("SPEAKER", default=None)
"""The one of several trials in this process that is at work; None of one alone, or for all."""


class _LogFile(logging.Handler):
    """Takes what its own trial says, or nobody in particular.

    A log that cannot be written stops nothing: the metrics, on the same disk, will tell.
    """

    def __init__(self, held: HeldFolder) -> None:
        super().__init__()
        self._file = held.append(held.folder.log_file)
        self._speaker = SPEAKER.get()

    def emit(self, record: logging.LogRecord) -> None:
        if SPEAKER.get() not in (None, self._speaker):
            return
        line = f"{self.format(record)}\n".encode(errors="backslashreplace")
        # The next write of a metric will raise it again. And whoever tells of a signal in another
        # thread may do so when the file is closed, and the training has ended.
        with suppress(OSError, TakenOverError, ValueError):
            self._file.write(line)

    def close(self) -> None:
        with suppress(OSError):
            self._file.close()
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
def logged_in(held: HeldFolder) -> Iterator[None]:
    """Append all messages, with the time, to the log of a run folder while the context lasts."""
    handler = _LogFile(held)
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
