"""Standard input, output and error, as every command may rely on them.

All three are there. What cannot be encoded is replaced. Output that nobody takes any more, for a
pipe was closed, a terminal hung up or a disk is full, ends no training: it goes nowhere from then
on. A command whose answer it was says so in the end.
"""

from __future__ import annotations

import codecs
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

_REPLACED = "deltagclip_replaced"
# Else a table's mark for the best would be that for the unknown.
_INSTEAD = str.maketrans("•≈≤≥–−·→×…", "*~<>--->x.")
_LEAVINGS = {errno.EPIPE, errno.EIO}  # of a reader such as head, and of a terminal


def prepare() -> None:
    """Make this process's standard streams fit to be used."""
    codecs.register_error(_REPLACED, _replaced)
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
    known = text.encode(sys.stdout.encoding or "utf-8", "ignore").decode(
        sys.stdout.encoding or "utf-8"
    )
    if known != text or not text.replace("\n", "").isprintable():
        text = re.sub(r"[^\x00-\x7f]", lambda found: json.dumps(found[0])[1:-1], text)
    sys.stdout.write(text)
    check_output()


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """A text that cannot be encoded, with as many letters of ASCII."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end].translate(_INSTEAD)
    return "".join(c if c.isascii() else "?" for c in text), error.end


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
        errors=_REPLACED,
        line_buffering=descriptor == 2 or getattr(stream, "line_buffering", False),
        write_through=getattr(stream, "write_through", False),
    )
