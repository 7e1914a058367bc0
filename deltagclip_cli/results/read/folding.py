"""Which folders of event files are parts of one run.

Some writers put folders below that of their run::

    run/train, run/validation    Keras' callback: the set that its metrics are of
    run/<tag>_<key>              SummaryWriter.add_scalars: a scalar for each key
    run/1700000000.25            SummaryWriter.add_hparams: hyperparameters, and last metrics
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deltagclip_cli.results.read.events import Events
from deltagclip_cli.results.read.metric_names import SETS, name_in_set, standard_name

_UNIX_TIME = re.compile(r"1\d{9}(?:\.\d+)?")


@dataclass(frozen=True)
class EventFolder:
    """A folder with event files, or one that holds the parts of a run.

    Args:
        path: of the folder.
        root: the folder that was searched when it was found.
        parts: folders below it that belong to the same run.
    """

    path: Path
    root: Path
    parts: Sequence[Path] = ()

    @property
    def folders(self) -> list[Path]:
        """All that may hold event files of the run."""
        return [self.path, *self.parts]


def fold(folders: Sequence[EventFolder], read: Callable[[Path], Events]) -> list[EventFolder]:
    """Put the folders of each run together, in the order in which they come.

    Args:
        folders: all with event files.
        read: gives what is in the event files of one.
    """
    roots = {each.path: each.root for each in folders}
    owners = {path: owner for path in roots if (owner := _owner(path, roots, read)) is not None}
    owners |= _owners_of_sets([path for path in roots if path not in owners], roots)
    parts: dict[Path, list[Path]] = defaultdict(list)
    for path in owners:
        parts[_last(path, owners)].append(path)
    runs = dict.fromkeys(_last(path, owners) for path in roots)
    return [
        EventFolder(
            path, roots[path] if path in roots else roots[parts[path][0]], tuple(parts[path])
        )
        for path in runs
    ]


def part_names(part: Path, run: Path, tags: Sequence[str]) -> dict[str, str]:
    """What the metrics in a part of a run are called, by tag."""
    if _is_set(part):
        return {tag: name_in_set(part.name, tag) for tag in tags}
    below = _below(part, run)
    return {
        tag: standard_name(f"{tag}/{key}" if (key := _key(below, tag)) else tag) for tag in tags
    }


def _last(path: Path, owners: Mapping[Path, Path]) -> Path:
    while path in owners:
        path = owners[path]
    return path


def _owner(path: Path, roots: Mapping[Path, Path], read: Callable[[Path], Events]) -> Path | None:
    """The run of which a folder below it holds scalars or hyperparameters; None if it has none."""
    if path == roots[path]:
        return None
    above = next((each for each in path.parents if each in roots), None)
    if above is None:
        return None
    events = read(path)
    below = _below(path, above)
    are_last = events.options and all(len(s.steps) == 1 for s in events.scalars.values())
    are_keys = events.scalars and all(_key(below, tag) for tag in events.scalars)
    return above if _UNIX_TIME.fullmatch(below) or are_last or are_keys else None


def _owners_of_sets(paths: Sequence[Path], roots: Mapping[Path, Path]) -> dict[Path, Path]:
    """The run of each folder that is named as a part of the data."""
    beside: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        beside[path.parent].append(path)
    return {
        path: path.parent
        for path in paths
        if _is_set(path)
        and path != roots[path]
        and (path.parent in roots or _are_sets(beside[path.parent]))
    }


def _are_sets(paths: Sequence[Path]) -> bool:
    """Whether folders beside each other are parts of the data; a "test" among others is a run."""
    sets = {SETS[path.name.lower()] for path in paths if _is_set(path)}
    return len(sets) > 1 or all(map(_is_set, paths))


def _is_set(path: Path) -> bool:
    return path.name.lower() in SETS


def _below(path: Path, run: Path) -> str:
    return path.relative_to(run).as_posix()


def _key(below: str, tag: str) -> str:
    """The key of a scalar that ``add_scalars`` wrote; empty if it did not write it."""
    for start in (f"{tag.replace('/', '_')}_", f"{tag}/"):
        if below.startswith(start):
            return below.removeprefix(start)
    return ""
