"""Slurm's own commands: the only file that runs them and reads what they print."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deltagclip_cli.core import UsageError

_TIMEOUT_SECONDS = 60.0  # squeue itself gives up after ten, sbatch later
_SACCT_TIMEOUT_SECONDS = 10.0  # what it tells can be done without
_ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
}
_CUT_OFF = (  # after the controller may have been told
    *("Socket timed out", "Zero Bytes", "Message receive failure", "Connection reset"),
    *("Transport endpoint is not connected", "Unexpected message received"),
)
_FIELDS = ("Name", "ArrayJobID", "ArrayTaskID", "State", "Reason", "NodeList", "RestartCnt")
DEFAULT_MAX_ARRAY_SIZE = 1001

# People set their own defaults for Slurm's commands in variables, which go before what a script
# says, and would hide jobs of other partitions from us.
_VARIABLES = ("SBATCH_", "SQUEUE_", "SCANCEL_", "SACCT_")
# Of those of sbatch, these are heeded where a script leaves it open.
_DEFAULTS = ("account", "partition", "qos", "reservation")
# What stays of a job's own variables if another is submitted from within it.
_OF_A_JOB = ("SLURM_", "CUDA_VISIBLE_DEVICES")
_NOT_OF_A_JOB = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")


class SlurmError(UsageError):
    """A command of Slurm refused; the message is in its words."""


class MissingError(SlurmError):
    """Slurm's commands are not on this machine."""


class UnreachableError(SlurmError):
    """Slurm does not answer, so that nothing is known about its jobs."""


class UnansweredError(UnreachableError):
    """Slurm was told, and did not answer: it may have done what it was told."""


@dataclass(frozen=True)
class ArrayTask:
    """Task ``task`` of array ``job``, as Slurm tells of it, in a state such as ``PENDING``."""

    name: str
    job: str
    task: int
    state: str
    reason: str = ""
    node: str = ""
    restarts: int = 0

    @property
    def id(self) -> str:
        """The words that Slurm's commands take for it."""
        return f"{self.job}_{self.task}"

    @property
    def is_alive(self) -> bool:
        """True while it waits, runs, or is just ending."""
        return self.state not in _ENDED

    @property
    def is_pending(self) -> bool:
        """True while it has yet to run, for the first time or again."""
        return self.state.startswith(("PENDING", "REQUEUE", "SPECIAL_EXIT"))


def submit(script: Path) -> str:
    """Submit a script, and return the number of its job."""
    text = script.read_text("utf-8")
    environment = _environment()
    if "SLURM_JOB_ID" in environment:
        for name in list(environment):
            if name.startswith(_OF_A_JOB) and name not in _NOT_OF_A_JOB:
                del environment[name]
    for option in _DEFAULTS:
        name = f"SBATCH_{option.upper()}"
        if name in os.environ and f"\n#SBATCH --{option}=" not in text:
            environment[name] = os.environ[name]
    said = _run("sbatch", "--parsable", str(script), environment=environment)
    found = re.search(r"^(\d+)(;\S+)?$", said, re.M)  # behind it, the name of a cluster
    if found is None:
        raise UnansweredError(f"sbatch did not tell the number of the job: {said.strip()!r}")
    return found[1]


def _environment() -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if not name.startswith(_VARIABLES)}


def tasks_named(names: Iterable[str]) -> list[ArrayTask]:
    """List the tasks of the array jobs of these names, also ended ones that Slurm remembers.

    Raises:
        MissingError, UnreachableError: nothing is known.
    """
    form = ",".join(f"{field}:|" for field in _FIELDS)
    said = _run("squeue", "--noheader", "--array", "--all", "--states=all",
                f"--name={','.join(names)}", f"--Format={form}")  # fmt: skip
    return [task for line in said.splitlines() if (task := _task(line.split("|"))) is not None]


def _task(words: Sequence[str]) -> ArrayTask | None:
    if len(words) <= len(_FIELDS):  # the name of a cluster above its jobs
        return None
    # An administrator's reason may hold what stands between the fields.
    name, job, task, state, *reasons, node, restarts = (word.strip() for word in words[:-1])
    if not task.isdecimal():  # somebody has submitted the script without its array
        return None
    reason = "" if reasons == ["None"] else "|".join(reasons)
    return ArrayTask(name, job, int(task), state, reason, node, int(restarts or 0))


def cancel_tasks(jobs: Iterable[str]) -> None:
    """End jobs; the numbers of arrays end all of their tasks."""
    _run("scancel", *jobs)


def requeue(task: str) -> None:
    """Put a running task back into the queue, which ends it here.

    A controller that was killed may come back with a state of before the task's start: then the
    task is in the queue already, and that is what was asked for.
    """
    try:
        _run("scontrol", "requeue", task)
    except SlurmError as error:
        if "Job is pending execution" not in str(error):
            raise


def is_preempted(task: str) -> bool:
    """Ask whether Slurm has begun to end a running task for the sake of another."""
    said = _run("scontrol", "show", "job", task)
    found = re.search(r"\bPreemptTime=(\S+)", said)
    return found is not None and found[1] != "None"


def largest_array() -> int:
    """Ask how many tasks an array may have here, if they are numbered from 0."""
    said = _run("scontrol", "show", "config")
    limits = re.findall(r"(?:^MaxArraySize\s*=\s*|\bmax_array_tasks=)(\d+)", said, re.M)
    return max(1, min(map(int, limits), default=DEFAULT_MAX_ARRAY_SIZE))


def recorded_states(jobs: Iterable[str]) -> dict[str, str]:
    """Ask the accounting database how tasks ended that began, by their ids; empty without one."""
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


def _run(program: str, *arguments: str, environment: dict[str, str] | None = None) -> str:
    timeout = _SACCT_TIMEOUT_SECONDS if program == "sacct" else _TIMEOUT_SECONDS
    path = shutil.which(program)
    if path is None:
        raise MissingError(f"{program}: Slurm's commands are not on this machine.")
    try:
        done = subprocess.run(
            [path, *arguments],
            env=_environment() if environment is None else environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        # Of a queue that is full, sbatch says so and tries again for minutes. It is bytes here.
        words = (error.stderr or b"").decode(errors="replace").strip()
        told = f": {words}" if words else "."
        raise UnansweredError(f"{program} did not answer in {timeout:.0f} s{told}") from None
    if not done.returncode:
        return done.stdout
    words = done.stderr.strip() or f"{program} ended with exit code {done.returncode}"
    if any(each in words for each in _CUT_OFF):
        raise UnansweredError(words)
    if any(each in words for each in ("Unable to contact", "Connection refused")):
        raise UnreachableError(words)
    raise SlurmError(words)
