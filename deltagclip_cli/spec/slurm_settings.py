"""Resources of batch jobs: ``slurm:`` of an experiment, and ``--slurm`` of a command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from deltagclip_cli.core import SpecError
from deltagclip_cli.spec.component import Component, SpecSection
from deltagclip_cli.spec.document import parse_override
from deltagclip_cli.spec.faults import (
    collected,
    explained,
    got,
    raised,
    refused,
    sentence,
    unknown_label,
)

if TYPE_CHECKING:
    from deltagclip_cli.spec.schema import TrialSettings

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
"""Options of sbatch that jobs have anyway, and why."""

_KEYS = {
    **{key: key for key in ("partition", "account", "qos", "constraint", "nodes", "mem", "time")},
    **dict.fromkeys(("gres", "gpus", "gpus-per-node"), "gpus"),
    "cpus-per-task": "cpus",
}
"""Options of sbatch that have a key of the spec."""

_SHORT = {
    "a": "array", "o": "output", "e": "error", "J": "job-name", "W": "wait", "M": "clusters",
    "Q": "quiet", "D": "chdir", "p": "partition", "A": "account", "q": "qos", "C": "constraint",
    "N": "nodes", "G": "gpus", "c": "cpus-per-task", "t": "time", "n": "ntasks",
}  # fmt: skip
_TASKS = ("ntasks", "tasks-per-node", "gpus-per-task")
"""Beginnings of options of sbatch that say what trials on several devices have anyway."""
_LONG_OPTION = re.compile(r"--([A-Za-z][A-Za-z0-9_-]*)(?:=(.*))?", re.DOTALL)
_SHORT_OPTION = re.compile(r"-([A-Za-z])")

_NOTICE_SECONDS = 120
_TIME = re.compile(r"(?=.*[1-9])([0-9]{1,9}-[0-9]{1,9}|[0-9]{1,9})(:[0-9]{1,9}){0,2}")
_ENDLESS = re.compile(r"UNLIMITED|INFINITE", re.IGNORECASE)
_FORMS = {
    "gpus": (
        re.compile(r"(?!gpu(:|\Z))(?=[0-9_.-]*[A-Za-z])[A-Za-z0-9][A-Za-z0-9_.-]*(:[1-9][0-9]*)?"),
        0,
        "a number of GPUs, their type, or TYPE:NUMBER",
        "such as 1, a100 or a100:2; 0 trains on the CPU",
    ),
    "mem": (
        re.compile(r"[0-9]+([KMGT]B?)?", re.IGNORECASE),
        0,
        "a size of memory",
        "such as 16G or 500M; a number alone is in MB, and 0 is all that the node has",
    ),
    "time": (
        re.compile(rf"{_TIME.pattern}|(?i:{_ENDLESS.pattern})"),
        1,
        "a time limit of Slurm",
        "minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S, such as 90 or 1-12; or UNLIMITED",
    ),
}
"""For each key what its text is like, its least number, what that is, and a hint."""


def _check_line(text: str, allowed: str = "") -> str:
    # A line more in a script is a command more, or an option that nobody has checked.
    if not text.strip():
        raise refused("a text must not be empty here.", "leave it out, or write null")
    if not all(each.isprintable() or each in allowed for each in text):
        raise refused(f"a text must be one line without control characters here (got {got(text)}).")
    return text


def _check_option(text: str) -> str:
    """Refuse what cannot stand behind ``#SBATCH``, and what something else sets."""
    option, name, value = _option(_check_line(text))
    # sbatch knows options by the beginnings of their names, too.
    meant = [each for each in (*_OWN, *_KEYS) if name and each.startswith(name)]
    if "gres" in meant and not re.search(r"\bgpu\b", value):
        meant.remove("gres")
    if meant and meant[0] in _OWN:
        raise refused(f"deltagclip itself sets '{option}'.", _OWN[meant[0]])
    if meant:
        hint = f"write `{_KEYS[meant[0]]}: ...` instead"
        raise refused(f"'{option}' has a key of its own.", hint)
    return text


def _option(text: str) -> tuple[str, str, str]:
    """Return a single option as it is written, its long name if that matters, and its value."""
    with suppress(ValueError):  # of quotes that are left open
        first, *rest = shlex.split(text)
        long = _LONG_OPTION.fullmatch(first)
        if long is not None and not rest:
            return f"--{long[1]}", long[1], long[2] or ""
        short = _SHORT_OPTION.fullmatch(first)
        if short is not None and len(rest) <= 1 and not "".join(rest).startswith("-"):
            return first, _SHORT.get(short[1], ""), "".join(rest)
    hint = "write '--name=value', '--flag' or '-x value'; spaces of a value in quotes"
    raise refused(f"one option of sbatch is expected (got {got(text)}).", hint)


def _as_list(value: object) -> object:
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


def _one_by_one(blocks: list[str]) -> list[str]:
    return [line for block in blocks for line in block.split("\n") if line.strip()]


_Line = Annotated[str, AfterValidator(_check_line)]
_Option = Annotated[str, AfterValidator(_check_option)]
_Block = Annotated[str, AfterValidator(partial(_check_line, allowed="\n\t"))]


class Resources(SpecSection):
    """Resources that a batch job asks Slurm for, and what it does before the trials.

    None is left to Slurm. Of ``setup`` empty lines are dropped.
    """

    partition: _Line | None = None
    """As sbatch calls it."""
    account: _Line | None = None
    """As sbatch calls it."""
    qos: _Line | None = None
    """As sbatch calls it."""
    constraint: _Line | None = None
    """As sbatch calls it."""
    nodes: PositiveInt | None = None
    """As sbatch calls it."""
    gpus: int | str | None = None
    """A number, a type or ``TYPE:NUMBER``; 0 is the CPU; without it, what the job can see."""
    cpus: PositiveInt | None = None
    """Cores of a task."""
    mem: int | str | None = None
    """Such as ``16G``; a number alone is in MB, and 0 is all that the node has."""
    time: int | str | None = None
    """The limit: minutes, or such as ``"04:00:00"`` or ``1-12``."""
    notice: PositiveInt | None = None
    """Seconds before the limit at which trials save; 120, or a quarter of a shorter limit."""
    throttle: PositiveInt | None = None
    """Tasks of an array that run at a time."""
    pack: PositiveInt | None = None
    """Trials, or stacks, that share a job and its GPUs."""
    local_data: _Line | None = None
    """A folder of the node that the data are copied to first, such as ``$SLURM_TMPDIR``."""
    sbatch: Annotated[list[_Option], BeforeValidator(_as_list)] = Field(default_factory=list)
    """Further options, each as it would stand behind ``#SBATCH``."""
    setup: Annotated[list[_Block], BeforeValidator(_as_list), AfterValidator(_one_by_one)] = Field(
        default_factory=list
    )
    """Lines of shell before the trials, such as ``module load cuda``."""

    @property
    def time_seconds(self) -> int | None:
        """The time limit; None if there is none, or none is known."""
        if self.time is None or isinstance(self.time, int):
            return self.time and 60 * self.time
        if _ENDLESS.fullmatch(self.time):
            return None
        days, dash, rest = self.time.rpartition("-")
        parts = [int(part) for part in rest.split(":")]
        units = (3600, 60, 1) if dash or len(parts) == 3 else (60, 1)
        seconds = sum(number * unit for number, unit in zip(parts, units, strict=False))
        return 86400 * int(days or 0) + seconds

    @property
    def notice_seconds(self) -> int:
        """The time before the limit at which the trials are asked to save."""
        if self.notice is not None:
            return self.notice
        limit = self.time_seconds
        return _NOTICE_SECONDS if limit is None else max(1, min(_NOTICE_SECONDS, limit // 4))

    @field_validator(*_FORMS, mode="before")
    @classmethod
    def _check_form(cls, value: Any, info: ValidationInfo) -> Any:
        key = str(info.field_name)
        pattern, least, what, hint = _FORMS[key]
        is_number = isinstance(value, int) and not isinstance(value, bool) and value >= least
        if value is None or is_number or (isinstance(value, str) and pattern.fullmatch(value)):
            return value
        raise refused(f"'{key}' must be {what} (got {got(value)}).", hint)

    @property
    def lateness(self) -> str:
        """The fault that trials are asked to save as soon as they start; empty if they are not."""
        notice, limit = self.notice, self.time_seconds
        if notice is None or limit is None or notice < limit:
            return ""
        return f"'notice' must be less than 'time' (got {notice} s, and {limit} s)."

    def ranks_fault(self, trial: TrialSettings) -> tuple[str, str, str] | None:
        """Say what contradicts the devices and nodes of a trial: the key, why, what to do.

        None if nothing does.
        """
        if self.nodes is not None and self.nodes != trial.nodes:
            said = f"slurm.nodes is {self.nodes}, but the trial trains on nodes: {trial.nodes}"
            return "nodes", said, f"leave slurm.nodes out, or write nodes: {self.nodes} beside it"
        if trial.ranks == 1:
            return None
        type_, _, number = str(self.gpus or "").rpartition(":")
        if (type_ or number.isdecimal()) and int(number) != trial.devices:
            said = f"slurm.gpus is {self.gpus}, but the trial trains on devices: {trial.devices}"
            each = f"{type_}:{trial.devices}" if type_ else f"{trial.devices}"
            return "gpus", said, f"leave slurm.gpus out, or write {each}, or 0 for the CPU"
        for option in self.sbatch:
            if _option(option)[1].startswith(_TASKS):
                said = f"each node of a trial on several devices has one task (got {option!r})"
                return "sbatch", said, "leave it out: it follows from devices and nodes"
        if self.local_data is not None and trial.nodes > 1:
            said = f"slurm.local_data is of one node, but the trial trains on nodes: {trial.nodes}"
            return "local_data", said, "leave it out"
        return None

    def for_ranks(self, trial: TrialSettings, threads: int) -> Self:
        """Add what a trial on several devices needs: one task a node, its GPUs, and CPUs.

        Args:
            threads: of the CPU, for each device, where ``cpus`` says nothing else.
        """
        gpus = trial.devices if self.gpus is None else self.gpus
        if isinstance(gpus, str) and ":" not in gpus:
            gpus = f"{gpus}:{trial.devices}"
        cpus = self.cpus or trial.devices * threads
        tasks = {"nodes": trial.nodes, "sbatch": ["--ntasks-per-node=1", *self.sbatch]}
        return self.model_copy(update={"gpus": gpus, "cpus": cpus, **tasks})

    @model_validator(mode="after")
    def _notice_comes_in_time(self) -> Self:
        if self.lateness:
            raise refused(self.lateness, where=("notice",))
        return self


class Slurm(Resources):
    """The resources of an experiment, and what is different for some of its optimizers.

    As with every setting, an experiment's own ``slurm:`` replaces the whole of that in
    ``defaults``.
    """

    optimizers: dict[str, Resources] = Field(default_factory=dict)
    """By label, what replaces keys above for that optimizer."""

    def of(self, label: str, overrides: Resources | None = None) -> Resources:
        """Return the resources of one optimizer: overrides, over those of its label, over the rest.

        Only what was set replaces; lists replace the whole, and None leaves out again.
        """
        merged = self._merged(label, overrides)
        if merged.lateness:
            raise SpecError(f"slurm for {label}: {merged.lateness}")
        return merged

    def _merged(self, label: str, overrides: Resources | None = None) -> Resources:
        written: dict[str, Any] = {}
        for layer in (self, self.optimizers.get(label), overrides):
            if layer is not None:
                keys = layer.model_fields_set & Resources.model_fields.keys()
                written |= {key: getattr(layer, key) for key in keys}
        return Resources.model_construct(**written)

    @model_validator(mode="after")
    def _optimizers_have_notice_in_time(self) -> Self:
        faults: list[InitErrorDetails] = []
        for label, own in self.optimizers.items():
            if late := self._merged(label).lateness:
                key = "notice" if "notice" in own.model_fields_set else "time"
                faults.append(explained(late, where=("optimizers", label, key)))
        if faults:
            raise raised(faults)
        return self


def read_slurm(written: Any, optimizers: Mapping[str, Component] | None) -> Slurm:
    """Read the ``slurm:`` of an experiment; ``optimizers`` are None if they have faults."""
    faults: list[InitErrorDetails] = []
    with collected(faults, ()):
        slurm = Slurm.model_validate(written)
    labels = written.get("optimizers") if isinstance(written, dict) else None
    if optimizers is not None and isinstance(labels, dict):
        faults += [
            unknown_label(label, list(optimizers), ("optimizers", label))
            for label in labels
            if label not in optimizers
        ]
    if faults:
        raise raised(faults)
    return slurm


def parse_overrides(words: Sequence[str]) -> Resources:
    """Read the ``KEY=VALUE`` words of ``--slurm``, whose values are YAML; SpecError has all faults.

    Of a repeated key the last wins, but what is said of ``sbatch`` and ``setup`` adds up.
    """
    written: dict[str, Any] = {}
    faults: list[str] = []
    for word in words:
        override = parse_override(word, "--slurm", "time=04:00:00")
        key = ".".join(map(str, override.where))
        try:
            value = getattr(Resources.model_validate({key: override.value}), key)
        except ValidationError as error:
            for details in error.errors(include_url=False):
                faults.append(f"--slurm {word}: {sentence(details['loc'], [details])[1]}")
        else:
            written[key] = [*written.get(key, []), *value] if isinstance(value, list) else value
    if faults:
        raise SpecError("\n\n".join(faults))
    return Resources.model_construct(**written)
