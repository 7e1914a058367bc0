"""Destinations of runs: a table of them, each with the library that it needs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from deltagclip_cli.core import (
    DeltaGClipError,
    ExitCode,
    UsageError,
    claimed,
    is_disk_full,
    load_target,
)
from deltagclip_cli.results.read.run import Run


class Change(StrEnum):
    """The thing that an export has done about a run."""

    WRITTEN = "written"  # anew, whatever was there
    NEW = "new"
    GROWN = "grown"  # what was missing was added
    REPLACED = "replaced"  # it was trained again, or is called otherwise
    SAME = "unchanged"


class Destination(Protocol):
    """A place that runs are exported to, which knows what it has of them."""

    @property
    def where(self) -> str:
        """The place, in words for people."""

    @property
    def next_step(self) -> str:
        """A command that shows or passes on what is there; empty if there is none."""

    def send(self, runs: Sequence[Run]) -> Iterator[Change]:
        """Send each run, as far as it is not there yet; yield what was done, a run each."""


Opens = Callable[[str | None], AbstractContextManager[Destination]]
"""Opens a destination, at a place or at the usual one."""

DESTINATIONS = {
    "parquet": ("deltagclip_cli.export.table_files:parquet_files", "pyarrow"),
    "csv": ("deltagclip_cli.export.table_files:csv_files", "csv"),
    "wandb": ("deltagclip_cli.export.wandb_folders:offline_folders", "wandb"),
    "mlflow": ("deltagclip_cli.export.mlflow_runs:tracking_store", "mlflow"),
    "trackio": ("deltagclip_cli.export.trackio_projects:local_projects", "trackio"),
}
"""By name, what opens a destination and the library that it needs; extras have the same names."""


class ExportStoppedError(DeltaGClipError):
    """A destination takes no more; the same command goes on later."""

    exit_code = ExitCode.STOPPED

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}.\n  The same command goes on where it stopped.")


def open_destination(name: str, place: str | None) -> AbstractContextManager[Destination]:
    """Open a destination of :data:`DESTINATIONS`; UsageError if its library is missing."""
    opens, library = DESTINATIONS[name]
    if find_spec(library) is None:
        raise UsageError(
            f"--to {name}: the library {library} is not installed.\n"
            f"  Install it: pip install 'deltagclip_cli[{name}]'"
        )
    opened: AbstractContextManager[Destination] = load_target(opens)(place)
    return opened


@contextmanager
def held_folder(folder: Path) -> Iterator[Path]:
    """Make a folder, and be the only export that writes in it; yield one in it for what is unready.

    What an export that was killed has left there is removed.
    """
    unready = folder / ".deltagclip.unready"
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(
                claimed(folder / ".deltagclip.lock", f"{folder}: another export writes there.")
            )
            shutil.rmtree(unready, ignore_errors=True)
            unready.mkdir()
        except OSError as error:
            raise write_error(str(folder), error) from None
        stack.callback(shutil.rmtree, unready, ignore_errors=True)
        yield unready


def write_error(where: str, error: OSError) -> DeltaGClipError:
    """Return the error for a place where nothing can be written."""
    if is_disk_full(error):
        return ExportStoppedError(where, f"cannot be written: {error.strerror}; free space there")
    is_file = isinstance(error, FileExistsError)
    why = "a file has that name" if is_file else error.strerror
    return UsageError(
        f"{where}: cannot be written: {why}.\n"
        "  Name another place with --into, or permit writing there."
    )
