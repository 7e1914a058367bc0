"""Remembers the scalars of event files, so that a second look at thousands of runs is quick.

The cache holds one file for each run, named by a hash of the run's path::

    deltagclip events 4 8d3f11a6        format, version, checksum of everything below
    {"files": ..., "tags": ...}         what was read, when it was as it is now, in JSON
    float64, little-endian              (3, N): steps, wall times and values of all tags

It may be deleted at any time, the whole or in part. A file that is damaged, or that another version
wrote, counts as absent; where nothing can be written, nothing is remembered.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from deltagclip_cli.core import read_file
from deltagclip_cli.results.read.events import Events, Scalars, event_files, read_events
from deltagclip_cli.results.read.run import Numbers

Fingerprint = list[list[Any]]
"""For each event file, in order: its name, size, and times of change in ns (content, inode)."""

# To be counted up with every change of the format, and of what is read from the same files.
_FORMAT = "deltagclip events 4"
_MOST_BYTES = 2**32
_FLOAT = np.dtype("<f8")
# The coarsest clock that a file system here may have is that of FAT, of two seconds.
_SETTLED_NS = 2_000_000_000


def default_cache_folder() -> Path:
    """Where events are remembered: below ``$XDG_CACHE_HOME``, or below ``~/.cache``."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    # The standard wants a path that is not absolute to be ignored.
    caches = Path(named) if os.path.isabs(named) else Path(os.path.expanduser("~"), ".cache")
    if not caches.is_absolute():  # nobody knows this user's home
        caches = Path(os.devnull)
    return caches / "deltagclip" / "events"


class EventCache:
    """Event files that were read before.

    Several processes may use one at the same time.

    Args:
        folder: holds the cache; made when something is first written there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, run: Path) -> Events:
        """The same as :func:`read_events`, from the cache if no event file of the run changed.

        A change is one of the names, sizes and times of the files. What was changed in the last two
        seconds is not remembered: the clock of its file system may not tell the next change from
        that. Neither is what could not be read, which may be possible the next time.
        """
        # Taken before the files are read: if one grows meanwhile, this is no longer true of it.
        now = time.time_ns()
        fingerprint = _fingerprint(run)
        if not fingerprint:
            return read_events(run)
        path = self._folder / _name(run)
        events = _load(path, run, fingerprint)
        if events is None:
            events = read_events(run)
            if events.lasting and all(now - each[2] > _SETTLED_NS for each in fingerprint):
                _save(path, run, fingerprint, events)
        return events


def _fingerprint(run: Path) -> Fingerprint:
    """What tells the event files of a run from changed ones; empty if there are none to be had."""
    try:
        return [
            [path.name, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
            for path in event_files(run)
            for found in [path.stat()]
        ]
    except OSError:
        return []


def _name(run: Path) -> str:
    return hashlib.sha256(os.fsencode(os.path.realpath(run))).hexdigest()[:32]


def _prefix(run: Path) -> str:
    """What the paths of all files in a run begin with; nothing if it is the current folder."""
    return str(run / "x")[:-1]


def _load(path: Path, run: Path, fingerprint: Fingerprint) -> Events | None:
    """What is remembered of a run with this fingerprint, or None."""
    try:
        first, _, rest = read_file(path, _MOST_BYTES).partition(b"\n")
    except OSError:
        return None
    if first != f"{_FORMAT} {zlib.crc32(rest):08x}".encode():
        return None
    # From here on it is what _save wrote, byte for byte.
    header, _, numbers = rest.partition(b"\n")
    known = json.loads(header)
    if known["files"] != fingerprint:
        return None
    points = np.frombuffer(numbers, dtype=_FLOAT).reshape(3, -1)
    problems = [_prefix(run) + problem for problem in known["problems"]]
    told = (known[name] for name in ("begin", "options", "whole"))
    return Events(_split(points, known["tags"]), problems, *told)


def _split(points: Numbers, tags: dict[str, int]) -> dict[str, Scalars]:
    """The points of all tags (3, N), by tag; ``tags`` has the number of points of each."""
    scalars, begin = {}, 0
    for tag, count in tags.items():
        scalars[tag] = Scalars(*points[:, begin : begin + count])
        begin += count
    return scalars


def _save(path: Path, run: Path, fingerprint: Fingerprint, events: Events) -> None:
    """Remember a run, or do nothing if that cannot be written."""
    known = {
        "files": fingerprint,
        # The next reader may name the same folder in another way.
        "problems": [problem.removeprefix(_prefix(run)) for problem in events.problems],
        "begin": events.begin,
        "options": dict(events.options),
        "whole": events.whole,
        "tags": {tag: len(scalars.steps) for tag, scalars in events.scalars.items()},
    }
    rows = [[s.steps, s.wall_times, s.values] for s in events.scalars.values()]
    points = np.concatenate([np.zeros((3, 0)), *map(np.stack, rows)], axis=1)
    rest = json.dumps(known).encode() + b"\n" + points.astype(_FLOAT).tobytes()
    first = f"{_FORMAT} {zlib.crc32(rest):08x}\n".encode()
    # Not files.written_whole: it waits for the disk, which takes longer than to read the run, and
    # is for what cannot be made again. The checksum finds what a crash left of a file.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(first + rest)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
