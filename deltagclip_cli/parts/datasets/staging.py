"""Files of data sets: downloaded once, and copied to where they are read.

One process does it, whole or not at all, while others that want the same wait for it.
"""

from __future__ import annotations

import errno
import logging
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from deltagclip_cli.core import DataError, claimed, file_status, is_claimed

if TYPE_CHECKING:
    from deltagclip_cli.spec.data_settings import Data

_LOG = logging.getLogger("deltagclip_cli")
_PATIENCE_S = 3600


def locked(file: Path, doing: str) -> AbstractContextManager[None]:
    """Hold the lock ``file``, which stays behind, after those who have it now.

    Its folder must exist. DataError if they, ``doing`` what is said, take longer than an hour.
    """
    if is_claimed(file):
        _LOG.info("waiting for another process that is %s", doing)
    message = (
        f"{file.parent}: another process has been {doing} for more than "
        f"{_PATIENCE_S / 60:.0f} minutes.\n"
        "  Wait for it, or end it, and run this again."
    )
    return claimed(file, message, _PATIENCE_S, DataError)


@dataclass(frozen=True)
class Download:
    """The files of a data set below the data folder, and how they are fetched."""

    name: str  # of the data set, for people
    root: Path  # the data folder
    files: Sequence[str]  # their names, relative to it
    # writes all of them below another folder; raises OSError or RuntimeError
    fetch: Callable[[Path], None]

    @property
    def is_complete(self) -> bool:
        """True if all files are there."""
        return all((self.root / name).is_file() for name in self.files)

    def present(self) -> Sequence[str]:
        """The names of the files, all of which are there; else DataError."""
        if not self.is_complete:
            raise self._not_prepared()
        return self.files

    def ensure(self, download: bool) -> None:
        """Fetch the files if some are missing; DataError if they cannot be, or must not."""
        if self.is_complete:
            return
        if not download:
            raise self._not_prepared()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with locked(self.root / f".{self.name}.lock", f"downloading {self.name}"):
                if not self.is_complete:
                    self._fetch()
        except (OSError, RuntimeError) as error:
            raise self._absent(
                f"downloading failed: {error}",
                "Run this again where there is a network, or point --data DIR or $DELTAGCLIP_DATA "
                "to a folder that has them.",
            ) from error

    def _fetch(self) -> None:
        """Download into a folder of its own and move the files over when all of them are there."""
        _LOG.info("downloading %s to %s", self.name, self.root)
        with tempfile.TemporaryDirectory(dir=self.root, prefix=".download-") as folder:
            # A library's bar would be drawn into ours, into pipes, and in spite of --quiet.
            with redirect_stderr(StringIO()):
                self.fetch(Path(folder))
            for name in self.files:
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(Path(folder, name), self.root / name)

    def _not_prepared(self) -> DataError:
        words = ["deltagclip", "data", "prepare", "EXPERIMENT", "--data", str(self.root)]
        return self._absent(
            "nothing is downloaded here",
            f"Run '{shlex.join(words)}' where there is a network, "
            "such as on the login node of a cluster.",
        )

    def _absent(self, reason: str, advice: str) -> DataError:
        expected = "\n".join(f"    {name}" for name in self.files)
        return DataError(
            f"{self.root}: the files of {self.name} are not there, and {reason}.\n"
            f"  expected in that folder:\n{expected}\n  {advice}"
        )


def folder_of(data: Data, root: Path) -> Path | None:
    """The folder that a data set lies in, or DataError; None if it has no files."""
    names = _read_by(data, root)
    if not names:
        return None
    first = root / names[0]
    return first if first.is_dir() else first.parent


def copied(data: Sequence[Data], source: Path, target: Path) -> Path:
    """Copy what loading these data sets reads to another folder, and return that folder.

    Files that are there with the size and time of the original are kept; a file appears when it is
    whole. Of several processes that do this at once one works and the others wait.
    """
    names = sorted({name for each in data for name in _read_by(each, source)})
    if not names:
        return target
    current = target
    try:
        target.mkdir(parents=True, exist_ok=True)
        if target.samefile(source):
            return target
        with locked(target / ".copying.lock", "copying data there"):
            for name in names:
                current = target / name
                current.parent.mkdir(parents=True, exist_ok=True)
                (_link if (source / name).is_dir() else _copy)(source / name, current)
    except OSError as error:
        at = f" ({error.filename})" if error.filename else ""
        raise DataError(
            f"{current}: cannot be copied there from {source}: {error.strerror or error}{at}.\n"
            "  Free space there or name another folder; or leave out local_data, and the data are "
            "read where they are."
        ) from error
    return target


def _read_by(data: Data, root: Path) -> Sequence[str]:
    from deltagclip_cli.parts.datasets.validation import asked_of  # which loads torch

    own = data.own_folder(root)
    if own is not None:
        return [own.name] if own.is_dir() else []
    loader = data.load()
    files: Callable[..., Sequence[str]] | None = loader.files
    return files(root, data.image_size, **asked_of(loader, data)) if files else []


def _link(source: Path, target: Path) -> None:
    if target.exists() and target.samefile(source):
        return
    if target.exists() and not target.is_symlink():
        raise FileExistsError(errno.EEXIST, "another one is there already")
    target.unlink(missing_ok=True)
    target.symlink_to(source.resolve())


def _copy(source: Path, target: Path) -> None:
    """Copy a file, unless one of the same size and time is there."""
    original = file_status(source)
    if target.is_file():
        there = target.stat()
        if (there.st_size, there.st_mtime_ns) == (original.st_size, original.st_mtime_ns):
            return
    _LOG.info("copying %s to %s", source, target)
    # One name, since the lock is held: what a killed process left is written over.
    temporary = target.with_name(f".{target.name}.copying")
    try:
        shutil.copy2(source, temporary)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
