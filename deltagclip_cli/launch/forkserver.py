"""A fork server: workers start in a moment as forks of a process that has loaded torch already.

Loading torch takes seconds, longer than a short trial; and a sweep of a week would load whatever
the code has become by then. So Python's fork server loads everything once, and a worker is a fork
of it that does what ``python -m deltagclip_cli worker RUN_FOLDER`` does, under that name in ``ps``.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from deltagclip_cli.core import DeltaGClipError, TrialError, UsageError, open_file, printable

_SECONDS_BETWEEN_LOOKS = 0.2
_MOST_BYTES = 60  # of the 103 of a socket's path on macOS: pymp-… and listener-… come behind
_LAST_BYTES = 10_000
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
_TRIES = 4  # of what is killed, perhaps for want of memory
_SECONDS_BETWEEN_TRIES = 0.5
_SECONDS_TO_SAVE = 3  # for a worker whose sweep is no more
_LOADED = [
    "deltagclip_cli.training.imported",
    "deltagclip_cli.commands.app",
    "deltagclip_cli.commands.worker",
    "deltagclip_cli.training.worker",
    "torchvision",
]


Call = Callable[..., Any]
"""Such as :meth:`ForkServer.call`."""


class KilledError(TrialError):
    """The process in which a function was called was killed, each time."""


class Fork:
    """A worker that runs a command line of ``deltagclip``; its log had ``said`` bytes before."""

    def __init__(self, process: ForkServerProcess, log: Path, said: int) -> None:
        self._process = process
        self._log, self._said = log, said

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    @property
    def sentinel(self) -> int:
        return self._process.sentinel

    @property
    def exit_code(self) -> int | None:
        """255 if the fork server was killed; its worker saves as soon as it is forgotten."""
        return self._process.exitcode

    def stop(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def forget(self) -> None:
        self._process.join()
        self._process.close()

    def last_words(self) -> str:
        """Return what it added to its log, or the end of that; empty if that is gone."""
        try:
            with open_file(self._log) as log:
                end = log.seek(0, os.SEEK_END)
                log.seek(max(self._said, end - _LAST_BYTES))
                return log.read().decode(errors="replace").strip()
        except OSError:
            return ""


class ForkServer:
    """Starts processes from one that has loaded torch."""

    def __init__(self) -> None:
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")

    def open(self) -> None:
        """Begin to load torch, in the background."""
        self._context.set_forkserver_preload(_LOADED)
        _ensure_server()

    def start(self, words: list[str], log: Path, environment: Mapping[str, str]) -> Fork:
        """Start ``deltagclip`` with the words of a command line, and append its errors to a log.

        ``environment`` is added to that of this process when it opened the server.
        """
        said = log.stat().st_size if log.exists() else 0
        return Fork(self._start(_run_command, words, str(log), environment), log, said)

    def call(
        self, function: Callable[..., Any], *arguments: object, should_stop: Callable[[], bool]
    ) -> Any:
        """Call a function in a process of its own; None after a wish to stop.

        Raises:
            UsageError: the function failed; with its message.
            KilledError: its process was killed, each time.
        """
        for _ in range(_TRIES):
            try:
                value, message = self._answer(function, arguments, should_stop)
            except (EOFError, OSError) as error:
                if should_stop():
                    return None
                reason = f": {error}" if str(error) else "."
                time.sleep(_SECONDS_BETWEEN_TRIES)  # in which the end of a server becomes known
                continue
            if message:
                raise UsageError(message)
            return value
        raise KilledError(
            f"the process that loads the data was killed {_TRIES} times, perhaps for want of "
            f"memory{reason}\n  The same command goes on where this one ended."
        )

    def _answer(
        self,
        function: Callable[..., Any],
        arguments: tuple[object, ...],
        should_stop: Callable[[], bool],
    ) -> tuple[Any, str]:
        """Return what a call did, and the message of its error or nothing; EOFError if killed."""
        receiver, sender = self._context.Pipe(duplex=False)
        try:
            process = self._start(_call, function, arguments, sender)
        finally:
            sender.close()
        while not wait([receiver], timeout=_SECONDS_BETWEEN_LOOKS):
            if should_stop():
                process.terminate()
        try:
            answer: tuple[Any, str] = receiver.recv()
            return answer
        finally:
            receiver.close()
            process.join()

    def _start(self, target: Callable[..., None], *arguments: Any) -> ForkServerProcess:
        # A daemon is asked to stop when this process ends, however that comes about.
        process = self._context.Process(target=target, args=arguments, daemon=True)
        _ensure_server()
        try:
            process.start()
        except EOFError:
            raise ConnectionError("the process that workers are forks of was killed") from None
        return process


def _ensure_server() -> None:
    """Start the fork server if it is not there; it was killed, perhaps, for want of memory.

    Signals to this process's group are for this process to act on. The server inherits that they
    are blocked; a worker lets them through again, and is then stopped by one that came before.
    It is told not to look in the current folder, where somebody may have a file ``random.py``.
    """
    if len(os.fsencode(tempfile.gettempdir())) > _MOST_BYTES:
        tempfile.tempdir = "/tmp"  # where the socket goes: $TMPDIR may be too long for its path
    # One that was killed had nothing of ours to clean up, and is started anew.
    warnings.filterwarnings("ignore", "resource_tracker: process died", UserWarning)
    wanted = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        resource_tracker.ensure_running()  # it unblocks signals, and so comes first
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    finally:
        del os.environ["PYTHONSAFEPATH"]
        if wanted is not None:
            os.environ["PYTHONSAFEPATH"] = wanted


def _run_command(words: list[str], log: str, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    _become_independent()
    _redirect_output(log)
    command = ["python", "-m", "deltagclip_cli", *words]
    from setproctitle import setproctitle

    setproctitle(printable(" ".join(command)))
    sys.argv = command[2:]
    runpy.run_module("deltagclip_cli", run_name="__main__", alter_sys=True)


def _call(function: Callable[..., Any], arguments: tuple[Any, ...], answer: Connection) -> None:
    _become_independent()
    value, message = None, ""
    try:
        value = function(*arguments)
    except DeltaGClipError as error:
        message = str(error)
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
    with suppress(BrokenPipeError):  # whoever asked was killed
        answer.send((value, message))


def _become_independent() -> None:
    """Leave the terminal, whose Ctrl-C is not for us, and end when the parent is no more."""
    os.setsid()
    # For a daemon may have no processes of its own, such as those that fetch data.
    multiprocessing.current_process().daemon = False
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # one has come, perhaps, and was not for us
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    parent = multiprocessing.parent_process()
    assert parent is not None, "this runs in a process that another one started"
    threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    """Ask this process to stop; if it cannot do so soon, whatever it does, the system ends it."""
    wait([sentinel])
    signal.alarm(_SECONDS_TO_SAVE)
    os.kill(os.getpid(), signal.SIGTERM)


def _redirect_output(log: str) -> None:
    """Send errors that Python cannot catch to the run, and what is for people to nobody."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        # A named pipe would be waited for, until somebody reads it.
        errors = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o644)
    except OSError:
        errors = null
    os.dup2(null, 1)
    os.dup2(errors, 2)
