"""Optuna's journal file: opened by one process at a time, and whole after whatever ended the last.

A process that is killed while it writes leaves half a line, behind which Optuna could append but
never read again. That line is cut off; what it told is told anew, from the run folders.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalFileOpenLock
from pydantic_core import from_json

from deltagclip_cli.core import RunFolderError, read_file

_MOST_BYTES = 2**30


class _Unlocked(JournalFileOpenLock):
    """No lock: who writes the journal has claimed the search."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None: ...


class Copy(BaseJournalBackend):
    """What a journal holds now, for those who only look.

    Args:
        file: the journal, which need not exist.
    """

    def __init__(self, file: Path) -> None:
        data = _content(file)
        self._logs = [from_json(line) for line in data[: _whole(data)].splitlines()]

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """What is there from a line on."""
        yield from self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Nobody who only looks does this."""
        raise AssertionError("a copy of the journal is not written to")


def open_journal(file: Path) -> JournalStorage:
    """The journal in ``file``, which is made or mended as need be.

    Only who has claimed the search may call this.

    Raises:
        RunFolderError: it cannot be read or written.
    """
    with writing(file):
        mend(file)
        return _storage(file, JournalFileBackend(str(file), lock_obj=_Unlocked(str(file))))


def read_journal(file: Path) -> JournalStorage:
    """A copy of the journal in ``file``, whoever writes there.

    Raises:
        RunFolderError: it cannot be read.
    """
    try:
        return _storage(file, Copy(file))
    except OSError as error:
        raise _unreadable(file, error.strerror) from None
    except ValueError as error:
        raise _unreadable(file, error) from None


def _storage(file: Path, backend: BaseJournalBackend) -> JournalStorage:
    try:
        return JournalStorage(backend)
    except OSError:
        raise
    except Exception as error:  # whatever Optuna meets in records that it has not written
        raise _unreadable(file, error) from None


def _unreadable(file: Path, why: object) -> RunFolderError:
    return RunFolderError(
        f"{file}: not a journal of a search: {why}.\n"
        "  Move it away; the same search then reads what its run folders hold, and goes on."
    )


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """Explain why the journal cannot be written.

    Raises:
        RunFolderError: it cannot.
    """
    try:
        yield
    except OSError as error:
        raise RunFolderError(
            f"{file}: the journal of the search cannot be written: {error.strerror}.\n"
            "  Free space or permissions there; the same command then goes on."
        ) from None


def mend(file: Path) -> None:
    """Cut off a last line that is unfinished or no record."""
    data = _content(file)
    whole = _whole(data)
    if whole < len(data):
        with file.open("r+b") as journal:
            journal.truncate(whole)
            os.fsync(journal.fileno())


def _content(file: Path) -> bytes:
    try:
        return read_file(file, _MOST_BYTES)
    except FileNotFoundError:
        return b""


def _whole(data: bytes) -> int:
    """How many bytes are whole lines, of which the last is a record."""
    end = data.rfind(b"\n") + 1
    last = data.rfind(b"\n", 0, max(end - 1, 0)) + 1
    return end if _is_record(data[last:end]) else last


def _is_record(line: bytes) -> bool:
    try:
        record = from_json(line)
    except ValueError:
        return False
    return isinstance(record, dict) and "op_code" in record
