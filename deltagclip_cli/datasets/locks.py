"""Work on a data folder that one process does while others wait for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_LOG = logging.getLogger("deltagclip_cli")


@contextmanager
def locked(file: Path, doing: str, patience_s: float) -> Iterator[None]:
    """Hold the lock ``file``, after those who have it now; its folder must exist.

    Args:
        file: the lock. It stays behind, and means nothing then.
        doing: what the others may be doing, such as ``downloading MNIST``.
        patience_s: how long to wait for them.

    Raises:
        Timeout: they take longer.
        OSError: the file cannot be made.
    """
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _LOG.info("waiting for another process that is %s", doing)
        lock.acquire(timeout=patience_s)
    try:
        yield
    finally:
        lock.release()
