"""Other people's runs: any folder with TensorBoard's event files.

Some writers put folders below that of their run, which are parts of it::

    run/train, run/validation    Keras' callback: the set that its metrics are of
    run/<tag>_<key>              SummaryWriter.add_scalars: a scalar for each key
    run/1700000000.25            SummaryWriter.add_hparams: hyperparameters, and last metrics
"""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import yaml

from deltagclip_cli.core import UsageError, plural, printable, read_file
from deltagclip_cli.results.read.events import EventCache, Events, Scalars, event_files
from deltagclip_cli.results.read.grouping import Named, Naming
from deltagclip_cli.results.read.names import Found, Name
from deltagclip_cli.results.read.run import (
    SETS,
    Curve,
    Group,
    Option,
    Outcome,
    Reading,
    Run,
    Watch,
    name_in_set,
    standard_name,
    standard_names,
)
from deltagclip_cli.spec.document import parse

Contents = Mapping[Path, Events]
"""What is in the event files of each folder of a run."""


def read_event_runs(
    folders: Sequence[EventFolder], naming: Naming, cache: EventCache, watch: Watch = iter
) -> Reading:
    """Read other people's runs.

    A run that does not grow any more has ended, however long it is; it has diverged if a loss is
    not finite at its end.

    Raises:
        UsageError: the naming fits none of them.
    """
    known: dict[Path, Events] = {}

    def read(path: Path) -> Events:
        if path not in known:
            known[path] = cache.read(path)
        return known[path]

    folded = fold(folders, read)
    names = _names_below(folded)
    if folded and not any(naming.fits(name) for _, name in names):
        raise UsageError(
            f"--group matches none of {len(folded)} runs, such as {printable(str(folded[0].path))}."
        )
    found: list[tuple[EventFolder, Found, Contents]] = []
    problems: list[str] = []
    for each, (root, name) in watch(list(zip(folded, names, strict=True))):
        if not naming.fits(name):
            problems.append(f"{each.path}: its name does not match --group, so it is left out.")
            continue
        contents = {path: read(path) for path in each.folders}
        problems += [problem for events in contents.values() for problem in events.problems]
        if any(events.scalars for events in contents.values()):
            options = side_options(each.path, each.root) | _options(contents)
            found.append((each, Found(root, name, options), contents))
        else:
            problems.append(f"{each.path}: there are no scalars in its event files.")
    named, doubts = naming.read([run for _, run, _ in found])
    ends = {
        _run(each, name, contents): _written(contents)
        for (each, _, contents), name in zip(found, named, strict=True)
    }
    runs = with_outcomes(ends)
    return Reading(runs, [*problems, *on_growth(runs), *doubts])


def _names_below(folders: Iterable[EventFolder]) -> list[tuple[str, Name]]:
    """For each folder a name of what was searched, and that of its path below it.

    A run alone counts as found in the folder around it.
    """
    places = []
    for each in folders:
        root = each.root.resolve()
        is_alone = each.path == each.root
        below = PurePath(root.name) if is_alone else each.path.relative_to(each.root)
        places.append((root.parent if is_alone else root, Name.of(below.as_posix())))
    names = _names({root for root, _ in places})
    return [(names[root], name) for root, name in places]


def _names(folders: Iterable[Path]) -> dict[Path, str]:
    """The last part of each path, and as many before it as tell it from the others."""
    folders = list(folders)
    names = {}
    for folder in folders:
        others = [each.parts for each in folders if each != folder]
        length = 1
        while any(each[-length:] == folder.parts[-length:] for each in others):
            length += 1
        names[folder] = PurePath(*folder.parts[-length:]).as_posix()
    return names


def _options(contents: Contents) -> dict[str, Option]:
    return {name: value for each in contents.values() for name, value in each.options.items()}


def _written(contents: Contents) -> Written:
    last = (s.wall_times[-1] for each in contents.values() for s in each.scalars.values())
    return Written(max(map(float, last)), all(each.whole for each in contents.values()))


def _run(folder: EventFolder, named: Named, contents: Contents) -> Run:
    having = [events for events in contents.values() if events.scalars]
    first = min(float(s.wall_times[0]) for events in having for s in events.scalars.values())
    # 0 is what some programs write for nothing.
    begin = min([first, *(events.begin for events in having if events.begin)])
    curves: dict[str, Curve] = {}
    for path, events in contents.items():
        for tag, name in _metrics(path, folder.path, list(events.scalars)).items():
            name = printable(name)
            if name in curves:
                name = printable(f"{tag} ({path.relative_to(folder.path).as_posix()})")
            # Parts of a run may have the same tags.
            own = tag if path == folder.path else ""
            curves[name] = _curve(events.scalars[tag], begin, own)
    return Run(folder.path, named.group, named.seed, Outcome.FINISHED, "", curves, folder.parts)


def _metrics(path: Path, run: Path, tags: Sequence[str]) -> dict[str, str]:
    """The names of the metrics in a folder of a run, by tag."""
    return standard_names(tags) if path == run else part_names(path, run, tags)


def _curve(scalars: Scalars, begin: float, tag: str) -> Curve:
    seconds = scalars.wall_times - begin
    return Curve(scalars.steps, scalars.steps, seconds, scalars.values, has_epochs=False, tag=tag)


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


_PAUSES = 3  # as long as the longest so far, after which nothing more is expected
_SECONDS_UNTIL_WRITTEN = 120.0  # torch's SummaryWriter writes what it holds so often
_LONGEST_SECONDS = 86400.0
_GROWING = "still growing"
_A_MOMENT = 1.0  # seconds in which a script writes all its points, and no training does
_CLOCKS_DIFFER = 600.0  # seconds, at most, between the machine of the run and that of the disk


@dataclass(frozen=True)
class Written:
    """How the files of a run were written.

    Args:
        last: when the last point was made, in seconds since 1970.
        whole: whether all files could be read to their ends.
    """

    last: float
    whole: bool


def with_outcomes(runs: Mapping[Run, Written]) -> list[Run]:
    """Tell of each run whether it has ended, is still growing, or has diverged.

    A run grows if its files were written a short time ago, which is measured by how often it
    writes. One that has come to the very step at which others of its group ended has ended, too.
    """
    now = time.time()
    open_ = {run: why for run, how in runs.items() if (why := _why_open(run, how, now))}
    ends: dict[Group, set[float]] = defaultdict(set)
    for run in runs:
        if run not in open_:
            ends[run.group].add(_last_step(run))
    return [
        _diverged(run)
        or (
            replace(run, outcome=Outcome.UNFINISHED, reason=open_[run])
            if run in open_ and _last_step(run) not in ends[run.group]
            else run
        )
        for run in runs
    ]


def on_growth(runs: Sequence[Run]) -> list[str]:
    """A sentence on runs that are still growing; none if there are none."""
    growing = [run for run in runs if run.reason.startswith(_GROWING)]
    if not growing:
        return []
    (first, *others) = growing
    more = f" So {'is' if len(others) == 1 else 'are'} {plural(len(others), 'other')}."
    return [f"{first.folder}: {first.reason}.{more if others else ''}"]


def _diverged(run: Run) -> Run | None:
    for name, curve in run.curves.items():
        is_loss = "loss" in re.split(r"[^a-z]+", name.lower()) or name.lower().endswith("loss")
        if is_loss and not np.isfinite(curve.values[-1]):
            at = curve.steps[-1]
            reason = f"{name} is {curve.values[-1]:g} at its last step, {at:.0f}"
            return replace(run, outcome=Outcome.DIVERGED, reason=reason)
    return None


def _last_step(run: Run) -> float:
    return max(float(curve.steps[-1]) for curve in run.curves.values())


def _why_open(run: Run, how: Written, now: float) -> str:
    """Why the last values of a run are not those of its end; empty if nothing says so.

    The clocks of this machine, of the disk and of the run's machine may differ a little. Files
    that were written long after their last point are copies.
    """
    if not how.whole:
        return f"its event files cannot be read to their ends, from step {_last_step(run):.0f} on"
    if abs(now - how.last) > _LONGEST_SECONDS + _CLOCKS_DIFFER:
        return ""
    pause = _pause(run)
    written = max(_times(run), default=0.0)
    age = abs(now - written)
    if age > pause or abs(written - how.last) > pause + _CLOCKS_DIFFER:
        return ""
    return f"{_GROWING}: at step {_last_step(run):.0f}, written {age:.0f} seconds ago"


def _pause(run: Run) -> float:
    """The longest time in which nothing is written while a run still grows."""
    seconds = np.unique(np.concatenate([curve.seconds for curve in run.curves.values()]))
    longest = float(np.diff(seconds, prepend=0.0).max())
    pause = max(_PAUSES * longest, min(float(seconds[-1]), _SECONDS_UNTIL_WRITTEN))
    return min(pause, _LONGEST_SECONDS) if seconds[-1] >= _A_MOMENT else 0.0


def _times(run: Run) -> Iterator[float]:
    for folder in (run.folder, *run.parts):
        try:
            for path in event_files(folder):
                yield os.stat(path).st_mtime
        except OSError:
            continue


_FILES = (
    ".hydra/overrides.yaml",  # what was said on Hydra's command line
    "hparams.yaml",  # Lightning
    "params.json",  # Ray Tune
    ".guild/attrs/flags",  # Guild AI
)
_MOST_BYTES = 1_000_000


def side_options(run: Path, root: Path) -> dict[str, Option]:
    """What the files say that lie in the folder of a run, or in one above it.

    Args:
        run: the folder of the run.
        root: the folder that was searched; what lies in it is of all runs below it.
    """
    folders = [run, *(folder for folder in run.parents if root in folder.parents)]
    options: dict[str, Option] = {}
    for folder in folders:
        for name in _FILES:
            options = dict(_told(folder / name)) | options
    return options


def _told(file: Path) -> Iterator[tuple[str, Option]]:
    """The hyperparameters in a file; none if it is not there, or is something else."""
    with suppress(OSError, ValueError, yaml.YAMLError):
        data = parse(read_file(file, _MOST_BYTES).decode("utf-8"))
        if isinstance(data, list):  # key=value, with + or ++ for one that is new
            words = (str(each).lstrip("+").partition("=") for each in data)
            yield from ((key, value) for key, equals, value in words if equals)
        elif isinstance(data, Mapping):
            yield from _flat(data)


def _flat(data: Mapping[Any, Any], above: str = "") -> Iterator[tuple[str, Option]]:
    for key, value in data.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, str | bool | float):
            yield name, value
        elif isinstance(value, int):
            yield name, float(value) if abs(value) < 2**53 else str(value)
