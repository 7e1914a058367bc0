"""A run folder that this process holds: nobody else writes or removes anything there.

What is written beside a training's own files is written by a :class:`HeldFolder`, which only the
holder of the folder's claim has. So none can forget to ask whether it may.

A claim holds among the processes of one machine, and among machines only where the file system
passes locks on. Slurm, when it loses a node, starts its job again on another, while the old process
may go on writing. So whoever begins to work in a run folder leaves a token in ``owner.json``, and
looks before every write whether it is there still. A process that finds another's stops at once.

Between a look and the write after it lie microseconds in which a folder can still be taken over.
What comes of them are renames of whole files, with numbers that are the newcomer's too.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import stat
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import yaml
from pydantic import ConfigDict, TypeAdapter

from deltagclip_cli.core import (
    Check,
    RunFolderError,
    TakenOverError,
    UnwritableError,
    claimed,
    read_file,
    unchecked,
    write_text,
)
from deltagclip_cli.runs.folder import STRICT, RunFolder
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


@dataclass(frozen=True)
class Owner:
    """The process that a run folder belongs to.

    Args:
        token: random, and new at each start.
        host: where it runs.
        pid: its process there.
        job: Slurm's id, ``<array job>_<task>`` or ``<job>``; empty outside of Slurm.
        restart: how often Slurm has started that job again.
        since: when it took the folder, in seconds since 1970.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    token: str
    host: str = ""
    pid: int = 0
    job: str = ""
    restart: int = 0
    since: float = 0.0

    def __str__(self) -> str:
        if self.job:
            return f"job {self.job} on {self.host} (process {self.pid})"
        return f"process {self.pid} on {self.host}"


_OWNER = TypeAdapter(Owner)


def read_owner(folder: RunFolder) -> Owner | None:
    """Whose a folder is, or was when a process ended there unawares; None if it is nobody's.

    After a kill or a lost node ``owner.json`` stays; so it does not say that a process is alive.
    """
    try:
        return _parsed(read_file(folder.owner_file))
    except OSError:
        return None


class Ownership:
    """This process's hold on a run folder, which it has claimed.

    Args:
        folder: which must exist.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder, self._file = folder, folder.owner_file
        self._expected = self._read()  # until take(), what an earlier process left
        self._taken = False

    def take(self) -> None:
        """Make the folder this process's own; who had it until now will notice.

        Raises:
            OSError: ``owner.json`` cannot be written.
        """
        content = json.dumps(asdict(_this_process())) + "\n"
        write_text(self._file, content)
        self._expected, self._taken = content.encode(), True

    def check(self) -> None:
        """Look whether the folder still is this process's own; to be called before every write.

        Raises:
            TakenOverError: it is another's, or was another's in between.
            OSError: that cannot be found out.
        """
        there = self._read()
        if there == self._expected:
            return
        if there is None:
            # Without a folder there is nothing to be taken over, and the write will say so itself.
            # Without the file, another process has worked here and has ended.
            if self._folder.path.exists():
                raise TakenOverError(
                    f"{self._folder.path}: owner.json is gone, so another process has worked in "
                    "this run folder; this process stops writing."
                )
            return
        raise TakenOverError(
            f"{self._folder.path}: {_parsed(there) or 'another process'} has taken over this run "
            "folder; this process stops writing."
        )

    def release(self) -> None:
        """Remove ``owner.json`` if it still is this process's."""
        with suppress(OSError):
            if self._taken and self._read() == self._expected:
                self._file.unlink()

    def _read(self) -> bytes | None:
        # Opened anew each time: on NFS it is open() that asks the server for what is there now.
        try:
            return read_file(self._file)
        except FileNotFoundError:
            return None


def _this_process() -> Owner:
    return Owner(
        token=secrets.token_hex(16),
        host=socket.gethostname(),
        pid=os.getpid(),
        job=current_job(),
        restart=current_restart(),
        since=time.time(),
    )


def current_job() -> str:
    """Slurm's id of the job that this process belongs to, of one in an array with its task."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{each}_ID") for each in ("JOB", "TASK"))
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")


def current_restart() -> int:
    """How often Slurm has started that job again."""
    words = os.environ.get("SLURM_RESTART_COUNT", "")
    return int(words) if words.isdecimal() else 0


def _parsed(content: bytes) -> Owner | None:
    """The owner that a file names, perhaps that of another version of this program."""
    try:
        return _OWNER.validate_json(content)
    except ValueError:
        return None


@dataclass(frozen=True)
class Leftover:
    """A file that can go."""

    file: Path
    size_bytes: int


def leftovers(folder: RunFolder, *, keep_last: bool = True) -> list[Leftover]:
    """What can go of a folder that no process works in.

    A trial without a result needs its checkpoints, for it may go on. One that has ended needs none;
    the last is kept for whoever wants the weights.

    Args:
        folder: whose links are left alone.
        keep_last: keep the last checkpoint of a trial that has ended.
    """
    files = [*folder.path.glob(".*.part")]
    if folder.result() is not None:
        all_there = folder.next_checkpoint_file, folder.checkpoint_file
        last = next((file for file in all_there if file.exists()), None)
        checkpoints = (*all_there, folder.previous_checkpoint_file)
        files += [file for file in checkpoints if not (keep_last and file == last)]
    found = []
    for file in files:
        with suppress(OSError):
            status = file.lstat()
            if stat.S_ISREG(status.st_mode):
                found.append(Leftover(file, status.st_size))
    return found


def remove_leftovers(
    folder: RunFolder, *, keep_last: bool = True, check: Check = unchecked
) -> list[Leftover]:
    """Delete them, and return them; only who holds the folder may call this.

    Args:
        folder: of the trial.
        keep_last: as for :func:`leftovers`.
        check: called before each; raises an error if the folder is another's now.

    Raises:
        OSError: one cannot be deleted.
    """
    found = leftovers(folder, keep_last=keep_last)
    for each in found:
        check()
        each.file.unlink(missing_ok=True)
    return found
