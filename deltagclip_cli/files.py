"""Writing files so that a reader, or the next start, never meets half of one."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from deltagclip_cli.errors import UnwritableError

Check = Callable[[], None]


def unchecked() -> None:
    """Allow every write: the check of what only one process writes."""


@contextmanager
def written_whole(path: Path, check: Check = unchecked) -> Iterator[IO[bytes]]:
    """A file that appears under its name when it is complete and on the disk, or not at all.

    The temporary file lies in the same folder, for a rename is atomic only within a file system.

    Args:
        path: of the file.
        check: called before anything is written and again before the rename; raises an error if
            that must not be.
    """
    check()
    # Not named by the process: on a shared disk, another machine may have one of that number.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        check()
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_writable(folder: Path) -> None:
    """Make a folder if it is not there, and check that files can be made in it.

    Raises:
        UnwritableError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UnwritableError(
            f"{folder}: nothing can be written there: {error.strerror}.\n"
            "  Free space or permissions there, or name another folder with --runs DIR."
        ) from None


def remove_unfinished(folder: Path, check: Check = unchecked) -> None:
    """Delete the temporary files of a process that was killed while it wrote them."""
    for temporary in folder.glob(".*.part"):
        check()
        temporary.unlink(missing_ok=True)  # who wrote it may be alive, and tidy up too


def write_text(path: Path, text: str, check: Check = unchecked) -> None:
    """Write ``text`` as UTF-8, whole or not at all; ``check`` as for :func:`written_whole`."""
    with written_whole(path, check) as file:
        file.write(text.encode())
