"""From words on the command line to a comparison, on the terminal or in a file."""

from __future__ import annotations

import io
import shlex
import stat
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.progress import track

from deltagclip_cli.core import ExitCode, NotYetError, UsageError, subfolders, write_text
from deltagclip_cli.results.compare.answer import Answer, Request, answer
from deltagclip_cli.results.compare.export import csv_text, json_text
from deltagclip_cli.results.compare.markup import latex, markdown
from deltagclip_cli.results.read.cache import EventCache, default_cache_folder
from deltagclip_cli.results.read.grouping import Naming
from deltagclip_cli.results.read.run import Outcome, Reading, Run
from deltagclip_cli.results.read.tree import read_tree
from deltagclip_cli.spec.faults import nearest
from deltagclip_cli.spec.load import experiment_names
from deltagclip_cli.terminal.compare_view import print_sheets
from deltagclip_cli.terminal.console import COLUMNS_OF_FILES, Console, make_console
from deltagclip_cli.terminal.streams import write_json

_MOST_PROBLEMS = 20


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

    def _folder(self, target: str) -> Path:
        is_name = target == Path(target).name != ".."  # no path that leads out of the runs folder
        for path in ([self.runs / target] if is_name else []) + [Path(target)]:
            if target and _is_folder(path):
                return path
        if target in (specified := experiment_names(self.spec)):
            raise self.not_begun()
        there = list(dict.fromkeys([*_names(self.runs), *specified]))
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


def _names(path: Path) -> list[str]:
    with suppress(OSError):
        return subfolders(path)
    return []


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # of a name that none can have
        return False
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}.") from None


def read_runs(place: Place, *, quiet: bool = False) -> Reading:
    """Read every run of a place.

    Raises:
        UsageError: there are none.
        NotYetError: there are none yet, but run folders were made for them, and nothing is wrong.
    """
    folders = place.folders()
    naming = Naming(place.pattern)
    console = make_console(stderr=True)

    def watch(runs: Sequence[Any]) -> Iterable[Any]:
        disable = quiet or not console.is_terminal or not runs
        return track(runs, "reading", console=console, transient=True, disable=disable)

    reading = read_tree(folders, naming, EventCache(default_cache_folder()), watch)
    if not (reading.runs or reading.problems) and any(
        any(each.glob("**/seed-*-*/")) for each in folders
    ):
        raise place.not_begun()
    if not reading.runs:
        where = ", ".join(map(str, folders))
        problems = "".join(f"\n  {each}" for each in reading.problems[:_MOST_PROBLEMS])
        raise UsageError(
            f"{where}: there are no runs.\n  A run is a folder with trial.yaml, or with event files"
            f" of TensorBoard.{problems}"
        )
    if place.pattern is not None and all(run.group.is_ours for run in reading.runs):
        unused = "--group names the runs of other programs; here are run folders only."
        return replace(reading, problems=[*reading.problems, unused])
    return reading


def not_ended(runs: Sequence[Run]) -> str:
    """What is said where no run has come to its end: how far they are."""
    epochs = [
        curve.epochs[-1] for run in runs for curve in run.curves.values() if len(curve.epochs)
    ]
    far = f" (the longest is at epoch {max(epochs):g})" if epochs else ""
    return f"No run has come to its end yet{far}; deltagclip status shows how far they are."


def compare_and_write(
    place: Place, request: Request, format_: str, output: Path | None, *, quiet: bool
) -> ExitCode:
    """Compare the runs of a place, and write what came of it.

    Args:
        place: where the runs are.
        request: what is asked.
        format_: ``table``, ``csv``, ``json``, ``markdown`` or ``latex``.
        output: the file; None for the terminal.
        quiet: show no progress.

    Returns:
        ``FAILED`` if no run has come to its end, so that there is nothing to compare.

    Raises:
        UsageError: there are no runs, or they do not have what is asked for.
        NotYetError: no run has come to the end of its first epoch.
    """
    reading = read_runs(place, quiet=quiet)
    found = answer(reading, request)
    if output is None and format_ == "table":
        print_sheets(make_console(), found.sheets())
    elif output is None:
        write = write_json if format_ == "json" else sys.stdout.write
        write(_text(found, format_))
    else:
        _write(output, _text(found, format_))
    tell(found.problems)
    values = any(row.values for each in found.comparisons for row in each.rows)
    if values or any(run.outcome is Outcome.DIVERGED for run in reading.runs):
        return ExitCode.OK
    tell([not_ended(reading.runs)])
    return ExitCode.FAILED


def _text(found: Answer, format_: str) -> str:
    match format_:
        case "csv":
            return csv_text(found)
        case "json":
            return json_text(found)
        case "markdown":
            return markdown(found.sheets())
        case "latex":
            return latex(found.sheets())
    file = io.StringIO()
    console = Console(file=file, width=COLUMNS_OF_FILES, highlight=False, color_system=None)
    print_sheets(console, found.sheets())
    return file.getvalue()


def _write(output: Path, text: str) -> None:
    try:
        write_text(output, text)
    except (OSError, ValueError) as error:  # ValueError of a name such as '' or '.'
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"--output {output}: cannot be written: {why}.") from None


def tell(problems: Sequence[str], *, all_in: str = "--json") -> None:
    """Say what is in doubt, to stderr: stdout may be a file for a program.

    Args:
        problems: a sentence each; of very many, only the first are said.
        all_in: what has all of them.
    """
    console = make_console(stderr=True)
    for problem in problems[:_MOST_PROBLEMS]:
        console.print(problem, style="yellow", soft_wrap=True)
    if len(problems) > _MOST_PROBLEMS:
        more = len(problems) - _MOST_PROBLEMS
        console.print(f"and {more} more of these; {all_in} has all", style="yellow")
