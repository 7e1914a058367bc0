"""Work on a data folder that one process does while others wait for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from deltagclip_cli.core import ClaimedError, DataError, claimed, is_claimed

_LOG = logging.getLogger("deltagclip_cli")


@contextmanager
def locked(file: Path, doing: str, patience_s: float) -> Iterator[None]:
    """Hold the lock ``file``, after those who have it now; its folder must exist.

    Args:
        file: the lock. It stays behind, and means nothing then.
        doing: what the others may be doing, such as ``downloading MNIST``.
        patience_s: how long to wait for them.

    Raises:
        DataError: they take longer.
        OSError: the file cannot be made.
    """
    if is_claimed(file):
        _LOG.info("waiting for another process that is %s", doing)
    message = (
        f"{file.parent}: another process has been {doing} for more than "
        f"{patience_s / 60:.0f} minutes.\n"
        "  Wait for it, or end it, and run this again."
    )
    with ExitStack() as held:
        try:
            held.enter_context(claimed(file, message, patience_s))
        except ClaimedError as error:
            raise DataError(str(error)) from None
        yield
