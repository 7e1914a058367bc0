"""Which further options of sbatch a spec may hold: those that nothing else sets."""

from __future__ import annotations

import re
import shlex

from deltagclip_cli.spec.sentences import got

_LOGS = "what a job prints goes to a log beside the run folders"
_REQUEUE = "deltagclip requeues what was interrupted"
_ANSWER = "deltagclip reads what sbatch answers"
_OWN = {
    "array": "the tasks of an array are the trials; 'throttle' limits how many run at a time",
    "output": _LOGS,
    "error": _LOGS,
    "open-mode": _LOGS,
    "requeue": _REQUEUE,
    "no-requeue": _REQUEUE,
    "signal": "trials are asked to save by a signal; 'notice' says how long before the time limit",
    "job-name": "jobs are found by their names",
    "parsable": _ANSWER,
    "quiet": _ANSWER,
    "test-only": _ANSWER,
    "wait": _ANSWER,
    "wrap": "deltagclip writes the script",
    "clusters": "jobs are looked for in the cluster that this machine belongs to",
    "chdir": "jobs run in the folder that deltagclip was started in",
}
_WITH_KEY = {
    **{key: key for key in ("partition", "account", "qos", "constraint", "nodes", "mem", "time")},
    **dict.fromkeys(("gres", "gpus", "gpus-per-node"), "gpus"),
    "cpus-per-task": "cpus",
}
_SHORT = dict(
    [
        *(("a", "array"), ("o", "output"), ("e", "error"), ("J", "job-name"), ("W", "wait")),
        *(("M", "clusters"), ("Q", "quiet")),
        *(("D", "chdir"), ("p", "partition"), ("A", "account"), ("q", "qos"), ("C", "constraint")),
        *(("N", "nodes"), ("G", "gpus"), ("c", "cpus-per-task"), ("t", "time")),
    ]
)
_LONG_OPTION = re.compile(r"--([A-Za-z][A-Za-z0-9_-]*)(?:=(.*))?", re.DOTALL)
_SHORT_OPTION = re.compile(r"-([A-Za-z])")


def refusal(text: str) -> tuple[str, str] | None:
    """Why this cannot stand behind ``#SBATCH``, and a hint; None if it can."""
    found = _read(text)
    if found is None:
        message = f"one option of sbatch is expected (got {got(text)})."
        return message, "write '--name=value', '--flag' or '-x value'; spaces of a value in quotes"
    flag, name, value = found
    for option, reason in _OWN.items():
        if _means(name, option):
            return f"deltagclip itself sets '{flag}'.", reason
    for option, key in _WITH_KEY.items():
        if _means(name, option) and (option != "gres" or re.search(r"\bgpu\b", value)):
            return f"'{flag}' has a key of its own.", f"write `{key}: ...` instead"
    return None


def _read(text: str) -> tuple[str, str, str] | None:
    """The option as written, its long name as far as it matters here, and its value.

    None if these are several options, or none: short ones that are joined, ``-Hp gpu``, too.
    """
    try:
        first, *rest = shlex.split(text)
    except ValueError:
        return None
    long = _LONG_OPTION.fullmatch(first)
    if long is not None and not rest:
        return f"--{long[1]}", long[1], long[2] or ""
    short = _SHORT_OPTION.fullmatch(first)
    if short is not None and len(rest) <= 1 and not "".join(rest).startswith("-"):
        return first, _SHORT.get(short[1], ""), "".join(rest)
    return None


def _means(name: str, option: str) -> bool:
    """Whether sbatch may take ``name`` for ``option``: it knows beginnings of names, too."""
    return name != "" and option.startswith(name)
