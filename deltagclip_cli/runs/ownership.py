"""Whose a run folder is: ``owner.json``, for file systems on which claims do not hold.

A claim holds among the processes of one machine, and among machines only where the file system
passes locks on. Slurm, when it loses a node, starts its job again on another, while the old process
may go on writing. So whoever begins to work in a run folder leaves a token there, and looks before
every write whether it is there still. Who finds another's stops at once, and writes nothing more.

Between a look and the write after it lie microseconds in which a folder can still be taken over.
What comes of them are renames of whole files, with numbers that are the newcomer's too.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter

from deltagclip_cli.core import TakenOverError, read_file, write_text
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.formats import STRICT


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
