"""The logs of other people's runs in a folder: which files are one, and who reads it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deltagclip_cli.results.read.csv_logs import CsvFile, read_csv_files
from deltagclip_cli.results.read.csv_runs import csv_runs
from deltagclip_cli.results.read.events import read_events
from deltagclip_cli.results.read.mlflow_logs import (
    DATABASES,
    META,
    is_mlflow_run,
    read_mlflow_database,
    read_mlflow_run,
)
from deltagclip_cli.results.read.wandb_logs import read_wandb_log

if TYPE_CHECKING:
    from deltagclip_cli.results.read.log import Log


@dataclass(frozen=True)
class FoundLog:
    """The log of a run, or a folder that holds the parts of one."""

    path: Path  # the folder of the run, or a file that is one among those of others
    root: Path  # the folder that was searched when it was found
    parts: Sequence[Path] = ()  # folders below it that belong to the same run
    read: Callable[[Path], Log] = read_events
    source: Path | None = None  # what is read; None for the path
    file_name: str = ""  # what the path says of the run in its last part, if it is that of a file
    # the folder below which the log's own name for its run is one; None where logs have no names
    named_below: Path | None = None
    is_complete: bool = False  # whether what lies below the path is of the same run, if anything

    def content(self) -> Log:
        """Read it; of what is damaged, as much as can be read."""
        return self.read(self.source or self.path)


def logs_in(
    folder: Path, root: Path, files: Collection[str], problems: dict[str, None]
) -> Iterator[FoundLog]:
    """Yield the logs that lie in a folder itself; CSV files only where there is nothing better.

    Args:
        problems: gets a sentence for each file of several runs that cannot be read, and for files
            that count as several runs and may be one.
    """
    if any("tfevents" in name for name in files):
        yield FoundLog(folder, root)
    elif wandb := [name for name in files if name.endswith(".wandb")]:
        source = folder / min(wandb)
        yield FoundLog(
            folder, root, (), read_wandb_log, source, named_below=folder.parent, is_complete=True
        )
    elif META in files and is_mlflow_run(folder):
        store = folder.parent.parent
        yield FoundLog(
            folder, root, (), read_mlflow_run, named_below=store.parent, is_complete=True
        )
    else:
        for name in sorted({*files} & {*DATABASES}):
            runs, told = read_mlflow_database(folder / name)
            problems.update(dict.fromkeys(told))
            for key, log in runs.items():
                place, read = folder / name / key, partial(_known, log)
                yield FoundLog(place, root, (), read, named_below=folder, is_complete=True)
        for name in sorted(files):
            if name.lower().endswith((".csv.gz", ".tsv.gz")):
                said = f"{folder / name}: is compressed, and so not read; unpack it: gunzip."
                problems[said] = None
        tables = [name for name in files if name.lower().endswith((".csv", ".tsv"))]
        for run in csv_runs(folder, tables, problems):
            path = run.files[0].path if run.name else folder
            yield FoundLog(path, root, read=partial(_read_csv, run.files), file_name=run.name)


def _known(log: Log, path: Path) -> Log:
    return log


def _read_csv(files: Sequence[CsvFile], path: Path) -> Log:
    return read_csv_files(files)
