"""``metrics.jsonl``: a record a line, the truth that statistics read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deltagclip_cli.runs.hold import HeldFile, HeldFolder
from deltagclip_cli.training.sinks import Beginning, Record, Sink, line


class JsonLines(Sink):
    """Writes the records into the run folder.

    The file is begun anew at each start, with the records that stay. What a process that was taken
    over has open is no longer in the folder then.
    """

    def __init__(self, held: HeldFolder) -> None:
        self._held = held
        self._file: HeldFile | None = None

    def begin(self, beginning: Beginning) -> None:
        path = self._held.folder.metrics_file
        with self._held.whole(path) as file:
            file.writelines(map(line, beginning.records))
        self._file = self._held.append(path)

    def step(self, record: Record) -> None:
        assert self._file is not None, "begin() comes first"
        self._file.write(line(record))

    epoch = step

    def sync(self) -> None:
        assert self._file is not None, "begin() comes first"
        self._file.sync()

    def end(self, result: Mapping[str, Any] | None) -> None:
        if self._file is not None:
            self._file.close()
