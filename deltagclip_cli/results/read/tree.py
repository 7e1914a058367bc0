"""Every run that a command was asked about: of an experiment, or below a folder."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from deltagclip_cli.core import NotYetError, UsageError, printable, subfolders
from deltagclip_cli.results.read.events import EventCache, default_cache_folder
from deltagclip_cli.results.read.foreign import EventFolder, read_event_runs
from deltagclip_cli.results.read.grouping import Naming
from deltagclip_cli.results.read.run import Reading, Watch
from deltagclip_cli.results.read.run_folders import read_trials
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.faults import nearest
from deltagclip_cli.spec.load import experiment_names

_MOST_PROBLEMS = 20
_TRIAL_FILE = RunFolder(Path()).trial_file.name


@dataclass(frozen=True)
class Place:
    """Where the runs are.

    Args:
        targets: names of experiments in ``runs``, or folders; all experiments if empty.
        runs: the runs folder.
        pattern: how other people's runs are named; None for the usual ways.
        spec: knows experiments that have no runs yet.
    """

    targets: Sequence[str]
    runs: Path
    pattern: str | None = None
    spec: Path = Path("experiments.yaml")

    def folders(self) -> list[Path]:
        """The folders to search.

        Raises:
            UsageError: one of them does not exist.
            NotYetError: it is that of an experiment which was not begun.
        """
        if not self.targets and not _is_folder(self.runs):
            raise UsageError(
                f"{self.runs}: there is no such folder.\n"
                "  Name a folder with runs, or the runs folder with --runs DIR."
            )
        return [self._folder(target) for target in self.targets] or [self.runs]

    def read(self, watch: Watch = iter) -> Reading:
        """Read every run there.

        Args:
            watch: follows the reading of our runs, and then of the others.

        Raises:
            UsageError: there are none.
            NotYetError: there are none yet, but run folders were made for them, and nothing is
                wrong.
        """
        folders = self.folders()
        naming = Naming(self.pattern)
        reading = read_tree(folders, naming, EventCache(default_cache_folder()), watch)
        if not (reading.runs or reading.problems) and any(
            any(each.glob("**/seed-*-*/")) for each in folders
        ):
            raise self.not_begun()
        if not reading.runs:
            where = ", ".join(map(str, folders))
            problems = "".join(f"\n  {each}" for each in reading.problems[:_MOST_PROBLEMS])
            raise UsageError(
                f"{where}: there are no runs.\n  A run is a folder with trial.yaml, or with event"
                f" files of TensorBoard.{problems}"
            )
        if self.pattern is not None and all(run.group.is_ours for run in reading.runs):
            unused = "--group names the runs of other programs; here are run folders only."
            return replace(reading, problems=[*reading.problems, unused])
        return reading

    def _folder(self, target: str) -> Path:
        is_name = target == Path(target).name != ".."  # no path that leads out of the runs folder
        for path in ([self.runs / target] if is_name else []) + [Path(target)]:
            if target and _is_folder(path):
                return path
        if target in (specified := experiment_names(self.spec)):
            raise self.not_begun()
        begun: list[str] = []
        with suppress(OSError):
            begun = subfolders(self.runs)
        there = list(dict.fromkeys([*begun, *specified]))
        raise UsageError(
            f"{target}: neither an experiment in {self.runs} nor a folder.\n"
            f"  experiments: {', '.join(there) or 'none'}{nearest(target, there)}"
        )

    def not_begun(self) -> NotYetError:
        """What is said where trials are to be run, and none has begun."""
        names = [*self.targets, *(["--runs", str(self.runs)] if str(self.runs) != "runs" else [])]
        how_far = shlex.join(["deltagclip", "status", *names])
        return NotYetError(
            f"{', '.join(self.targets) or self.runs}: no trial has begun yet.\n"
            f"  {how_far} shows how far they are; deltagclip sweep runs them."
        )


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # of a name that none can have
        return False
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}.") from None


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
    seen: set[str] = set()
    problems: dict[str, None] = {}
    for root in roots:
        before = set(seen)
        found = list(_runs(root, seen, problems))
        if not found:  # some programs keep all runs in a hidden folder
            found = list(_runs(root, before, problems, hidden=True))
        ours += [folder for folder, is_ours in found if is_ours]
        others += [EventFolder(folder, root) for folder, is_ours in found if not is_ours]
    trials = read_trials(ours, watch)
    events = read_event_runs(others, naming, cache, watch)
    told = [*problems, *trials.problems, *events.problems]
    return Reading([*trials.runs, *events.runs], [printable(each) for each in told])


def _runs(
    root: Path, seen: set[str], problems: dict[str, None], *, hidden: bool = False
) -> Iterator[tuple[Path, bool]]:
    """The folder of each run in order of the names, and whether it is one of ours."""

    def unlisted(error: OSError) -> None:
        problems[f"{error.filename}: cannot be listed: {error.strerror}."] = None

    for path, folders, files in os.walk(root, onerror=unlisted, followlinks=True):
        resolved = os.path.realpath(path)  # links may go in circles
        is_ours = resolved not in seen and _TRIAL_FILE in files
        if is_ours or (resolved not in seen and any("tfevents" in name for name in files)):
            yield Path(path), is_ours
        if is_ours or resolved in seen:
            folders.clear()
        folders[:] = sorted(name for name in folders if hidden or name[0] != ".")
        seen.add(resolved)
