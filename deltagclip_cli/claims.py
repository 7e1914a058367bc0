"""Claims: files that one process at a time can hold, and that are free again when it ends.

The operating system holds the lock and frees it when the process ends, however it ends; the file
that stays behind means nothing. On Linux this also holds between the processes of one machine on
NFS.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deltagclip_cli.errors import ClaimedError

_PATIENCE_SECONDS = 0.5  # asking whether a claim is held holds it for a moment


@contextmanager
def claimed(file: Path, message: str) -> Iterator[None]:
    """Be the only process that holds ``file``, whose folder must exist.

    Raises:
        ClaimedError: another process holds it; with this message.
        OSError: the file cannot be made.
    """
    from filelock import FileLock, Timeout  # only here: listing runs needs no locks

    lock = FileLock(file)
    try:
        lock.acquire(timeout=_PATIENCE_SECONDS)
    except Timeout:
        raise ClaimedError(message) from None
    try:
        yield
    finally:
        lock.release()


def is_claimed(file: Path) -> bool:
    """Whether a process holds the claim on ``file`` now."""
    from filelock import FileLock, Timeout

    if not file.exists():
        return False
    lock = FileLock(file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    except OSError:  # another user's, or on a disk that cannot be written: not for us to run
        return False
    lock.release()
    return False
