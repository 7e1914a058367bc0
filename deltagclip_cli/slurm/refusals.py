"""What sbatch refuses, with the place in the spec that it means."""

from __future__ import annotations

import re

from deltagclip_cli.slurm.client import MissingError, SlurmError, UnreachableError
from deltagclip_cli.spec.load import Spec
from deltagclip_cli.spec.slurm_settings import Resources

# What refusals speak of, and the setting that is meant; Slurm has no numbers for them.
_MEANT = {
    "account": r"account or|invalid account",  # before the partition, which is named along with it
    "qos": r"qos",
    "partition": r"partition",
    "time": r"time limit\b|time specification|--time",  # not "and/or time limits", said of all
    "mem": r"memory|--mem",
    "constraint": r"feature|constraint",
    "gpus": r"gres|generic resource|gpu",
    "cpus": r"cpu|processor",
    "nodes": r"node(?! configuration)",  # which can be about anything
}

# Limits of how much somebody may have in the queue.
_TOO_MANY = re.compile(r"MaxSubmit|Invalid job array", re.IGNORECASE)
_FEWER = (
    "So many jobs may not be submitted at once. Put trials together with --pack K, or submit fewer "
    "with\n  --optimizer LABEL or --seed N, and the rest once these are over."
)


def explained(
    error: SlurmError, spec: Spec, experiment: str, label: str, overrides: Resources
) -> SlurmError:
    """The same error with what caused it before its words.

    Args:
        error: of ``sbatch``.
        spec: whose resources were asked for.
        experiment: in the spec.
        label: of an optimizer that has these resources.
        overrides: of the command line.
    """
    words = "\n  ".join(line for line in str(error).splitlines() if line.strip())
    if isinstance(error, MissingError):
        return error
    if isinstance(error, UnreachableError):
        return SlurmError(f"{words}\n  The same command submits what is left, once Slurm answers.")
    if _TOO_MANY.search(words):
        return SlurmError(f"{words}\n  {_FEWER}")
    asked = spec.experiments[experiment].slurm.of(label, overrides)
    cause = _cause(_setting_meant(words, asked), spec, experiment, label, overrides)
    return SlurmError(f"{cause}\n  {words}")


def _cause(name: str, spec: Spec, experiment: str, label: str, overrides: Resources) -> str:
    if name in overrides.model_fields_set:
        value = getattr(overrides, name)
        words = " ".join(value) if isinstance(value, list) else value
        return f"--slurm {name}={words}: sbatch refuses this."
    own = spec.experiments[experiment].slurm.optimizers.get(label)
    branch = ["optimizers", label] if own and name in own.model_fields_set else []
    keys = ["slurm", *branch, *([name] if name else [])]
    trail = " › ".join([experiment, *keys])
    return f"{spec.place(experiment, *keys)}: {trail}: sbatch refuses this."


def _setting_meant(words: str, asked: Resources) -> str:
    """The setting that a refusal speaks of; empty if that cannot be told."""
    for option in asked.sbatch:
        flag = re.escape(re.split(r"[= ]", option)[0])
        if re.search(rf"(?<![\w-]){flag}(?![\w-])", words):
            return "sbatch"
    for name, pattern in _MEANT.items():
        if getattr(asked, name) is not None and re.search(pattern, words, re.IGNORECASE):
            return name
    return ""
