"""Writing files so that a reader, or the next start, never meets half of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from deltagclip_cli.errors import UnwritableError


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name when it is complete and on the disk, or not at all.

    The temporary file lies in the same folder, for a rename is atomic only within a file system.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
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


def remove_unfinished(folder: Path) -> None:
    """Delete the temporary files of a process that was killed while it wrote them."""
    for temporary in folder.glob(".*.part"):
        temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with written_whole(path) as file:
        file.write(text.encode())
