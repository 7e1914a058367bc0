"""``deltagclip clean``: remove checkpoints that nobody needs any more."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.core import (
    ClaimedError,
    ExitCode,
    UnwritableError,
    UsageError,
    memory,
    nearest,
    plural,
)

if TYPE_CHECKING:
    from rich.console import Console

    from deltagclip_cli.runs.folder import RunFolder


def clean(
    experiments: Annotated[
        list[str] | None, options.experiments("Whose run folders.", options.offer_read_experiments)
    ] = None,
    runs: options.Runs = options.RUNS,
    last: Annotated[
        bool, typer.Option("--last", help="Remove the last checkpoints of ended trials, too.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed, and remove nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Remove checkpoints that nobody needs any more.

    Says how many bytes that frees. Of trials that have ended, all but the last checkpoint; of all,
    halves of files whose process was killed. Nothing that an unfinished trial goes on from, nothing
    where a process works, and nothing behind a link.

    Exit codes: 0 all that could go is gone; 1 something cannot be removed; 2 wrong input.
    """
    from deltagclip_cli.runs.hold import leftovers
    from deltagclip_cli.terminal.console import make_console, print_json

    console = make_console(stderr=as_json)
    console.quiet = quiet
    problems: list[str] = []
    there = {
        folder: leftovers(folder, keep_last=not last)
        for folder in _unused_folders(runs, experiments or (), problems)
    }
    found = {folder: some for folder, some in there.items() if some}
    files = {file: size for some in found.values() for file, size in some.items()}
    if not files:
        _say(console, "There is nothing to remove.")
    elif dry_run:
        for folder, some in found.items():
            names = (f"{file.name} ({memory(size)})" for file, size in some.items())
            _say(console, f"{folder.path}: {', '.join(names)}")
        _say(console, f"Would remove {_sum(files)}.")
    else:
        if not yes and sys.stdin.isatty():
            _say(console, f"{_sum(files)} can go.")
            if not typer.confirm("Remove them?", err=as_json):
                raise typer.Exit(ExitCode.FAILED)
        files = dict(_removed(found, problems, keep_last=not last))
        _say(console, f"Removed {_sum(files)}.")
    for each in problems:
        _say(console, each)
    if as_json:
        total = sum(files.values())
        records = [{"file": str(file), "bytes": size} for file, size in files.items()]
        print_json({"dry_run": dry_run, "bytes": total, "files": records, "problems": problems})
    if problems:
        raise typer.Exit(ExitCode.FAILED)


def _unused_folders(
    runs: Path, experiments: Sequence[str], problems: list[str]
) -> Iterator[RunFolder]:
    """Run folders that no process works in, and that are reached without a link."""
    from deltagclip_cli.plan.planned import experiments_in, find_status
    from deltagclip_cli.runs.folder import is_worked_on

    there = experiments_in(runs)
    for name in experiments:
        if name not in there:
            raise UsageError(
                f"{name}: there are no runs of such an experiment in {runs}.\n"
                f"  experiments: {', '.join(there) or 'none'}{nearest(name, there)}"
            )
    seen = find_status(runs, (), experiments or there)
    problems += seen.unlisted
    for each in seen.trials:
        path = each.folder.path
        is_linked = any(part.is_symlink() for part in (path, path.parent, path.parent.parent))
        if not is_linked and not is_worked_on(each.folder):
            yield each.folder


def _removed(
    folders: Iterable[RunFolder], problems: list[str], *, keep_last: bool
) -> Iterator[tuple[Path, int]]:
    from deltagclip_cli.runs.hold import hold

    for folder in folders:
        try:
            with hold(folder) as held:
                yield from held.remove_leftovers(keep_last=keep_last).items()
        except ClaimedError:  # since it was looked at; then it is in use
            continue
        except UnwritableError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{error.filename}: cannot be removed: {error.strerror}.")


def _sum(files: Mapping[Path, int]) -> str:
    return f"{plural(len(files), 'file')}, {memory(sum(files.values()))}"


def _say(console: Console, line: str) -> None:
    from rich.text import Text

    console.print(Text(line), soft_wrap=True)
