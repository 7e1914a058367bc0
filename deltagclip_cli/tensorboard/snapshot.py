"""Tells whether runs have changed since they were last read, without reading them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from deltagclip_cli.runs.folder import RunFolder

_RUN = RunFolder(Path())
_OURS = {each.name for each in (_RUN.trial_file, _RUN.metrics_file, _RUN.result_file)}
_OURS |= {_RUN.error_file.name}

Snapshot = dict[str, tuple[int, int]]
"""Size and time of change of each file that counts, by its path."""


def snapshot(roots: Iterable[Path]) -> Snapshot:
    """The files below some folders that say what was measured; what cannot be listed is left out.

    It costs a look at each file's entry, none at its content.
    """
    found: Snapshot = {}
    pending, hidden = [os.fspath(root) for root in roots], list[str]()
    seen: set[tuple[int, int]] = set()
    while pending or (hidden and not found):
        if not pending:
            pending, hidden = hidden, []
        folder = pending.pop()
        try:
            about = os.stat(folder)
            if (about.st_dev, about.st_ino) not in seen:  # links may go in circles
                seen.add((about.st_dev, about.st_ino))
                for path in _look(folder, found):
                    (hidden if os.path.basename(path)[0] == "." else pending).append(path)
        except OSError:
            continue
    return found


def _look(folder: str, found: Snapshot) -> Iterator[str]:
    """Add what counts in a folder; gives the folders in it."""
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):  # a link that leads nowhere, or to itself
                if entry.is_dir():
                    yield entry.path
                elif entry.name in _OURS or "tfevents" in entry.name:
                    about = entry.stat()
                    found[entry.path] = (about.st_size, about.st_mtime_ns)
