"""Slurm's own commands: the only place that runs them and reads what they print."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deltagclip_cli.errors import UsageError

_TIMEOUT_SECONDS = 60.0  # squeue itself gives up after ten, sbatch later
_ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
}
_FIELDS = ("Name", "ArrayJobID", "ArrayTaskID", "State", "Reason", "NodeList", "RestartCnt")
_SMALLEST_MAX_ARRAY_SIZE = 1001  # Slurm's default


class SlurmError(UsageError):
    """A command of Slurm refused; the message is in its words."""


class MissingError(SlurmError):
    """Slurm's commands are not on this machine."""


class UnreachableError(SlurmError):
    """Slurm does not answer, so that nothing is known about its jobs."""


class UnansweredError(UnreachableError):
    """Slurm was told, and did not answer: it may have done what it was told."""


@dataclass(frozen=True)
class Task:
    """One task of an array job, as Slurm tells of it.

    Args:
        name: of the job.
        job: the number of the array.
        task: the number in the array.
        state: in Slurm's words, such as ``PENDING``.
        reason: why it waits, or why it ended; empty if Slurm gives none.
        node: where it runs.
        restarts: how often it was started again.
    """

    name: str
    job: str
    task: int
    state: str
    reason: str = ""
    node: str = ""
    restarts: int = 0

    @property
    def id(self) -> str:
        """As Slurm's commands take it."""
        return f"{self.job}_{self.task}"

    @property
    def is_alive(self) -> bool:
        """Whether it waits, runs, or is just ending."""
        return self.state not in _ENDED

    @property
    def is_pending(self) -> bool:
        """Whether it has yet to run, for the first time or again."""
        return self.state.startswith(("PENDING", "REQUEUE", "SPECIAL_EXIT"))


def submit(script: Path) -> str:
    """Submit a script, and return the number of its job.

    Raises:
        SlurmError: it was refused.
    """
    return _run("sbatch", "--parsable", str(script)).strip().partition(";")[0]


def tasks_named(names: Iterable[str]) -> list[Task]:
    """The tasks of the array jobs of these names, also ended ones that Slurm still remembers.

    Raises:
        MissingError, UnreachableError: nothing is known.
    """
    form = ",".join(f"{field}:|" for field in _FIELDS)
    said = _run("squeue", "--noheader", "--array", "--states=all", f"--name={','.join(names)}",
                f"--Format={form}")  # fmt: skip
    return [task for line in said.splitlines() if (task := _task(line.split("|"))) is not None]


def _task(words: Sequence[str]) -> Task | None:
    name, job, task, state, reason, node, restarts = (word.strip() for word in words[:7])
    if not task.isdecimal():  # somebody has submitted the script without its array
        return None
    reason = "" if reason == "None" else reason
    return Task(name, job, int(task), state, reason, node, int(restarts or 0))


def cancel(jobs: Iterable[str]) -> None:
    """End jobs; the numbers of arrays end all of their tasks.

    Raises:
        SlurmError: one of them may not be ended.
    """
    _run("scancel", *jobs)


def requeue(task: str) -> None:
    """Put a running task back into the queue, which ends it here.

    Raises:
        SlurmError: that is not allowed here.
    """
    _run("scontrol", "requeue", task)


def is_preempted(task: str) -> bool:
    """Whether Slurm has begun to end a running task for the sake of another.

    Raises:
        SlurmError: Slurm does not know the task, or does not answer.
    """
    said = _run("scontrol", "show", "job", task)
    found = re.search(r"\bPreemptTime=(\S+)", said)
    return found is not None and found[1] != "None"


def largest_array() -> int:
    """How many tasks an array may have here, if they are numbered from 0.

    Raises:
        SlurmError: Slurm does not answer.
    """
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _run("scontrol", "show", "config"), re.M)
    return max(1, int(found[1]) if found else _SMALLEST_MAX_ARRAY_SIZE)


def recorded_states(jobs: Iterable[str]) -> dict[str, str]:
    """How tasks ended, by their ids, as the accounting database tells; empty if there is none."""
    try:
        said = _run("sacct", "-X", "-n", "-P", "-j", ",".join(jobs), "-o", "JobID,State")
    except SlurmError:
        return {}
    found = {}
    for line in said.splitlines():
        task, _, state = line.partition("|")
        state = state.partition(" ")[0]  # of "CANCELLED by 0"
        if state in _ENDED:  # what the queue has forgotten runs only in a database that lags
            found[task] = state
    return found


def _run(program: str, *arguments: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise MissingError(f"{program}: Slurm's commands are not on this machine.")
    try:
        done = subprocess.run(
            [path, *arguments], capture_output=True, text=True, timeout=_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise UnansweredError(f"{program} did not answer in {_TIMEOUT_SECONDS:.0f} s.") from None
    if done.returncode:
        words = done.stderr.strip() or f"{program} ended with exit code {done.returncode}"
        raise _refusal(words)
    return done.stdout


def _refusal(words: str) -> SlurmError:
    if any(each in words for each in ("Socket timed out", "Zero Bytes")):
        return UnansweredError(words)
    if any(each in words for each in ("Unable to contact", "Connection refused")):
        return UnreachableError(words)
    return SlurmError(words)
