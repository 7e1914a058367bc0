"""Copies of what data sets read, such as on the disk of the node that trains."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from deltagclip_cli.core import DataError, load_target, open_file
from deltagclip_cli.parts.datasets.dataset_locks import locked

if TYPE_CHECKING:
    from deltagclip_cli.spec.schema import Data

Loader = TypeVar("Loader", bound=Callable[..., Any])

_LOG = logging.getLogger("deltagclip_cli")
_PATIENCE_S = 3600
_CHUNK_BYTES = 16 * 2**20


def reading(files: Callable[..., Sequence[str]]) -> Callable[[Loader], Loader]:
    """Say what a loader reads, which a copy of its data set must hold.

    Args:
        files: called with the arguments of the loader; gives the names, relative to the root, of
            the files that are copied, and of folders, which are only linked to. Raises DataError
            if something is missing. A loader that is not marked reads nothing.
    """

    def marked(loader: Loader) -> Loader:
        loader.files = files  # type: ignore[attr-defined]
        return loader

    return marked


def folder_of(data: Data, root: Path) -> Path | None:
    """The folder that a data set lies in; None if it has no files.

    Raises:
        DataError: it is not there.
    """
    names = _read_by(data, root)
    if not names:
        return None
    first = root / names[0]
    return first if first.is_dir() else first.parent


def copied(data: Sequence[Data], source: Path, target: Path) -> Path:
    """Copy what loading these data sets reads to another folder, and return that folder.

    Files that are there with the size and time of the original are kept; a file appears when it is
    whole. Of several processes that do this at once one works and the others wait.

    Args:
        data: the data sets.
        source: the data folder that has them.
        target: the data folder to load them from; made if it is not there.

    Raises:
        DataError: something is missing in the source, or cannot be written in the target.
    """
    names = sorted({name for each in data for name in _read_by(each, source)})
    if not names:
        return target
    current = target
    try:
        target.mkdir(parents=True, exist_ok=True)
        if target.samefile(source):
            return target
        with locked(target / ".copying.lock", "copying data there", _PATIENCE_S):
            for name in names:
                current = target / name
                _bring(source / name, current)
    except OSError as error:
        raise _not_copied(current, source, error) from error
    return target


def _read_by(data: Data, root: Path) -> Sequence[str]:
    files: Callable[..., Sequence[str]] | None = getattr(load_target(data.target), "files", None)
    return files(root, data.image_size, **data.options) if files else []


def _bring(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # One name, since the lock is held: what a killed process left is removed by the next.
    temporary = target.with_name(f".{target.name}.copying")
    temporary.unlink(missing_ok=True)
    try:
        (_link if source.is_dir() else _copy)(source, target, temporary)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _link(source: Path, target: Path, temporary: Path) -> None:
    if target.exists() and target.samefile(source):
        return
    if target.exists() and not target.is_symlink():
        raise FileExistsError(errno.EEXIST, "another one is there already")
    temporary.symlink_to(source.resolve())
    temporary.replace(target)


def _copy(source: Path, target: Path, temporary: Path) -> None:
    with open_file(source) as original:
        status = os.fstat(original.fileno())
        if _is_copied(target, status):
            return
        _LOG.info("copying %s to %s", source, target)
        with temporary.open("xb") as copy:
            shutil.copyfileobj(original, copy, _CHUNK_BYTES)
            copy.flush()
            os.fsync(copy.fileno())
    os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
    temporary.replace(target)


def _is_copied(target: Path, original: os.stat_result) -> bool:
    try:
        copy = target.stat()
    except FileNotFoundError:
        return False
    return (copy.st_size, copy.st_mtime_ns) == (original.st_size, original.st_mtime_ns)


def _not_copied(file: Path, source: Path, error: OSError) -> DataError:
    at = f" ({error.filename})" if error.filename else ""
    return DataError(
        f"{file}: cannot be copied there from {source}: {error.strerror or error}{at}.\n"
        "  Free space there or name another folder; or leave out local_data, and the data are "
        "read where they are."
    )
