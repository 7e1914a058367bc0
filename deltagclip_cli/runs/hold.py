"""The one process that works in a run folder, and all that it writes there.

Only a :class:`HeldFolder` writes in a run folder, and only :func:`hold` gives one. Before each
write it looks whether the folder still is this process's own, so that nobody can forget to ask.

A claim holds among the processes of one machine, and among machines only where the file system
passes locks on. Slurm, when it loses a node, starts its job again on another, while the old process
may go on writing. So a process that begins to train in a run folder leaves a token in
``owner.json``, and whoever finds another's there stops at once, and writes nothing more. Between a
look and the write after it lie microseconds in which a folder can still be taken over. What comes
of them are renames of whole files, with numbers that are the newcomer's too, and one more line in
the log.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
import socket
import stat
import time
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, ClassVar

import yaml
from pydantic import ConfigDict, TypeAdapter

from deltagclip_cli.core import (
    RunFolderError,
    TakenOverError,
    UnwritableError,
    claimed,
    read_file,
    write_text,
    written_whole,
)
from deltagclip_cli.runs.folder import STRICT, Heartbeat, RunFolder, State

if TYPE_CHECKING:
    from deltagclip_cli.spec.trial import Trial


@dataclass(frozen=True)
class Owner:
    """The process that a run folder belongs to, as ``owner.json`` names it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    token: str  # random, and new at each start
    host: str = ""
    pid: int = 0
    job: str = ""  # Slurm's id, ``<array job>_<task>`` or ``<job>``; empty outside of Slurm
    restart: int = 0  # how often Slurm has started that job again
    since: float = 0.0  # when it took the folder, in seconds since 1970

    def __str__(self) -> str:
        if self.job:
            return f"job {self.job} on {self.host} (process {self.pid})"
        return f"process {self.pid} on {self.host}"


_OWNER = TypeAdapter(Owner)


def read_owner(folder: RunFolder) -> Owner | None:
    """Return whose a folder is, or was when a process ended there unawares; None if nobody's.

    After a kill or a lost node ``owner.json`` stays; so it does not say that a process is alive.
    """
    with suppress(OSError, ValueError):  # the file may be of another version
        return _OWNER.validate_json(read_file(folder.owner_file))
    return None


def current_job() -> str:
    """Return Slurm's id of the job that this process belongs to, of an array's with its task."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{each}_ID") for each in ("JOB", "TASK"))
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")


def current_restart() -> int:
    """Return how often Slurm has started that job again."""
    words = os.environ.get("SLURM_RESTART_COUNT", "")
    return int(words) if words.isdecimal() else 0


def leftovers(folder: RunFolder, *, keep_last: bool = True) -> dict[Path, int]:
    """List the files that can go of a folder that no process works in, with their sizes in bytes.

    A trial without a result needs its checkpoints, for it may go on. One that has ended needs none;
    the last is kept for whoever wants the weights, unless ``keep_last`` is false.
    """
    files = [*folder.path.glob(".*.part")]
    if folder.result() is not None:
        all_there = folder.next_checkpoint_file, folder.checkpoint_file
        last = next((file for file in all_there if file.exists()), None)
        checkpoints = (*all_there, folder.previous_checkpoint_file)
        files += [file for file in checkpoints if not (keep_last and file == last)]
        shards = folder.shards_folders()
        files += [file for each in shards[: -1 if keep_last else None] for file in each.iterdir()]
    found = {}
    for file in files:
        with suppress(OSError):
            status = file.lstat()
            if stat.S_ISREG(status.st_mode):
                found[file] = status.st_size
    return found


class HeldFolder:
    """A run folder that this process holds, and every way to write there; made by :func:`hold`.

    Everything that writes raises a :class:`~deltagclip_cli.core.TakenOverError` instead if the
    folder is another process's by now.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder, self._owner_file = folder, folder.owner_file
        self._expected: bytes | None = None
        with suppress(OSError):  # which the first check will meet again
            # What an earlier process left, until take() replaces it.
            self._expected = read_file(self._owner_file)
        self._is_taken = False

    def take(self) -> None:
        """Make the folder this process's own, until it lets go; who had it will notice."""
        owner = Owner(
            token=secrets.token_hex(16),
            host=socket.gethostname(),
            pid=os.getpid(),
            job=current_job(),
            restart=current_restart(),
            since=time.time(),
        )
        content = json.dumps(asdict(owner)) + "\n"
        self.write(self._owner_file, content)
        self._expected, self._is_taken = content.encode(), True

    def release(self) -> None:
        """Remove ``owner.json`` if it still is this process's."""
        with suppress(OSError):
            if self._is_taken and read_file(self._owner_file) == self._expected:
                self._owner_file.unlink()

    def check(self) -> None:
        """Look whether the folder still is this process's own.

        Raises:
            TakenOverError: it is another's, or was another's in between.
        """
        try:
            # Opened anew each time: on NFS it is open() that asks the server for what is there now.
            # Without waiting, for a pipe may lie there.
            with open(
                self._owner_file,
                "rb",
                opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK),
            ) as file:
                there: bytes | None = file.read(len(self._expected or b"") + 1)
        except FileNotFoundError:
            there = None
        if there == self._expected:
            return
        if there is not None:
            raise TakenOverError(
                f"{self.folder.path}: {read_owner(self.folder) or 'another process'} has taken "
                "over this run folder; this process stops writing."
            )
        # Without a folder, the write will say so itself; without the file, another has ended here.
        if self.folder.path.exists():
            raise TakenOverError(
                f"{self.folder.path}: owner.json is gone, so another process has worked in "
                "this run folder; this process stops writing."
            )

    def write(self, file: Path, text: str) -> None:
        """Write a file whole or not at all."""
        write_text(file, text, self.check)

    def whole(self, file: Path) -> AbstractContextManager[IO[bytes]]:
        """Open a file that appears under its name when it is complete and on the disk."""
        return written_whole(file, self.check)

    def append(self, file: Path) -> HeldFile:
        """Open a file that grows."""
        return HeldFile(self, file)

    def rename(self, file: Path, name: Path) -> None:
        """Give a file another name, whatever had that name before."""
        self.check()
        file.replace(name)

    def remove(self, *files: Path) -> None:
        """Delete files, as far as they are there."""
        for file in files:
            self.check()
            file.unlink(missing_ok=True)
            if file.parent != self.folder.path:
                with suppress(OSError):  # as long as others are in it
                    file.parent.rmdir()

    def forget_shards(self, step: int) -> None:
        """Delete the parts of checkpoints but for that at a step and the one before it."""
        there = self.folder.shards_folders()
        at = there.index(self.folder.shards_folder(step))
        for each in [*there[: max(0, at - 1)], *there[at + 1 :]]:
            self.check()
            shutil.rmtree(each, ignore_errors=True)

    def keep(self, trial: Trial) -> None:
        """Write ``trial.yaml``, or check that the one that is there is of ``trial``.

        One that means the same is left as it is, whatever its words.
        """
        file, written = self.folder.trial_file, trial.model_dump(mode="json")
        try:
            if file.exists():
                self.folder.check(trial)
                if self.folder.trial().model_dump(mode="json") == written:  # in which 0 is 0.0
                    return
            self.write(file, yaml.safe_dump(written, sort_keys=False))
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def clear(self) -> None:
        """Delete everything in the folder but the claim on it, whosever it was."""
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
        self._expected = None

    def remove_unfinished(self) -> None:
        """Delete the temporary files of a process that was killed while it wrote them."""
        self.remove(*self.folder.path.glob(".*.part"))

    def remove_leftovers(self, *, keep_last: bool = True) -> dict[Path, int]:
        """Delete what :func:`leftovers` lists, and return it."""
        found = leftovers(self.folder, keep_last=keep_last)
        self.remove(*found)
        return found

    def beat(self, heartbeat: Heartbeat) -> None:
        """Write ``progress.json``, if that is possible.

        It is not forced to the disk: it is for now. A full disk is the metrics' to report.
        """
        text = json.dumps(asdict(replace(heartbeat, time=time.time())))
        with suppress(OSError):
            write_text(self.folder.progress_file, text, self.check, durably=False)

    def record_failure(self, error: BaseException, reason: str) -> None:
        """Write ``error.txt``: the first line of the reason, then the traceback."""
        text = "".join(traceback.format_exception(error))
        self._record(self.folder.error_file, reason, f"\n{text}")

    def record_stop(self, reason: str) -> None:
        """Write ``stopped.txt``: what ended the last start before its end."""
        self._record(self.folder.stopped_file, reason)

    def record_pruning(self, reason: str) -> None:
        """Write ``pruned.txt``: why a search gave the trial up."""
        self._record(self.folder.pruned_file, reason)

    def _record(self, file: Path, reason: str, more: str = "") -> None:
        """Write a reason; if not even this can be written, the terminal is what remains."""
        first_line = reason.partition("\n")[0][:500]
        with suppress(OSError):
            self.check()
            file.write_text(f"{first_line}\n{more}", encoding="utf-8", errors="backslashreplace")

    def forget_reasons(self) -> None:
        """Delete what earlier starts said about how they ended."""
        folder = self.folder
        for file in (folder.error_file, folder.stopped_file, folder.pruned_file):
            with suppress(OSError):
                self.remove(file)


class WitnessedFolder(HeldFolder):
    """A run folder as the ranks see it that do not hold it: nothing is written there."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def take(self) -> None: ...
    def release(self) -> None: ...
    def check(self) -> None: ...
    def write(self, file: Path, text: str) -> None: ...
    def rename(self, file: Path, name: Path) -> None: ...
    def remove(self, *files: Path) -> None: ...
    def clear(self) -> None: ...
    def forget_shards(self, step: int) -> None: ...
    def beat(self, heartbeat: Heartbeat) -> None: ...
    def _record(self, file: Path, reason: str, more: str = "") -> None: ...

    def keep(self, trial: Trial) -> None:
        self.folder.check(trial)

    def whole(self, file: Path) -> AbstractContextManager[IO[bytes]]:
        return io.BytesIO()

    def append(self, file: Path) -> HeldFile:
        return HeldFile(self, Path(os.devnull))


class HeldFile:
    """A file of a held folder that grows, and of which every piece can be read at once."""

    def __init__(self, held: HeldFolder, path: Path) -> None:
        self._held = held
        held.check()
        self._file = path.open("ab")

    def write(self, content: bytes) -> None:
        self._held.check()
        self._file.write(content)
        self._file.flush()

    def sync(self) -> None:
        """Bring everything written so far to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


@contextmanager
def hold(folder: RunFolder, *, make: bool = False) -> Iterator[HeldFolder]:
    """Be the only process that works in a folder, which ``make`` makes if it is not there.

    The operating system frees the claim when the process ends, however it ends.

    Raises:
        ClaimedError: another process holds it.
        UnwritableError: it cannot be made, or nothing can be written there.
    """
    message = (
        f"{folder.path}: another process is working in this run folder.\n"
        "  Wait until it has finished, or stop it: the trial can be continued."
    )
    with ExitStack() as stack:
        try:
            if make:
                folder.path.mkdir(parents=True, exist_ok=True)
            stack.enter_context(claimed(folder.lock_file, message))
        except OSError as error:
            raise _unwritable(folder, error) from error
        held = HeldFolder(folder)
        stack.callback(held.release)
        yield held


def create(folder: RunFolder, trial: Trial) -> None:
    """Make a run folder, or check that the one that is there was made for ``trial``."""
    with hold(folder, make=True) as held:
        held.keep(trial)


def _unwritable(folder: RunFolder, error: OSError) -> UnwritableError:
    return UnwritableError(
        f"{folder.path}: the run folder cannot be made or written: {error.strerror}.\n"
        "  Free space or permissions there, or name another folder with --runs DIR."
    )


def prune(folder: RunFolder, reason: str) -> bool:
    """Write down why a search gives a trial up that was stopped, unless somebody works on it.

    Returns:
        Whether that was written.
    """
    if folder.state is State.INTERRUPTED:
        with suppress(RunFolderError), hold(folder) as held:
            if folder.state is State.INTERRUPTED:
                held.record_pruning(reason)
                return True
    return False
