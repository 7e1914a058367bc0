"""What ``clean`` removes, asks and says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from deltagclip_cli.core import ClaimedError, ExitCode, UnwritableError, UsageError, memory, plural
from deltagclip_cli.plan.run_status import experiments_in, find_status
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.heartbeat import is_worked_on
from deltagclip_cli.runs.hold import Leftover, hold, leftovers, remove_leftovers
from deltagclip_cli.spec.faults import nearest
from deltagclip_cli.terminal.streams import print_json


@dataclass(frozen=True)
class Cleaning:
    """What is to be removed.

    Args:
        runs: the runs folder.
        experiments: whose run folders; of all, if there are none.
        keep_last: keep the last checkpoint of each trial.
        dry_run: remove nothing.
    """

    runs: Path
    experiments: Sequence[str]
    keep_last: bool
    dry_run: bool


def clean_up(console: Console, wish: Cleaning, *, ask: bool, as_json: bool) -> int:
    """Remove what can go, unless the answer is no, and return the exit code.

    Raises:
        UsageError: there are no runs of one of the experiments.
        typer.Exit: the answer was no.
    """
    problems: list[str] = []
    there = {each: leftovers(each, keep_last=wish.keep_last) for each in _folders(wish, problems)}
    found = {folder: files for folder, files in there.items() if files}
    files = [each for some in found.values() for each in some]
    if not files:
        _say(console, "There is nothing to remove.")
    elif wish.dry_run:
        for folder, some in found.items():
            _say(console, f"{folder.path}: {', '.join(map(_shown, some))}")
        _say(console, f"Would remove {_sum(files)}.")
    else:
        if ask:
            _say(console, f"{_sum(files)} can go.")
            if not typer.confirm("Remove them?", err=as_json):
                raise typer.Exit(ExitCode.FAILED)
        files = list(_removed(found, wish, problems))
        _say(console, f"Removed {_sum(files)}.")
    for each in problems:
        _say(console, each)
    if as_json:
        records = [{"file": str(each.file), "bytes": each.size_bytes} for each in files]
        total = sum(each.size_bytes for each in files)
        print_json(
            {"dry_run": wish.dry_run, "bytes": total, "files": records, "problems": problems}
        )
    return ExitCode.FAILED if problems else ExitCode.OK


def _folders(wish: Cleaning, problems: list[str]) -> Iterator[RunFolder]:
    """Run folders that no process works in, and that are reached without a link."""
    there = experiments_in(wish.runs)
    for name in wish.experiments:
        if name not in there:
            raise UsageError(
                f"{name}: there are no runs of such an experiment in {wish.runs}.\n"
                f"  experiments: {', '.join(there) or 'none'}{nearest(name, there)}"
            )
    seen = find_status(wish.runs, (), wish.experiments or there)
    problems += seen.unlisted
    for each in seen.trials:
        path = each.folder.path
        is_linked = any(part.is_symlink() for part in (path, path.parent, path.parent.parent))
        if not is_linked and not is_worked_on(each.folder):
            yield each.folder


def _removed(
    folders: Iterable[RunFolder], wish: Cleaning, problems: list[str]
) -> Iterator[Leftover]:
    for folder in folders:
        try:
            with hold(folder):
                yield from remove_leftovers(folder, keep_last=wish.keep_last)
        except ClaimedError:  # since it was looked at; then it is in use
            continue
        except UnwritableError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{error.filename}: cannot be removed: {error.strerror}.")


def _shown(each: Leftover) -> str:
    return f"{each.file.name} ({memory(each.size_bytes)})"


def _sum(files: Sequence[Leftover]) -> str:
    return f"{plural(len(files), 'file')}, {memory(sum(each.size_bytes for each in files))}"


def _say(console: Console, line: str) -> None:
    console.print(Text(line), soft_wrap=True)
