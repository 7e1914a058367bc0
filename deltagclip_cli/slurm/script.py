"""The script of an array job: short, readable, and fit for ``sbatch FILE`` by hand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from deltagclip_cli.core import UsageError
from deltagclip_cli.slurm.submission import Array, Head
from deltagclip_cli.spec.slurm_settings import Resources

_GRES = "--gres="
_SAME_NAMES = ("partition", "account", "qos", "constraint", "nodes", "mem", "time")


def render(
    array: Array, head: Head, resources: Resources, command: Sequence[str], folder: Path
) -> str:
    """The text of a script.

    Args:
        array: whose script it is.
        head: of its list.
        resources: what to ask for, and what to do before the trials.
        command: what each task runs.
        folder: where it runs.

    Raises:
        UsageError: a path cannot be given to Slurm.
    """
    _check_paths(array, folder)
    trials = "1 trial" if head.count == 1 else f"{head.count} trials"
    lines = [
        "#!/bin/bash",
        f"# {trials} of {head.experiment}, {head.pack} a task. To submit it by hand:",
        f"#   sbatch {shlex.quote(str(array.script))}",
        *(f"#SBATCH --{option}" for option in _options(array, head, resources, folder)),
        *(f"#SBATCH {option}" for option in resources.sbatch if not option.startswith(_GRES)),
        "",
        "trap '' USR1  # comes before the time limit; the program has its own answer to it",
        *resources.setup,
        f"exec {shlex.join(command)}",
    ]
    return "\n".join(lines) + "\n"


def _check_paths(array: Array, folder: Path) -> None:
    """Refuse a line break, after which would be another line of the script, and what Slurm does.

    Where the name of a log has a backslash, Slurm replaces nothing and drops the backslashes.
    """
    if not str(folder).isprintable():
        raise UsageError(
            f"{str(folder)!r}: no job can be submitted from a folder with such a name.\n"
            "  Rename it, or submit from another, with --spec FILE."
        )
    if not str(array.runs).isprintable() or "\\" in str(array.runs):
        raise UsageError(
            f"{str(array.runs)!r}: Slurm cannot write logs into a folder with such a name.\n"
            "  Name another with --runs DIR; backslashes and line breaks are not for Slurm."
        )


def _options(array: Array, head: Head, resources: Resources, folder: Path) -> Iterator[str]:
    throttle = f"%{resources.throttle}" if resources.throttle else ""
    yield f"job-name={array.job_name}"
    yield f"array=0-{head.tasks - 1}{throttle}"
    yield f"output={_quoted(_as_pattern(array.logs))}/%A_%a.log"
    yield f"chdir={_quoted(str(folder))}"
    yield "open-mode=append"  # else a restart would delete what was printed before it
    yield "requeue"
    yield f"signal=B:USR1@{resources.notice_seconds}"
    for name in _SAME_NAMES:
        value = getattr(resources, name)
        if value is not None:
            yield f"{name}={_quoted(str(value))}"
    if resources.cpus is not None:
        yield f"cpus-per-task={resources.cpus}"
    gres = [f"gpu:{resources.gpus}"] if resources.gpus else []
    gres += [each.removeprefix(_GRES) for each in resources.sbatch if each.startswith(_GRES)]
    if gres:
        yield f"gres={','.join(gres)}"  # of two such options, sbatch would forget the first


def _as_pattern(path: Path) -> str:
    """A path as ``--output`` takes it, where a percent sign begins a replacement."""
    return str(path).replace("%", "%%")


def _quoted(text: str) -> str:
    """Text as sbatch reads it in a script, which is not quite as a shell does."""
    if re.fullmatch(r"[A-Za-z0-9_./:-]+", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
