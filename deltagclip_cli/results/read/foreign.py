"""Other people's runs: any folder with TensorBoard's event files.

Some writers put folders below that of their run, which are parts of it::

    run/train, run/validation    Keras' callback: the set that its metrics are of
    run/<tag>_<key>              SummaryWriter.add_scalars: a scalar for each key
    run/1700000000.25            SummaryWriter.add_hparams: hyperparameters, and last metrics
"""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from deltagclip_cli.core import UsageError, printable, read_file
from deltagclip_cli.results.read.events import Events, read_events
from deltagclip_cli.results.read.names import Found, Name
from deltagclip_cli.results.read.run import (
    SETS,
    Curve,
    Group,
    Option,
    Outcome,
    Reading,
    Run,
    name_in_set,
    standard_name,
    standard_names,
)
from deltagclip_cli.spec.document import parse

if TYPE_CHECKING:
    from deltagclip_cli.results.read.grouping import Named, Naming

_UNIX_TIME = re.compile(r"1\d{9}(?:\.\d+)?")
_OPTION_FILES = (
    ".hydra/overrides.yaml",  # what was said on Hydra's command line
    "hparams.yaml",  # Lightning
    "params.json",  # Ray Tune
    ".guild/attrs/flags",  # Guild AI
)
_MOST_BYTES = 1_000_000
_PAUSES = 3  # as long as the longest so far, after which nothing more is expected
_SECONDS_UNTIL_WRITTEN = 120.0  # torch's SummaryWriter writes what it holds so often
_LONGEST_SECONDS = 86400.0
GROWING = "still growing"
"""What the reason of a run begins with that was written to a moment ago."""

_A_MOMENT = 1.0  # seconds in which a script writes all its points, and no training does

Contents = Mapping[Path, Events]
"""The content of the event files of each folder."""


@dataclass(frozen=True)
class EventFolder:
    """A folder with event files, or one that holds the parts of a run."""

    path: Path
    root: Path  # the folder that was searched when it was found
    parts: Sequence[Path] = ()  # folders below it that belong to the same run


def read_event_runs(
    folders: Sequence[EventFolder], naming: Naming, now: float | None = None
) -> Reading:
    """Read other people's runs; UsageError if the naming fits none of them.

    Those that wrote something shortly before ``now``, in seconds since 1970, are still growing.
    """
    known = {each.path: read_events(each.path) for each in folders}
    folded = fold(folders, known)
    names = _names_below(folded)
    if folded and not any(naming.fits(name) for _, name in names):
        raise UsageError(
            f"--group matches none of {len(folded)} runs, such as {printable(str(folded[0].path))}."
        )
    found: list[tuple[EventFolder, Found, Contents]] = []
    problems: list[str] = []
    for each, (root, name) in zip(folded, names, strict=True):
        if not naming.fits(name):
            problems.append(f"{each.path}: its name does not match --group, so it is left out.")
            continue
        contents = {path: known[path] for path in (each.path, *each.parts) if path in known}
        problems += [problem for events in contents.values() for problem in events.problems]
        if any(events.scalars for events in contents.values()):
            options = side_options(each.path, each.root)
            for events in contents.values():
                options |= events.options
            found.append((each, Found(root, name, options), contents))
        else:
            problems.append(f"{each.path}: there are no scalars in its event files.")
    named, doubts = naming.read([run for _, run, _ in found])
    now = time.time() if now is None else now
    runs = _with_outcomes(
        [
            _run(each, name, contents, now)
            for (each, _, contents), name in zip(found, named, strict=True)
        ]
    )
    problems += [f"{r.folder}: {r.reason}." for r in runs if r.reason.startswith(GROWING)]
    return Reading(runs, [*problems, *doubts])


def _names_below(folders: Iterable[EventFolder]) -> list[tuple[str, Name]]:
    """For each folder a name of what was searched, and that of its path below it.

    A run alone counts as found in the folder around it. What was searched has the last part of its
    path for a name, or the whole where another has that.
    """
    places = []
    for each in folders:
        root = each.root.resolve()
        is_alone = each.path == each.root
        below = PurePath(root.name) if is_alone else each.path.relative_to(each.root)
        places.append((root.parent if is_alone else root, Name.of(below.as_posix())))
    roots = {root for root, _ in places}
    alike = Counter(root.name for root in roots)
    return [(root.name if alike[root.name] == 1 else str(root), name) for root, name in places]


def _run(folder: EventFolder, named: Named, contents: Contents, now: float) -> Run:
    """A run, unfinished if its last values are not those of its end."""
    scalars = [each for events in contents.values() for each in events.scalars.values()]
    having = [events for events in contents.values() if events.scalars]
    # 0 is what some programs write for nothing.
    begins = [events.begin for events in having if events.begin]
    begin = min([*(float(each.wall_times[0]) for each in scalars), *begins])
    curves: dict[str, Curve] = {}
    for path, events in contents.items():
        is_part = path != folder.path
        tags = list(events.scalars)
        names = _part_names(path, folder.path, tags) if is_part else standard_names(tags)
        for tag, name in names.items():
            name = printable(name)
            if name in curves:
                name = printable(f"{tag} ({path.relative_to(folder.path).as_posix()})")
            steps, seconds = events.scalars[tag].steps, events.scalars[tag].wall_times - begin
            values, own = events.scalars[tag].values, "" if is_part else tag
            curves[name] = Curve(steps, steps, seconds, values, has_epochs=False, tag=own)
    run = Run(
        folder.path, named.group, named.seed, Outcome.FINISHED, "", curves, parts=folder.parts
    )
    if not all(events.whole for events in contents.values()):
        at = f"{_last_step(run):.0f}"
        why = f"its event files cannot be read to their ends, from step {at} on"
    else:
        why = _growing(run, max(float(each.wall_times[-1]) for each in scalars), now)
    return replace(run, outcome=Outcome.UNFINISHED, reason=why) if why else run


def fold(folders: Sequence[EventFolder], known: Contents) -> list[EventFolder]:
    """Put the folders of each run together, in the order in which they come."""
    roots = {each.path: each.root for each in folders}
    owners = {path: owner for path in roots if (owner := _owner(path, roots, known[path]))}
    owners |= _owners_of_sets([path for path in roots if path not in owners], roots)
    parts: dict[Path, list[Path]] = {}
    for path in roots:
        run = path
        while run in owners:
            run = owners[run]
        parts.setdefault(run, []).extend([path] if run != path else [])
    return [
        EventFolder(run, roots[run] if run in roots else roots[below[0]], tuple(below))
        for run, below in parts.items()
    ]


def _owner(path: Path, roots: Mapping[Path, Path], events: Events) -> Path | None:
    """The run of which a folder below it holds scalars or hyperparameters; None if it has none."""
    above = next((each for each in path.parents if each in roots), None)
    if path == roots[path] or above is None:
        return None
    below = path.relative_to(above).as_posix()
    are_last = events.options and all(len(s.steps) == 1 for s in events.scalars.values())
    are_keys = events.scalars and all(_key(below, tag) for tag in events.scalars)
    return above if _UNIX_TIME.fullmatch(below) or are_last or are_keys else None


def _owners_of_sets(paths: Sequence[Path], roots: Mapping[Path, Path]) -> dict[Path, Path]:
    """The run of each folder that is named as a part of the data; one among others is a run."""
    beside: dict[Path, list[str]] = defaultdict(list)
    for path in paths:
        beside[path.parent].append(path.name.lower())

    def are_sets(names: Sequence[str]) -> bool:
        sets = {SETS[name] for name in names if name in SETS}
        return len(sets) > 1 or all(name in SETS for name in names)

    return {
        path: path.parent
        for path in paths
        if path.name.lower() in SETS
        and path != roots[path]
        and (path.parent in roots or are_sets(beside[path.parent]))
    }


def _part_names(part: Path, run: Path, tags: Sequence[str]) -> dict[str, str]:
    """Names for the metrics in a part of a run, by tag."""
    if part.name.lower() in SETS:
        return {tag: name_in_set(part.name, tag) for tag in tags}
    below = part.relative_to(run).as_posix()
    return {
        tag: standard_name(f"{tag}/{key}" if (key := _key(below, tag)) else tag) for tag in tags
    }


def _key(below: str, tag: str) -> str:
    """The key of a scalar that ``add_scalars`` wrote; empty if it did not write it."""
    for start in (f"{tag.replace('/', '_')}_", f"{tag}/"):
        if below.startswith(start):
            return below.removeprefix(start)
    return ""


def _with_outcomes(runs: Sequence[Run]) -> list[Run]:
    """Tell which runs have diverged, and which that seem to grow have ended.

    One that has come to the very step at which others of its group ended has ended, too.
    """
    ends: dict[Group, set[float]] = defaultdict(set)
    for run in runs:
        if run.outcome is Outcome.FINISHED:
            ends[run.group].add(_last_step(run))
    found = []
    for run in runs:
        if why := _why_diverged(run):
            run = replace(run, outcome=Outcome.DIVERGED, reason=why)
        elif run.outcome is Outcome.UNFINISHED and _last_step(run) in ends[run.group]:
            run = replace(run, outcome=Outcome.FINISHED, reason="")
        found.append(run)
    return found


def _why_diverged(run: Run) -> str:
    for name, curve in run.curves.items():
        is_loss = "loss" in re.split(r"[^a-z]+", name.lower()) or name.lower().endswith("loss")
        if is_loss and not np.isfinite(curve.values[-1]):
            return f"{name} is {curve.values[-1]:g} at its last step, {curve.steps[-1]:.0f}"
    return ""


def _last_step(run: Run) -> float:
    return max(float(curve.steps[-1]) for curve in run.curves.values())


def _growing(run: Run, last: float, now: float) -> str:
    """Tell that a run is still growing, as its ``last`` point was made a short time before ``now``.

    That is measured by how often it writes.
    """
    seconds = np.unique(np.concatenate([curve.seconds for curve in run.curves.values()]))
    longest = _PAUSES * float(np.diff(seconds, prepend=0.0).max())
    pause = max(longest, min(float(seconds[-1]), _SECONDS_UNTIL_WRITTEN))
    age = abs(now - last)
    if seconds[-1] < _A_MOMENT or age > min(pause, _LONGEST_SECONDS):
        return ""
    return f"{GROWING}: at step {_last_step(run):.0f}, {age:.0f} seconds ago"


def side_options(run: Path, root: Path) -> dict[str, Option]:
    """Return the hyperparameters that tools put into a run's folder, or above it below ``root``."""
    folders = [run, *(folder for folder in run.parents if root in folder.parents)]
    options: dict[str, Option] = {}
    for folder in folders:
        for name in _OPTION_FILES:
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
