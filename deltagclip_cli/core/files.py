"""Files that are written whole, read whatever they are, and held by one process at a time."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import secrets
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import IO, Protocol

from deltagclip_cli.core.errors import ClaimedError, UnwritableError, UsageError

Check = Callable[[], None]

MOST_BYTES = 16 * 2**20  # of a file that is read whole, unless said otherwise
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def unchecked() -> None:
    """Allow every write: the check of what only one process writes."""


@contextmanager
def written_whole(path: Path, check: Check = unchecked) -> Iterator[IO[bytes]]:
    """A file that appears under its name when it is complete and on the disk, or not at all.

    The temporary file lies in the same folder, for a rename is atomic only within a file system.

    Args:
        path: of the file.
        check: called before anything is written and again before the rename; raises an error if
            that must not be.
    """
    check()
    # Not named by the process: on a shared disk, another machine may have one of that number.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        check()
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_writable(folder: Path) -> None:
    """Make a folder if it is not there, and check that files can be made in it.

    Raises:
        UnwritableError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UnwritableError(
            f"{folder}: nothing can be written there: {error.strerror}.\n"
            "  Free space or permissions there, or name another folder with --runs DIR."
        ) from None


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it comes from, is that a disk or a share of it is used up."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return error is not None and is_disk_full(error.__cause__)


def write_text(path: Path, text: str, check: Check = unchecked) -> None:
    """Write ``text`` as UTF-8, whole or not at all; ``check`` as for :func:`written_whole`."""
    with written_whole(path, check) as file:
        file.write(text.encode())


def subfolders(path: Path) -> list[str]:
    """The names of the folders in a folder, in order, and of links to folders; not of hidden ones.

    Raises:
        OSError: it cannot be listed.
    """
    with os.scandir(path) as entries:
        return sorted(each.name for each in entries if each.name[0] != "." and is_folder(each))


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself
        return False


def open_file(path: Path) -> BufferedReader:
    """Open a file, or what a link to one leads to, for reading.

    Nothing else is opened: a named pipe would never answer, and a device might never end.

    Raises:
        OSError: it is not there, cannot be read, or is no file, as ``strerror`` says.
    """
    file_status(path)
    return open(path, "rb", opener=_without_waiting)


def file_status(path: Path) -> os.stat_result:
    """The status of a file, or of what a link to one leads to.

    Raises:
        OSError: as for :func:`open_file`.
    """
    status = os.stat(path)
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        number = errno.EISDIR if kind == stat.S_IFDIR else errno.EINVAL
        raise OSError(number, f"it is {_KINDS.get(kind, 'something else')}, not a file", str(path))
    return status


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # it may have become a pipe


def read_file(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """The content of a file that may be anybody's.

    Raises:
        OSError: as for :func:`open_file`, or it is larger than any that this program writes there.
    """
    with open_file(path) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        why = f"it is larger than {most_bytes / 2**20:.0f} MiB"
        raise OSError(errno.EFBIG, why, str(path))
    return content


logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 0.5  # asking whether a claim is held holds it for a moment
_SECONDS_BETWEEN_TRIES = 0.05
_HELD = (errno.EAGAIN, errno.EACCES)


class _Hold(Protocol):
    def close(self) -> object: ...


@contextmanager
def claimed(
    file: Path,
    message: str,
    patience: float = _PATIENCE_SECONDS,
    refusal: type[UsageError] = ClaimedError,
) -> Iterator[None]:
    """Be the only process that holds ``file``, whose folder must exist.

    Args:
        file: made if it is not there.
        message: of the error.
        patience: how many seconds to wait for another process.
        refusal: the error.

    Raises:
        ClaimedError: another process goes on holding it.
        OSError: the file cannot be made.
    """
    end = time.monotonic() + patience
    while (hold := _take(file)) is None:
        if time.monotonic() > end:
            raise refusal(message)
        time.sleep(_SECONDS_BETWEEN_TRIES)
    with closing(hold):
        yield


def is_claimed(file: Path) -> bool:
    """Whether a process holds the claim on ``file`` now."""
    try:
        held = open_file(file)  # reading is enough: it may be another user's
    except OSError:  # there is none, or it is not to be read
        return False
    with held:
        try:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in _HELD or _is_name_taken(file, error)
    return False


def _take(file: Path) -> _Hold | None:
    """Hold a claim until it is closed; None if another process has it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK  # it may be a pipe
    held = os.fdopen(os.open(file, flags, 0o666), "rb", buffering=0)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(held.fileno()), os.stat(file)):
            return held
    except FileNotFoundError:  # who held it has removed it
        pass
    except OSError as error:
        held.close()
        return None if error.errno in _HELD else _take_name(file, error)
    held.close()
    return None


def _take_name(file: Path, error: OSError) -> _Hold | None:
    _tell_of_missing_locks(error.strerror)
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(_name_of(file))
    except OSError as refusal:
        name.close()
        if refusal.errno == errno.EADDRINUSE:
            return None
        raise
    return name


def _is_name_taken(file: Path, error: OSError) -> bool:
    _tell_of_missing_locks(error.strerror)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as caller:
        return caller.connect_ex(_name_of(file)) == 0


def _name_of(file: Path) -> bytes:
    """In the space of names that are no files, which Linux has, and frees with the process."""
    path = os.fsencode(os.path.realpath(file))
    return b"\0deltagclip-" + hashlib.sha256(path).hexdigest().encode()


@cache
def _tell_of_missing_locks(why: str) -> None:
    """Say so once in a process."""
    logger.warning(
        "The file system keeps no locks (%s). Processes of one machine still share the work; of "
        "two machines, the one that starts a trial later takes it over from the other.",
        why,
    )
