"""The records of a trial that is running, as they come."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import open_file
from deltagclip_cli.runs.folder import read_record

if TYPE_CHECKING:
    from deltagclip_cli.runs.folder import RunFolder

_MOST_BYTES = 2**20  # of a look, so that a long file holds nobody up


class GrowingRecords:
    """Reads what is new in ``metrics.jsonl``, a limited amount at a time.

    A start writes the file anew, with the records that stay: it is then read from its beginning.

    Attributes:
        epochs: the records of whole epochs, or of what lies between two evaluations, so far.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.epochs: list[dict[str, Any]] = []
        self._file = folder.metrics_file
        self._place, self._inode = 0, -1

    def look(self) -> list[dict[str, Any]]:
        """Read on, and return the records of epochs that are new; none if it cannot be read."""
        with suppress(OSError), open_file(self._file) as file:
            now = os.fstat(file.fileno())
            if now.st_ino != self._inode or now.st_size < self._place:
                self.epochs, self._place, self._inode = [], 0, now.st_ino
            file.seek(self._place)
            whole = file.read(_MOST_BYTES).rpartition(b"\n")[0]
            self._place += len(whole) + bool(whole)
            lines = (line for line in whole.split(b"\n") if b'"step/' not in line)
            new = [record for line in lines if (record := read_record(line)) is not None]
            self.epochs += new
            return new
        return []
