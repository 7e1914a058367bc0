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
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import IO

from deltagclip_cli.core.errors import ClaimedError, UnwritableError, UsageError

logger = logging.getLogger(__name__)

MOST_BYTES = 16 * 2**20  # of a file that is read whole, unless said otherwise
DATA = Path("~/.cache/deltagclip/data")  # where data sets lie, unless said otherwise
_PATIENCE_SECONDS = 0.5  # asking whether a claim is held holds it for a moment
_SECONDS_BETWEEN_TRIES = 0.05
_HELD = (errno.EAGAIN, errno.EACCES)
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@contextmanager
def written_whole(
    path: Path, check: Callable[[], None] | None = None, *, durably: bool = True
) -> Iterator[IO[bytes]]:
    """Write a file that appears under its name when it is complete and on the disk, or not at all.

    The temporary file lies in the same folder, for a rename is atomic only within a file system.
    ``check`` is called before anything is written and again before the rename; it raises an error
    if that must not be. ``durably`` is false for what need not outlast a loss of power.
    """
    if check is not None:
        check()
    # Not named by the process: on a shared disk, another machine may have one of that number.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            if durably:
                os.fsync(file.fileno())
        if check is not None:
            check()
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_writable(folder: Path) -> None:
    """Make a folder if it is not there; UnwritableError if no files can be made in it."""
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
    """Return whether an error, or one that it comes from, says that a disk or a quota is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return error is not None and is_disk_full(error.__cause__)


def write_text(
    path: Path, text: str, check: Callable[[], None] | None = None, *, durably: bool = True
) -> None:
    """Write ``text`` as UTF-8, whole or not at all; the rest is as of :func:`written_whole`."""
    with written_whole(path, check, durably=durably) as file:
        file.write(text.encode())


def subfolders(path: Path) -> list[str]:
    """Return the names of the folders in a folder, and of links to some, in order; none hidden."""
    with os.scandir(path) as entries:
        return sorted(each.name for each in entries if each.name[0] != "." and is_folder(each))


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself
        return False


def open_file(path: Path) -> BufferedReader:
    """Open a file, or what a link to one leads to, for reading.

    Nothing else is opened, and OSError says so: a named pipe would never answer, and a device might
    never end.
    """
    file, seen = _opened(path), _SEEN.get()
    if seen is not None and path not in seen:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        seen[path] = Seen(file.tell(), digest)
        file.seek(0)
    return file


def check_opens(path: Path) -> None:
    """Raise OSError if :func:`open_file` would; nothing is read."""
    _opened(path).close()


def _opened(path: Path) -> BufferedReader:
    file_status(path)
    # Without waiting, for it may have become a pipe.
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


@dataclass(frozen=True)
class Seen:
    """The content of a file at the moment when it was opened."""

    size: int  # in bytes
    sha256: str


_SEEN: ContextVar[dict[Path, Seen] | None] = ContextVar("_SEEN", default=None)


@contextmanager
def files_seen() -> Iterator[Mapping[Path, Seen]]:
    """Note each file that is opened to be read while the context lasts, as it was the first time.

    This is where readers open files, so that none can be forgotten.
    """
    seen: dict[Path, Seen] = {}
    before = _SEEN.set(seen)
    try:
        yield seen
    finally:
        _SEEN.reset(before)


def file_status(path: Path) -> os.stat_result:
    """Return the status of a file, or of what a link to one leads to; OSError as in open_file."""
    status = os.stat(path)
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        number = errno.EISDIR if kind == stat.S_IFDIR else errno.EINVAL
        raise OSError(number, f"it is {_KINDS.get(kind, 'something else')}, not a file", str(path))
    return status


def read_file(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the content of a file that may be anybody's; OSError if it is larger than ours are."""
    with open_file(path) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        why = f"it is larger than {most_bytes / 2**20:.0f} MiB"
        raise OSError(errno.EFBIG, why, str(path))
    return content


@contextmanager
def claimed(
    file: Path,
    message: str,
    patience: float = _PATIENCE_SECONDS,
    refusal: type[UsageError] = ClaimedError,
) -> Iterator[None]:
    """Be the only process that holds ``file``, which is made if it is not there.

    The operating system keeps the lock and frees it when the process ends, however it ends; the
    file that stays behind means nothing. Where NFS passes locks on, they hold between machines too.
    Where a file system keeps none, a name that the kernel lends to one process stands in for the
    file, so that claims hold at least among the processes of a machine.

    If another process goes on holding it for so many seconds, ``refusal`` is raised.
    """
    end = time.monotonic() + patience
    while (hold := _take(file)) is None:
        if time.monotonic() > end:
            raise refusal(message)
        time.sleep(_SECONDS_BETWEEN_TRIES)
    with closing(hold):
        yield


def is_claimed(file: Path) -> bool:
    """Return whether a process holds the claim on ``file`` now."""
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


def _take(file: Path) -> IO[bytes] | socket.socket | None:
    """Return what holds a claim until it is closed; None if another process has it."""
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


def _take_name(file: Path, error: OSError) -> socket.socket | None:
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
    """Return a name in the space of those that are no files, which Linux frees with the process."""
    path = os.fsencode(os.path.realpath(file))
    return b"\0deltagclip-" + hashlib.sha256(path).hexdigest().encode()


@cache
def _tell_of_missing_locks(why: str) -> None:
    """Warn once in a process."""
    logger.warning(
        "The file system keeps no locks (%s). Processes of one machine still share the work; of "
        "two machines, the one that starts a trial later takes it over from the other.",
        why,
    )
