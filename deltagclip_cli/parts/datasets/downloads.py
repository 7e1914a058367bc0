"""Files of a data set that are downloaded once, by one process, whole or not at all."""

from __future__ import annotations

import logging
import os
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from deltagclip_cli.core import DataError
from deltagclip_cli.parts.datasets.dataset_locks import locked

_LOG = logging.getLogger("deltagclip_cli")
_LOCK_PATIENCE_S = 3600


@dataclass(frozen=True)
class Download:
    """The files of a data set below the data folder, and how they are fetched.

    Args:
        name: of the data set, for people.
        root: the data folder.
        files: their names, relative to it.
        fetch: writes all of them below another folder; raises OSError or RuntimeError.
    """

    name: str
    root: Path
    files: Sequence[str]
    fetch: Callable[[Path], None]

    @property
    def is_complete(self) -> bool:
        """Whether all files are there."""
        return all((self.root / name).is_file() for name in self.files)

    def present(self) -> Sequence[str]:
        """The names of the files, all of which are there.

        Raises:
            DataError: some are not.
        """
        if not self.is_complete:
            raise self._not_prepared()
        return self.files

    def ensure(self, download: bool) -> None:
        """Fetch the files if some are missing.

        A failure leaves nothing behind: the folder may be a mistyped one.

        Args:
            download: False where there is no network: what is missing is an error at once.

        Raises:
            DataError: they cannot be fetched.
        """
        if self.is_complete:
            return
        if not download:
            raise self._not_prepared()
        try:
            self._fetch_once()
        except (OSError, RuntimeError) as error:
            raise self._not_fetched(error) from error

    def _fetch_once(self) -> None:
        """Download in one process, while others that want the same data set wait for it."""
        lock = self.root / f".{self.name}.lock"
        with (
            _folder(self.root),
            locked(lock, f"downloading {self.name}", _LOCK_PATIENCE_S),
            _removed_on_failure(lock),
        ):
            if not self.is_complete:
                self._fetch()

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

    def _not_fetched(self, error: Exception) -> DataError:
        return self._absent(
            f"downloading failed: {error}",
            "Run this again where there is a network, or point --data DIR or $DELTAGCLIP_DATA to a "
            "folder that has them.",
        )

    def _absent(self, reason: str, advice: str) -> DataError:
        expected = "\n".join(f"    {name}" for name in self.files)
        return DataError(
            f"{self.root}: the files of {self.name} are not there, and {reason}.\n"
            f"  expected in that folder:\n{expected}\n  {advice}"
        )


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Make a folder, and remove it again, with the parents made for it, if the body fails.

    Those that are not empty by then stay.
    """
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for each in made:
            with suppress(OSError):
                each.rmdir()
        raise


@contextmanager
def _removed_on_failure(lock: Path) -> Iterator[None]:
    """Remove the file of a lock, which is held, if the body fails."""
    try:
        yield
    except BaseException:
        # One who waited may now hold a lock that the next to come does not see. Then both download,
        # each to a folder of its own.
        with suppress(OSError):
            lock.unlink()
        raise
