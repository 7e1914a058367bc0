"""Every run below some folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from deltagclip_cli.core import is_folder, printable
from deltagclip_cli.results.read.cache import EventCache
from deltagclip_cli.results.read.foreign import EventFolder, read_event_runs
from deltagclip_cli.results.read.grouping import Naming
from deltagclip_cli.results.read.run import Reading, Watch
from deltagclip_cli.results.read.run_folders import read_trials
from deltagclip_cli.runs.folder import RunFolder


def read_tree(
    roots: Iterable[Path], naming: Naming, cache: EventCache, watch: Watch = iter
) -> Reading:
    """Read every run at or below some folders: our run folders, and those with event files.

    Args:
        roots: the folders to search. What lies below two of them is read once.
        naming: what names of other people's runs say.
        cache: of what was in their event files.
        watch: follows the reading of our runs, and then of the others.
    """
    ours: list[Path] = []
    others: list[EventFolder] = []
    seen: set[Path] = set()
    unlisted: list[str] = []
    for root in roots:
        for folder, is_ours in _runs(root, seen, unlisted):
            if is_ours:
                ours.append(folder)
            else:
                others.append(EventFolder(folder, root))
    trials = read_trials(ours, watch)
    events = read_event_runs(others, naming, cache, watch)
    problems = [*unlisted, *trials.problems, *events.problems]
    return Reading([*trials.runs, *events.runs], [printable(each) for each in problems])


def _runs(root: Path, seen: set[Path], unlisted: list[str]) -> Iterator[tuple[Path, bool]]:
    """The folder of each run in order of the names, and whether it is one of ours.

    Hidden folders are searched where there is nothing else: some programs keep all runs in one.
    """
    pending, hidden, is_found = [root], list[Path](), False
    while pending or (hidden and not is_found):
        if not pending:
            pending, hidden = hidden[::-1], []
        folder = pending.pop()
        resolved = folder.resolve()  # links may go in circles
        if resolved in seen:
            continue
        seen.add(resolved)
        try:
            names, folders = _content(folder)
        except OSError as error:
            unlisted.append(f"{folder}: cannot be listed: {error.strerror}.")
            continue
        if RunFolder(folder).trial_file.name in names:
            is_found = True
            yield folder, True
            continue
        if any("tfevents" in name for name in names):
            is_found = True
            yield folder, False
        paths = [folder / name for name in sorted(folders)]
        pending += [path for path in reversed(paths) if path.name[0] != "."]
        hidden += [path for path in paths if path.name[0] == "."]


def _content(folder: Path) -> tuple[list[str], list[str]]:
    """The names of files and of folders.

    Raises:
        OSError: the folder cannot be listed.
    """
    files: list[str] = []
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            (folders if is_folder(entry) else files).append(entry.name)
    return files, folders
