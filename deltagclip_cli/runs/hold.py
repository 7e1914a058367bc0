"""A run folder that this process holds: nobody else writes or removes anything there.

What is written beside a training's own files is written by a :class:`HeldFolder`, which only the
holder of the folder's claim has. So none can forget to ask whether it may.
"""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from deltagclip_cli.core import (
    Check,
    RunFolderError,
    UnwritableError,
    claimed,
    unchecked,
    write_text,
)
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.trial import Trial

_TRIES = 5


@dataclass(frozen=True)
class HeldFolder:
    """What the holder of a run folder writes there; made by :func:`hold`."""

    folder: RunFolder

    def keep(self, trial: Trial) -> None:
        """Write ``trial.yaml``, or check that the one that is there is of ``trial``.

        One that means the same is left as it is, whatever its words.

        Raises:
            UnwritableError: it cannot be written.
            RunFolderError: the folder was made from another spec.
        """
        file, written = self.folder.trial_file, trial.model_dump(mode="json")
        try:
            if file.exists():
                self.folder.check(trial)
                if self.folder.trial().model_dump(mode="json") == written:  # in which 0 is 0.0
                    return
            write_text(file, yaml.safe_dump(written, sort_keys=False))
        except OSError as error:
            self._remove_if_empty()
            raise _unwritable(self.folder, error) from error

    def _remove_if_empty(self) -> None:
        with suppress(OSError):  # such as that somebody has removed it
            if os.listdir(self.folder.path) == [self.folder.lock_file.name]:
                self.folder.lock_file.unlink()
                _remove_if_empty(self.folder)

    def clear(self) -> None:
        """Delete everything in the folder but the claim on it.

        Raises:
            RunFolderError: something in it cannot be deleted, or it is a link.
        """
        if self.folder.path.is_symlink():
            raise RunFolderError(
                f"{self.folder.path}: a link, through which nothing is deleted.\n"
                "  Delete the link or where it leads to by hand, and try again."
            )
        try:
            for path in self.folder.path.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path != self.folder.lock_file:
                    path.unlink()
        except OSError as error:
            raise RunFolderError(
                f"{error.filename}: cannot be deleted: {error.strerror}.\n"
                "  Delete the folder by hand, or name another one with --runs DIR."
            ) from None

    def remove_unfinished(self, check: Check = unchecked) -> None:
        """Delete the temporary files of a process that was killed while it wrote them.

        Args:
            check: called before each; raises an error if the folder is another's now.
        """
        for temporary in self.folder.path.glob(".*.part"):
            check()
            temporary.unlink(missing_ok=True)

    def remove_leavings(self) -> None:
        """Remove what a process has left that was killed when the trial had its result."""
        for file in (self.folder.owner_file, self.folder.progress_file):
            file.unlink(missing_ok=True)
        self.remove_unfinished()

    def record_failure(self, error: BaseException, reason: str) -> None:
        """Write ``error.txt``: the first line of the reason, then the traceback."""
        text = "".join(traceback.format_exception(error))
        _record(self.folder.error_file, f"{_first_line(reason)}\n\n{text}")

    def record_stop(self, reason: str) -> None:
        """Write ``stopped.txt``: what ended the last start before its end."""
        _record(self.folder.stopped_file, f"{_first_line(reason)}\n")

    def record_pruning(self, reason: str) -> None:
        """Write ``pruned.txt``: why a search gave the trial up."""
        _record(self.folder.pruned_file, f"{_first_line(reason)}\n")

    def forget_reasons(self) -> None:
        """Delete what earlier starts said about how they ended."""
        for file in (
            self.folder.error_file,
            self.folder.stopped_file,
            self.folder.pruned_file,
        ):
            with suppress(OSError):
                file.unlink()


@contextmanager
def hold(folder: RunFolder, *, make: bool = False) -> Iterator[HeldFolder]:
    """Be the only process that works in a folder.

    The operating system frees the claim when the process ends, however it ends.

    Args:
        folder: which must exist, unless it is to be made.
        make: it, if it is not there.

    Raises:
        ClaimedError: another process holds it.
        UnwritableError: it cannot be made, or nothing can be written there.
    """
    message = (
        f"{folder.path}: another process is working in this run folder.\n"
        "  Wait until it has finished, or stop it: the trial can be continued."
    )
    with ExitStack() as stack:
        for tries_left in reversed(range(_TRIES)):
            try:
                if make:
                    folder.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(claimed(folder.lock_file, message))
                break
            except OSError as error:
                # Another process, for which the disk is full, removes the folder that it has made.
                if make and isinstance(error, FileNotFoundError) and tries_left:
                    continue
                if make:
                    _remove_if_empty(folder)
                raise _unwritable(folder, error) from error
        yield HeldFolder(folder)


def tidy(folder: RunFolder) -> None:
    """Remove what a killed process has left in the folder of a trial that has its result."""
    if folder.owner_file.exists():
        with suppress(RunFolderError, OSError), hold(folder) as held:
            if folder.result() is not None:
                held.remove_leavings()


def create(folder: RunFolder, trial: Trial) -> None:
    """Make a run folder, or check that the one that is there was made for ``trial``.

    Raises:
        ClaimedError, UnwritableError: as :func:`hold`.
        RunFolderError: it was made from another spec.
    """
    with hold(folder, make=True) as held:
        held.keep(trial)


def _unwritable(folder: RunFolder, error: OSError) -> UnwritableError:
    return UnwritableError(
        f"{folder.path}: the run folder cannot be made or written: {error.strerror}.\n"
        "  Free space or permissions there, or name another folder with --runs DIR."
    )


def _remove_if_empty(folder: RunFolder) -> None:
    with suppress(OSError):  # a folder that is not empty stays, and so do those around it
        for path in (folder.path, folder.path.parent, folder.path.parent.parent):
            path.rmdir()


def _record(file: Path, text: str) -> None:
    """Where not even this can be written, the terminal is what remains."""
    with suppress(OSError):
        file.write_text(text, encoding="utf-8", errors="backslashreplace")


def _first_line(reason: str) -> str:
    return reason.partition("\n")[0][:500]
