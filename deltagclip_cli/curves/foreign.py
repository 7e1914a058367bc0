"""Other people's runs: any folder with TensorBoard's event files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np

from deltagclip_cli.curves.cache import EventCache
from deltagclip_cli.curves.events import Events
from deltagclip_cli.curves.naming import Named, Naming, standard_names
from deltagclip_cli.curves.points import Scalars
from deltagclip_cli.curves.run import Curve, Group, Outcome, Reading, Run, Watch
from deltagclip_cli.errors import UsageError
from deltagclip_cli.wording import printable


@dataclass(frozen=True)
class EventFolder:
    """A folder with event files.

    Args:
        path: of the folder.
        root: the folder that was searched when it was found.
    """

    path: Path
    root: Path


def read_event_runs(
    folders: Sequence[EventFolder], naming: Naming, cache: EventCache, watch: Watch = iter
) -> Reading:
    """Read other people's runs.

    Nothing tells which of them were finished: those that are as long as the longest of their group
    count as that, unless a loss is not finite at its end.

    Raises:
        UsageError: the naming fits none of them.
    """
    named = {each: naming.read(*place) for each, place in _places(folders).items()}
    if folders and not any(named.values()):
        raise UsageError(
            f"--group matches none of {len(folders)} runs, such as"
            f" {printable(str(folders[0].path))}."
        )
    runs: list[Run] = []
    problems: list[str] = []
    for each, name in watch(list(named.items())):
        if name is None:
            problems.append(f"{each.path}: its name does not match --group, so it is left out.")
            continue
        events = cache.read(each.path)
        problems += events.problems
        if events.scalars:
            runs.append(_run(each.path, name, events))
        else:
            problems.append(f"{each.path}: there are no scalars in its event files.")
    return Reading(_with_outcomes(runs), problems)


def _places(folders: Iterable[EventFolder]) -> dict[EventFolder, tuple[str, PurePath]]:
    """For each folder a name of what was searched, and its path below that.

    A run alone counts as found in the folder around it.
    """
    roots = {}
    for each in folders:
        root = each.root.resolve()
        roots[each] = root.parent if each.path == each.root else root
    names = _names(set(roots.values()))
    return {
        each: (
            names[root],
            PurePath(each.root.resolve().name)
            if each.path == each.root
            else each.path.relative_to(each.root),
        )
        for each, root in roots.items()
    }


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


def _run(path: Path, named: Named, events: Events) -> Run:
    names = standard_names(events.scalars)
    first = min(float(each.wall_times[0]) for each in events.scalars.values())
    begin = min(first, events.begin or first)  # 0 is what some programs write for nothing
    curves = {printable(names[tag]): _curve(each, begin) for tag, each in events.scalars.items()}
    seed: Hashable = named.seed if named.seed is not None else path
    return Run(path, named.group, seed, Outcome.FINISHED, "", curves)


def _curve(scalars: Scalars, begin: float) -> Curve:
    return Curve(scalars.steps, scalars.steps, scalars.wall_times - begin, scalars.values)


def _with_outcomes(runs: list[Run]) -> list[Run]:
    longest: dict[Group, float] = defaultdict(float)
    for run in runs:
        longest[run.group] = max(longest[run.group], _last_step(run))
    return [_with_outcome(run, longest[run.group]) for run in runs]


def _with_outcome(run: Run, longest: float) -> Run:
    last = _last_step(run)
    for name, curve in run.curves.items():
        is_telling = last < longest or name.rpartition("/")[2].endswith("loss")
        if is_telling and not np.isfinite(curve.values[-1]):
            at = curve.steps[-1]
            reason = f"{name} is {curve.values[-1]:g} at its last step, {at:.0f}"
            return replace(run, outcome=Outcome.DIVERGED, reason=reason)
    if last >= longest:
        return run
    reason = f"ends at step {last:.0f}, others of the group at {longest:.0f}"
    return replace(run, outcome=Outcome.UNFINISHED, reason=reason)


def _last_step(run: Run) -> float:
    return max(float(curve.steps[-1]) for curve in run.curves.values())
