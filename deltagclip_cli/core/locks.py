"""Claims: files that one process at a time can hold, and that are free again when it ends.

The operating system holds the lock and frees it when the process ends, however it ends; the file
that stays behind means nothing. Where NFS passes locks on, they hold between machines too. Where a
file system keeps none, a name that the kernel lends to one process stands in for the file, so that
claims hold at least among the processes of a machine.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Protocol

from deltagclip_cli.core.errors import ClaimedError
from deltagclip_cli.core.files import open_file

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 0.5  # asking whether a claim is held holds it for a moment
_SECONDS_BETWEEN_TRIES = 0.05
_HELD = (errno.EAGAIN, errno.EACCES)


class _Hold(Protocol):
    def close(self) -> object: ...


@contextmanager
def claimed(file: Path, message: str, patience: float = _PATIENCE_SECONDS) -> Iterator[None]:
    """Be the only process that holds ``file``, whose folder must exist.

    Args:
        file: made if it is not there.
        message: of the error.
        patience: how many seconds to wait for another process.

    Raises:
        ClaimedError: another process goes on holding it.
        OSError: the file cannot be made.
    """
    end = time.monotonic() + patience
    while (hold := _take(file)) is None:
        if time.monotonic() > end:
            raise ClaimedError(message)
        time.sleep(_SECONDS_BETWEEN_TRIES)
    with closing(hold):
        yield


def is_claimed(file: Path) -> bool:
    """Whether a process holds the claim on ``file`` now."""
    try:
        held = open_file(file)  # reading is enough: it may be another user's
    except OSError:  # there is none, or it is not to be read
        return False
    with held:
        try:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in _HELD or _is_name_taken(file, error)
    return False


def _take(file: Path) -> _Hold | None:
    """Hold a claim until it is closed; None if another process has it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK  # it may be a pipe
    held = os.fdopen(os.open(file, flags, 0o666), "rb", buffering=0)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(held.fileno()), os.stat(file)):
            return held
    except FileNotFoundError:  # who held it has removed it
        pass
    except OSError as error:
        held.close()
        return None if error.errno in _HELD else _take_name(file, error)
    held.close()
    return None


def _take_name(file: Path, error: OSError) -> _Hold | None:
    _tell_of_missing_locks(error.strerror)
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(_name_of(file))
    except OSError as refusal:
        name.close()
        if refusal.errno == errno.EADDRINUSE:
            return None
        raise
    return name


def _is_name_taken(file: Path, error: OSError) -> bool:
    _tell_of_missing_locks(error.strerror)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as caller:
        return caller.connect_ex(_name_of(file)) == 0


def _name_of(file: Path) -> bytes:
    """In the space of names that are no files, which Linux has, and frees with the process."""
    path = os.fsencode(os.path.realpath(file))
    return b"\0deltagclip-" + hashlib.sha256(path).hexdigest().encode()


@cache
def _tell_of_missing_locks(why: str) -> None:
    """Say so once in a process."""
    logger.warning(
        "The file system keeps no locks (%s). Processes of one machine still share the work; of "
        "two machines, the one that starts a trial later takes it over from the other.",
        why,
    )
