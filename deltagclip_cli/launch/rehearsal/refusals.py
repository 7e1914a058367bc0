"""What refuses a trial, and where in the spec that was written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from deltagclip_cli.spec.load import Spec
from deltagclip_cli.spec.slurm_settings import Resources
from deltagclip_cli.spec.trial import Trial

Keys = tuple[str | int, ...]


@dataclass(frozen=True)
class Stage:
    """Where trials are to be trained.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        here: whether on this machine; of another nothing is known but that.
    """

    device: str
    here: bool = True


def elsewhere(resources: Resources) -> Stage:
    """Where jobs with these resources train; on GPUs, unless they say that there are none."""
    return Stage("cpu" if resources.gpus == 0 else "cuda", here=False)


@dataclass(frozen=True)
class Refusal:
    """A part that refuses a trial.

    Args:
        trial: its number among those that were tried.
        part: a setting of the experiment, or ``optimizer``.
        option: of the part, that is to blame; empty if none alone is.
        reason: what the part says.
    """

    trial: int
    part: str
    option: str
    reason: str


def faults_of(spec: Spec, trials: Sequence[Trial], refusals: Iterable[Refusal]) -> dict[str, str]:
    """The faults of a spec that these refusals are, by their places; of each the first counts."""
    faults: dict[str, str] = {}
    for refusal in refusals:
        trial = trials[refusal.trial]
        section, *option = _sought(spec, trial, refusal)
        keys = _varied(spec, trial, refusal)
        trail = keys or section
        place = spec.place(trial.experiment, *(keys or (*section, *option)))
        words = " › ".join([trial.experiment, *(key for key in trail if isinstance(key, str))])
        faults.setdefault(f"{place} {words}", f"{place}: {words}: {refusal.reason}")
    return faults


def fault_of(spec: Spec, trial: Trial, end: str) -> dict[str, str]:
    """The fault of a trial with whose parts a process came to an end, in words."""
    keys = ("optimizers", trial.label)
    place = spec.place(trial.experiment, *keys)
    words = f"{place}: {' › '.join([trial.experiment, *keys])}: the process that built the parts of"
    hint = "Look for a number of the model or the data that is too large."
    return {place: f"{words} this trial {end}.\n  {hint}"}


def _sought(spec: Spec, trial: Trial, refusal: Refusal) -> tuple[Any, ...]:
    """The keys of a section, and the option in it that is to blame, if there is one."""
    section: Keys = (refusal.part,)
    if refusal.part == "optimizer":
        section = ("optimizers", trial.label)
    elif refusal.part == "schedule" and "schedule" in trial.optimizer.model_fields_set:
        section = ("optimizers", trial.label, "schedule")
    try:
        spec.written(trial.experiment, *section)
    except (LookupError, TypeError):  # a task that is the usual one
        return (("model",),)
    return (section, refusal.option) if refusal.option else (section,)


def _varied(spec: Spec, trial: Trial, refusal: Refusal) -> Keys:
    """The keys of what is to blame in a grid or a search; empty if that is not where it is."""
    part = getattr(trial, refusal.part)
    plain = part.model_dump() if isinstance(part, BaseModel) else part
    names = {refusal.part: plain}
    if refusal.option:
        names = {f"{refusal.part}.{refusal.option}": plain.get(refusal.option), **names}
        if refusal.part == "optimizer":
            names = {refusal.option: plain.get(refusal.option)}
    for above in ((trial.label,), ()):
        for among in ((), ("zip",), ("random",)):
            for name, value in names.items():
                keys = ("grid", *above, *among, name)
                with suppress(LookupError, TypeError):
                    return (*keys, *_index(spec.written(trial.experiment, *keys), value))
    option = refusal.option if refusal.part == "optimizer" else ""
    usual = spec.experiments[trial.experiment].optimizers[trial.label].options
    if option and usual.get(option) != trial.optimizer.options.get(option):
        return ("search", "space", trial.label, option)
    return ()


def _index(written: Any, value: Any) -> Keys:
    """Which of the values that were written became this one; empty if that is not known."""
    values = written if isinstance(written, list) else []
    return next(((n,) for n, each in enumerate(values) if _became(each, value)), ())


def _became(written: Any, value: Any) -> bool:
    """Whether a check can have made a value of what was written, by adding defaults to it."""
    if isinstance(value, dict):
        named = {"name": written} if isinstance(written, str) else written
        return isinstance(named, dict) and all(
            key in value and _became(item, value[key]) for key, item in named.items()
        )
    if isinstance(value, (list, tuple)):
        return isinstance(written, list) and list(value) == written
    return bool(written == value)
