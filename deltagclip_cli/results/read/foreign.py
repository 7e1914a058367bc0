"""Other people's runs, by their logs: event files of TensorBoard, CSV files, W&B, MLflow.

Some writers of event files put folders below that of their run, which are parts of it::

    run/train, run/validation    Keras' callback: the set that its metrics are of
    run/<tag>_<key>              SummaryWriter.add_scalars: a scalar for each key
    run/1700000000.25            SummaryWriter.add_hparams: hyperparameters, and last metrics
"""

from __future__ import annotations

import math
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np

from deltagclip_cli.core import UsageError, listed, plural, printable
from deltagclip_cli.results.read.found_logs import FoundLog
from deltagclip_cli.results.read.names import Found, Name
from deltagclip_cli.results.read.run import (
    SETS,
    Curve,
    Group,
    Outcome,
    Reading,
    Run,
    name_in_set,
    standard_name,
    standard_names,
)
from deltagclip_cli.results.read.side_files import side_options

if TYPE_CHECKING:
    from deltagclip_cli.results.read.grouping import Named, Naming
    from deltagclip_cli.results.read.log import Log

_DRAWN = re.compile(r"([a-z]+-[a-z]+)-\d{1,3}")
_SECONDS_FRESH = 60.0
_UNIX_TIME = re.compile(r"1\d{9}(?:\.\d+)?")
_PAUSES = 3  # as long as the longest so far, after which nothing more is expected
_SECONDS_UNTIL_WRITTEN = 120.0  # torch's SummaryWriter writes what it holds so often
_LONGEST_SECONDS = 86400.0
GROWING = "still growing"
"""What the reason of a run begins with that was written to a moment ago."""

_BROKEN = "its log cannot be read to its end"  # of which its problems tell
_A_MOMENT = 1.0  # seconds in which a script writes all its points, and no training does

Contents = Mapping[Path, "Log"]
"""The content of the log at each path."""


def read_foreign_runs(
    logs: Sequence[FoundLog], naming: Naming, now: float | None = None
) -> Reading:
    """Read other people's runs; UsageError if the naming fits none of them.

    Those that wrote something shortly before ``now``, in seconds since 1970, are still growing.
    """
    known = {each.path: each.content() for each in logs}
    folded = fold(_outermost(logs, known), known)
    names = _names(folded, known)
    if folded and not any(naming.fits(name) for _, name in names):
        raise UsageError(
            f"--group matches none of {len(folded)} runs, such as {printable(str(folded[0].path))}."
        )
    found: list[tuple[FoundLog, Found, Contents]] = []
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
            file = each.path if each.file_name else None
            found.append((each, Found(root, name, options, file), contents))
        elif all(log.whole and not log.problems for log in contents.values()):
            problems.append(f"{each.path}: there are no scalars in its log.")
    named, doubts = naming.read([run for _, run, _ in found])
    now = time.time() if now is None else now
    runs = _with_outcomes(
        [
            _run(each, name, contents, now)
            for (each, _, contents), name in zip(found, named, strict=True)
        ]
    )
    fresh = [
        run.folder
        for run, (_, _, contents) in zip(runs, found, strict=True)
        if run.outcome is Outcome.FINISHED and any(_is_fresh(log, now) for log in contents.values())
    ]
    runs = _behind(runs, fresh)
    problems += [
        f"{run.folder}: {run.reason}."
        for run in runs
        if run.outcome is Outcome.UNFINISHED and not run.reason.startswith(_BROKEN)
    ]
    if fresh := [run.folder for run in runs if run.folder in fresh and not run.reason]:
        problems.append(_on_fresh(fresh))
    return Reading(runs, [*dict.fromkeys(problems), *doubts, *_on_late_beginnings(runs)])


def _outermost(logs: Sequence[FoundLog], known: Contents) -> list[FoundLog]:
    """Leave out logs among the files of a run whose own log tells all; without one, they tell."""
    complete = {each.path for each in logs if each.is_complete}
    telling = {path for path in complete if known[path].scalars}
    holding = complete.intersection(chain.from_iterable(each.path.parents for each in logs))
    ids = {path.name for path in telling}  # of MLflow, whose files of a run may lie elsewhere
    return [
        each
        for each in logs
        if ids.isdisjoint(parent.name for parent in each.path.parents)
        and (each.path in telling or each.path not in holding)
    ]


def _names(logs: Sequence[FoundLog], known: Contents) -> list[tuple[str, Name]]:
    """For each log a name of what was searched, and that of its path below it.

    A run alone counts as found in the folder around it. What was searched has the last part of its
    path for a name, or the whole where another has that. What a log calls itself goes before.
    """
    given = without_random_names(
        {each.path: known[each.path] for each in logs if each.path in known}
    )
    experiments = {path: log.experiment for path, log in known.items()}
    places = []
    for each in logs:
        root = each.root.resolve()
        is_alone = each.path == each.root
        below = PurePath(root.name) if is_alone else each.path.relative_to(each.root)
        if each.file_name:
            below = below.with_name(each.file_name)
        if each.named_below is not None:
            above = PurePath()
            if each.named_below.is_relative_to(each.root):
                above = each.named_below.relative_to(each.root)
            below = above / given.get(each.path, each.path.name).strip("/")
        places.append((root.parent if is_alone else root, Name.of(below.as_posix())))
    alike = Counter(root.name for root in {root for root, _ in places})
    roots = [root.name if alike[root.name] == 1 else str(root) for root, _ in places]
    return [
        (experiments.get(each.path) or root, name)
        for each, root, (_, name) in zip(logs, roots, places, strict=True)
    ]


def without_random_names(logs: Mapping[Path, Log]) -> dict[Path, str]:
    """Return what logs call their runs, but for names that MLflow has drawn.

    Those are two words and a number, of which no two are alike in the words. Without other names,
    what a run was told to do says more.
    """
    names = {path: log.name for path, log in logs.items() if log.name}
    drawn = {path: found[1] for path, name in names.items() if (found := _DRAWN.fullmatch(name))}
    alike = Counter(drawn.values())
    return {
        path: name
        for path, name in names.items()
        if not (path in drawn and alike[drawn[path]] == 1 and logs[path].options)
    }


def _run(folder: FoundLog, named: Named, contents: Contents, now: float) -> Run:
    """A run, unfinished if its last values are not those of its end."""
    scalars = [each for log in contents.values() for each in log.scalars.values()]
    having = [log for log in contents.values() if log.scalars]
    # 0 is what some programs write for nothing.
    begins = [log.begin for log in having if log.begin]
    begins += [float(each.wall_times[0]) for each in scalars]
    begin = min((each for each in begins if math.isfinite(each)), default=math.nan)
    curves: dict[str, Curve] = {}
    for path, log in contents.items():
        is_part = path != folder.path
        tags = list(log.scalars)
        names = _part_names(path, folder.path, tags) if is_part else standard_names(tags)
        for tag, name in names.items():
            name = printable(name)
            if name in curves:
                name = printable(f"{tag} ({path.relative_to(folder.path).as_posix()})")
            steps, seconds = log.scalars[tag].steps, log.scalars[tag].wall_times - begin
            values, own = log.scalars[tag].values, "" if is_part else tag
            curves[name] = Curve(
                steps, steps, seconds, values, has_epochs=log.counts_epochs, tag=own
            )
    run = Run(
        folder.path, named.group, named.seed, Outcome.FINISHED, "", curves, parts=folder.parts
    )
    ended, reason = next(((log.outcome, log.reason) for log in having if log.outcome), (None, ""))
    if not all(log.whole for log in contents.values()):
        why = f"{_BROKEN}, from step {_last_step(run):.0f} on"
    elif ended is not None and ended is not Outcome.UNFINISHED:
        return replace(run, outcome=ended, reason=reason)
    else:
        why = _growing(run, max(float(each.wall_times[-1]) for each in scalars), now)
        why = why or reason
    return replace(run, outcome=Outcome.UNFINISHED, reason=why) if why else run


def _on_late_beginnings(runs: Sequence[Run]) -> Iterator[str]:
    """Tell of runs that began where another of their group, from the beginning, was under way."""
    groups: dict[Group, list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.group].append(run)
    for group, some in groups.items():
        first = min(some, key=_first_step)
        for run in some:
            if _first_step(run) > max(_first_step(first), _last_step(first) / 2):
                yield (
                    f"{run.folder}: begins at step {_first_step(run):.0f}, and {first.folder}, of"
                    f" {group.name} too, at {_first_step(first):.0f}. If it goes on from that one,"
                    " n counts one run as two."
                )


def _is_fresh(log: Log, now: float) -> bool:
    """Tell whether a log without times was written to a moment ago."""
    return log.written_at is not None and abs(now - log.written_at) < _SECONDS_FRESH


def _behind(runs: Sequence[Run], fresh: Sequence[Path]) -> list[Run]:
    """Tell which runs still grow, of those whose fresh logs have no times: not the furthest."""
    furthest = max(map(_last_step, runs), default=0.0)
    why = f"{GROWING}: at step {{:.0f}} of {furthest:.0f} that others have come to"
    return [
        replace(run, outcome=Outcome.UNFINISHED, reason=why.format(_last_step(run)))
        if run.folder in fresh and _last_step(run) < furthest
        else run
        for run in runs
    ]


def _on_fresh(paths: Sequence[Path]) -> str:
    """Say that runs may not have ended."""
    return (
        f"{plural(len(paths), 'run')} wrote less than a minute ago"
        f" ({listed([printable(str(each)) for each in paths])}), into files without times that"
        " tell whether that was the end. If it was not, compare again when it has come."
    )


def fold(folders: Sequence[FoundLog], known: Contents) -> list[FoundLog]:
    """Put the folders of each run together, in the order in which they come."""
    logs = {each.path: each for each in folders}
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
        replace(logs.get(run) or FoundLog(run, roots[below[0]]), parts=tuple(below))
        for run, below in parts.items()
    ]


def _owner(path: Path, roots: Mapping[Path, Path], events: Log) -> Path | None:
    """The run of which a folder below it holds scalars or hyperparameters; None if it has none."""
    above = next((each for each in path.parents if each in roots), None)
    if path == roots[path] or above is None:
        return None
    below = path.relative_to(above).as_posix()
    are_last = (
        events.outcome is None
        and events.options
        and all(len(s.steps) == 1 for s in events.scalars.values())
    )
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


def _first_step(run: Run) -> float:
    return min(float(curve.steps[0]) for curve in run.curves.values())


def _last_step(run: Run) -> float:
    return max(float(curve.steps[-1]) for curve in run.curves.values())


def _growing(run: Run, last: float, now: float) -> str:
    """Tell that a run is still growing, as its ``last`` point was made a short time before ``now``.

    That is measured by how often it writes.
    """
    seconds = np.unique(np.concatenate([curve.seconds for curve in run.curves.values()]))
    seconds = seconds[np.isfinite(seconds)]
    if not len(seconds):
        return ""
    longest = _PAUSES * float(np.diff(seconds, prepend=0.0).max())
    pause = max(longest, min(float(seconds[-1]), _SECONDS_UNTIL_WRITTEN))
    age = abs(now - last)
    if seconds[-1] < _A_MOMENT or age > min(pause, _LONGEST_SECONDS):
        return ""
    return f"{GROWING}: at step {_last_step(run):.0f}, {age:.0f} seconds ago"
