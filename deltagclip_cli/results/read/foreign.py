"""Other people's runs: any folder with TensorBoard's event files."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path, PurePath

from deltagclip_cli.core import UsageError, printable
from deltagclip_cli.results.read.cache import EventCache
from deltagclip_cli.results.read.endings import Written, on_growth, with_outcomes
from deltagclip_cli.results.read.events import Events, Option
from deltagclip_cli.results.read.folding import EventFolder, fold, part_names
from deltagclip_cli.results.read.grouping import Found
from deltagclip_cli.results.read.metric_names import standard_names
from deltagclip_cli.results.read.name_parts import Name
from deltagclip_cli.results.read.naming import Named, Naming
from deltagclip_cli.results.read.points import Scalars
from deltagclip_cli.results.read.run import Curve, Outcome, Reading, Run, Watch
from deltagclip_cli.results.read.side_files import side_options

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
            curves[name] = _curve(events.scalars[tag], begin)
    seed: Hashable = named.seed if named.seed is not None else folder.path
    return Run(folder.path, named.group, seed, Outcome.FINISHED, "", curves, folder.parts)


def _metrics(path: Path, run: Path, tags: Sequence[str]) -> dict[str, str]:
    """The names of the metrics in a folder of a run, by tag."""
    return standard_names(tags) if path == run else part_names(path, run, tags)


def _curve(scalars: Scalars, begin: float) -> Curve:
    return Curve(scalars.steps, scalars.steps, scalars.wall_times - begin, scalars.values)
