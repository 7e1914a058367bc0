"""Where logs of other people's runs lie: which files of a folder are one, and who reads it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deltagclip_cli.results.read.csv_logs import is_csv_log, read_csv_log
from deltagclip_cli.results.read.events import read_events

if TYPE_CHECKING:
    from deltagclip_cli.results.read.log import Log

_STEMS = {
    *("metrics", "log", "logs", "history", "progress", "results", "monitor"),
    *("training", "train_log", "training_log"),
}
"""Names of files that say nothing of their run: its folder does."""


@dataclass(frozen=True)
class FoundLog:
    """The log of a run, or a folder that holds the parts of one."""

    path: Path  # the folder of the run, or a file that is one among those of others
    root: Path  # the folder that was searched when it was found
    parts: Sequence[Path] = ()  # folders below it that belong to the same run
    read: Callable[[Path], Log] = read_events
    source: Path | None = None  # what is read; None for the path
    is_file: bool = False  # whether the path is that of a file

    def content(self) -> Log:
        """Read it; of what is damaged, as much as can be read."""
        return self.read(self.source or self.path)


def logs_in(folder: Path, root: Path, files: Collection[str]) -> Iterator[FoundLog]:
    """Yield the logs that lie in a folder itself; CSV files only where there is nothing better."""
    if any("tfevents" in name for name in files):
        yield FoundLog(folder, root)
        return
    names = sorted(name for name in files if name.lower().endswith((".csv", ".tsv")))
    found = [path for name in names if is_csv_log(path := folder / name)]
    for path in found:
        if len(found) == 1 and path.stem.lower() in _STEMS:
            yield FoundLog(folder, root, read=read_csv_log, source=path)
        else:
            yield FoundLog(path, root, read=read_csv_log, is_file=True)
