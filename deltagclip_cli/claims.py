"""Claims: files that one process at a time can hold, and that are free again when it ends.

The operating system holds the lock and frees it when the process ends, however it ends; the file
that stays behind means nothing. Where NFS passes locks on, they hold between machines too.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deltagclip_cli.errors import ClaimedError
from deltagclip_cli.files import open_file

_PATIENCE_SECONDS = 0.5  # asking whether a claim is held holds it for a moment


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
    from filelock import FileLock, Timeout  # only here: listing runs needs no locks

    lock = FileLock(file)
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise ClaimedError(message) from None
    try:
        yield
    finally:
        lock.release()


def is_claimed(file: Path) -> bool:
    """Whether a process holds the claim on ``file`` now."""
    try:
        with open_file(file) as held:  # reading is enough: it may be another user's
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is none, or it is not to be read
        return False
    return False
