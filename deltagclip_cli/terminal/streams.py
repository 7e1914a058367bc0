"""Standard input, output and error, as every command may rely on them.

All three are there. What cannot be encoded is written out. Output that nobody takes any more, for a
pipe was closed, a terminal hung up or a disk is full, ends no training: it goes nowhere from then
on. A command whose answer it was says so in the end.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from deltagclip_cli.core import DeltaGClipError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_LEAVINGS = {errno.EPIPE, errno.EIO}  # of a reader such as head, and of a terminal


def prepare() -> None:
    """Make this process's standard streams fit to be used."""
    for descriptor in range(3):
        _open_if_closed(descriptor)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))
    sys.stdout = _endless(sys.stdout, 1)
    sys.stderr = _endless(sys.stderr, 2)


def check_output() -> None:
    """Raise DeltaGClipError if what was printed was not taken, and somebody still waits for it."""
    sys.stdout.flush()
    lost = _Descriptor.lost.get(1)
    if lost is not None and lost.errno not in _LEAVINGS:
        raise DeltaGClipError(f"the output cannot be written: {lost.strerror}.")


def write_json(text: str) -> None:
    """Print text that is JSON, unchanged or, where the output has no such letters, escaped."""
    is_unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    if not is_unicode or not text.replace("\n", "").isprintable():
        text = re.sub(r"[^\x00-\x7f]", lambda found: json.dumps(found[0])[1:-1], text)
    sys.stdout.write(text)
    check_output()


def _open_if_closed(descriptor: int) -> None:
    """Else the next file to be opened would be the one that is written to."""
    try:
        os.fstat(descriptor)
    except OSError:
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free


class _Descriptor(io.FileIO):
    """A file descriptor that goes nowhere once it cannot be written any more."""

    lost: dict[int, OSError] = {}  # noqa: RUF012 - of the process, as its descriptors are

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            while (written := super().write(data)) is None:  # whoever gave it to us does not wait
                select.select([], [self], [])
        except OSError as error:
            self.lost[self.fileno()] = error
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return memoryview(data).nbytes
        return written


def _endless(stream: TextIO | None, descriptor: int) -> TextIO:
    if stream is not None:
        with suppress(OSError):
            stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(descriptor, "wb", closefd=False)),
        encoding=getattr(stream, "encoding", None),
        errors="backslashreplace",
        line_buffering=descriptor == 2 or getattr(stream, "line_buffering", False),
        write_through=getattr(stream, "write_through", False),
    )
