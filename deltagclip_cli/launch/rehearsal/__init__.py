"""The parts of trials are built once, without their data, before the first of them begins.

What only torch knows of a spec is found out here: that an optimizer refuses an option or fails at
its first step, that a schedule ends before the training does, that a network has no room. No
memory is taken for it: networks are built on the meta device, optimizers get small parameters.
That is done in :mod:`~deltagclip_cli.launch.rehearsal.building`, most often in another process.
"""

from __future__ import annotations

import json
import os
import re
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from deltagclip_cli.core import SpecError, UsageError
from deltagclip_cli.launch.forkserver import Call, ForkServer, KilledError
from deltagclip_cli.parts.making import own_lines
from deltagclip_cli.runs.environment import inexactness

if TYPE_CHECKING:
    from deltagclip_cli.spec.component import Component
    from deltagclip_cli.spec.load import Spec
    from deltagclip_cli.spec.slurm_settings import Resources
    from deltagclip_cli.spec.trial import Trial

_PATIENCE_SECONDS = 60.0  # with the parts of one trial
_PATIENCE_WITH_DATA = 600.0  # with those whose data are loaded
_LOADING_SECONDS = 300.0  # for torch, on a machine that is busy
_MOST_BYTES = 8 * 2**30  # that building them may take: hardly any are needed


def check_parts(
    spec: Spec,
    trials: Iterable[Trial],
    stage_of: Callable[[Trial], Stage],
    data_dir: Path,
    call: Call | None = None,
) -> list[str]:
    """Build the parts of trials once, without their data, each where ``stage_of`` says.

    Of code of one's own a copy is kept first, which from then on is what the trials are of; it is
    tried out with its data. Return a remark for each experiment that has operations without a
    deterministic kernel in it.

    Args:
        call: calls a function in another process; None builds them in this one.

    Raises:
        SpecError: something refuses them, or cannot be built; with all places in the spec.
    """
    _check_folder_of_compiled_code()
    staged: dict[Stage, list[Trial]] = defaultdict(list)
    for trial in few(trials):
        trial.keep_code()
        staged[stage_of(trial)].append(trial)
    faults: dict[str, str] = {}
    inexact: dict[tuple[str, str], list[str]] = defaultdict(list)  # of experiments, on devices
    for stage, chosen in staged.items():
        if call is not None:
            end, found = _found_apart(spec, chosen, stage, data_dir, call)
            faults |= end
        else:
            from deltagclip_cli.launch.rehearsal.building import Rehearsal

            found = Rehearsal(stage, data_dir).findings(chosen, lambda number: None)
        faults |= faults_of(spec, chosen, [each for each in found if isinstance(each, Refusal)])
        for each in found:
            if isinstance(each, Inexact):
                inexact[chosen[each.trial].experiment, each.device].append(each.operation)
    if faults:
        raise SpecError("\n\n".join(faults.values()))
    return [
        f"{experiment}: {inexactness(sorted({*operations}), device)}"
        for (experiment, device), operations in inexact.items()
    ]


def _check_folder_of_compiled_code() -> None:
    """Refuse a folder that torch could not be loaded with."""
    folder = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    try:
        if folder:
            os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"$TORCHINDUCTOR_CACHE_DIR is {folder}, where torch cannot keep compiled code: "
            f"{error.strerror}.\n  Name a folder that can be made, or unset it."
        ) from None


def call_with_torch(
    function: Callable[..., Any], *arguments: object, should_stop: Callable[[], bool]
) -> Any:
    """Call a function in a process of its own, which loads torch first."""
    server = ForkServer()
    server.open()
    return server.call(function, *arguments, should_stop=should_stop)


def _found_apart(
    spec: Spec, trials: Sequence[Trial], stage: Stage, data_dir: Path, call: Call
) -> tuple[dict[str, str], Sequence[Finding]]:
    """Rehearse trials that are all trained at one stage, in another process.

    Return all that it found; or, by its place, the fault that this process did not get through.
    """
    has_own = any(each.code is not None for each in trials)
    clock = _Clock(_PATIENCE_WITH_DATA if has_own else _PATIENCE_SECONDS)
    end = ""
    try:
        found = call(_rehearse_apart, trials, stage, data_dir, clock.trial, should_stop=clock)
    except KilledError:
        end = "was killed, or ended itself"
    if clock.has_expired:
        end = f"was not done within {clock.patience:.0f} s"
    if not end:
        return {}, found or ()
    trial = trials[max(0, clock.trial.value)]
    keys = ("optimizers", trial.label)
    place = spec.place(trial.experiment, *keys)
    words = f"{place}: {' › '.join([trial.experiment, *keys])}: the process that built the parts of"
    hint = "Look for a number of the model or the data that is too large"
    hint += ", or code of your own that ends or stops it." if has_own else "."
    return {place: f"{words} this trial {end}.\n  {hint}"}, ()


class _Clock:
    """Says when the parts of one trial have taken too long.

    The other process writes the number of the one whose turn it is; -1 as long as it loads torch.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.trial = RawValue("i", -1)
        self.has_expired = False
        self._last = self.trial.value
        self._since = time.monotonic()

    def __call__(self) -> bool:
        now = time.monotonic()
        if self.trial.value != self._last:
            self._last, self._since = self.trial.value, now
        patience = self.patience if self._last >= 0 else _LOADING_SECONDS
        self.has_expired |= now - self._since > patience
        return self.has_expired


def _rehearse_apart(
    trials: Sequence[Trial], stage: Stage, data_dir: Path, trial: Any
) -> list[Finding]:
    def begun(number: int) -> None:
        trial.value = number

    # Drivers of GPUs map more than they use, and data of one's own are loaded.
    if (stage.device == "cpu" or not stage.here) and not any(each.code for each in trials):
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (_MOST_BYTES, most))
    from deltagclip_cli.launch.rehearsal.building import Rehearsal

    return Rehearsal(stage, data_dir).findings(trials, begun)


_MOST_VALUES = 20  # of one real number
_MOST_KEPT = 1000  # of them, as trials

_Numbers = tuple[tuple[str, float], ...]


def few(trials: Iterable[Trial]) -> list[Trial]:
    """Choose trials among which is every combination of settings that are no real numbers.

    Of a real number all values are there, alone, or of many some, with the least and the largest:
    what a part takes of them is what lies between two limits. A number's sign counts as another
    setting. Seeds make no difference.
    """
    kinds: dict[tuple[str, ...], dict[str, dict[float, Trial]]] = {}
    last: list[tuple[Component | None, tuple[str, _Numbers]]] = [(None, ("", ()))] * 5
    for trial in trials:
        parts = (trial.model, trial.data, trial.task, trial.optimizer, trial.schedule)
        last = [  # trials that follow one another have most of their parts in common
            before if part is before[0] else (part, _split(part))
            for part, before in zip(parts, last, strict=True)
        ]
        texts, numbers = zip(*(split for _, split in last), strict=True)
        lengths = (trial.unit, str(trial.length), str(trial.accumulate))
        others = (trial.experiment, trial.label, *lengths, trial.precision)
        values = kinds.setdefault((*others, *texts), {"": {0.0: trial}})
        for place, each in enumerate(numbers):
            for name, value in each:
                by_value = values.setdefault(f"{place}.{name}", {})
                by_value.setdefault(value, trial)
                if len(by_value) > _MOST_KEPT:
                    values[f"{place}.{name}"] = _spread(by_value)
    chosen = [
        trial
        for values in kinds.values()
        for by_value in values.values()
        for trial in _spread(by_value).values()
    ]
    return list({id(trial): trial for trial in chosen}.values())


def _split(part: Component | None) -> tuple[str, _Numbers]:
    """Return all of a part but the size of its real numbers, as text; and those."""
    if part is None:
        return "", ()
    plain = part.model_dump()
    numbers = tuple((key, item) for key, item in plain.items() if isinstance(item, float))
    signs = {key: (number > 0) - (number < 0) for key, number in numbers}
    return json.dumps({**plain, **signs}, default=repr), numbers


def _spread(by_value: Mapping[float, Trial]) -> dict[float, Trial]:
    """Choose some of many values, with the least and the largest."""
    values = sorted(by_value)
    steps = min(len(values), _MOST_VALUES) - 1
    places = {n * (len(values) - 1) // steps for n in range(steps + 1)} if steps else {0}
    return {values[place]: by_value[values[place]] for place in sorted(places)}


Keys = tuple[str | int, ...]


@dataclass(frozen=True)
class Stage:
    """The device, or the cluster, on which trials are to be trained."""

    device: str  # ``auto``, ``cpu``, ``cuda`` or ``cuda:N``
    here: bool = True  # whether on this machine; of another nothing is known but that


def elsewhere(resources: Resources) -> Stage:
    """Return the stage of jobs with these resources: GPUs, unless they say that there are none."""
    return Stage("cpu" if resources.gpus == 0 else "cuda", here=False)


@dataclass(frozen=True)
class Refusal:
    """A part that refuses a trial."""

    trial: int  # its number among those that were tried
    part: str  # a setting of the experiment, or ``optimizer``
    option: str  # of the part, that is to blame; empty if none alone is
    reason: str


@dataclass(frozen=True)
class Inexact:
    """An operation of a trial that has no deterministic kernel."""

    trial: int  # its number among those that were tried
    operation: str
    device: str  # that has none


Finding = Refusal | Inexact


def faults_of(spec: Spec, trials: Sequence[Trial], refusals: Iterable[Refusal]) -> dict[str, str]:
    """Return refusals as faults of the spec, by their places; of each the first counts."""
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


def _sought(spec: Spec, trial: Trial, refusal: Refusal) -> tuple[Any, ...]:
    """Return the keys of a section, and the option in it that is to blame, if there is one."""
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
    """Return the keys of what is to blame in a grid or a search; empty if that is not there."""
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
    """Find the written value that became this one; empty if that is not known."""
    values = written if isinstance(written, list) else []
    return next(((n,) for n, each in enumerate(values) if _became(each, value)), ())


def _became(written: Any, value: Any) -> bool:
    """Tell whether a check can have made a value of what was written, by adding defaults to it."""
    if isinstance(value, dict):
        named = {"name": written} if isinstance(written, str) else written
        return isinstance(named, dict) and all(
            key in value and _became(item, value[key]) for key, item in named.items()
        )
    if isinstance(value, (list, tuple)):
        return isinstance(written, list) and list(value) == written
    return bool(written == value)


@dataclass(frozen=True)
class NetworkOutline:
    """A network as an optimizer sees it: as most are, if nothing is known of it."""

    parameters: tuple[tuple[str, int], ...] = (("0", 2), ("1", 1))  # names and dimensions
    numbers: int = 0  # how many it has to learn
    is_known: bool = False

    def few(self, groups: Mapping[str, Mapping[str, Any]] | None) -> NetworkOutline:
        """Return it with one parameter for each number of dimensions and set of patterns."""
        patterns = [each for group in (groups or {}).values() for each in group["match"]]
        kinds: dict[tuple[int, tuple[str, ...]], str] = {}
        for name, number in self.parameters:
            kinds.setdefault((number, tuple(p for p in patterns if fnmatchcase(name, p))), name)
        chosen = sorted(kinds.items(), reverse=True)
        named = [(name if patterns else str(n), kind[0]) for n, (kind, name) in enumerate(chosen)]
        return replace(self, parameters=tuple(named))


Attempt = Callable[[Any], Any]


class Refused(Exception):
    """A part of a trial refuses it, for a reason in words; an option alone may be to blame."""

    def __init__(self, part: str, reason: str, option: str = "") -> None:
        super().__init__(reason)
        self.part, self.option = part, option


def refused_by(error: BaseException, part: str, trial: Trial, attempt: Attempt) -> Refused:
    """Say that a part refuses a trial, and which of its options is to blame, if that is clear."""
    component: Component = getattr(trial, part)
    words = str(error)
    if not isinstance(error, UsageError):
        words = f"{part} '{component.name}' cannot be used: {words_of(error)}."
    if trial.code is not None:  # which is not run again and again to find out more
        lines = own_lines(error)
        return Refused(part, words if lines in words else words + lines)
    options = dict(component.simpler())
    named = [option for option in options if re.search(rf"\b{re.escape(option)}\b", words)]
    advised = "\n" in words  # and then by us, who know the option
    if advised and len(named) == 1:
        return Refused(part, words, named[0])
    for option, other in options.items():
        if other is not None:
            with suppress(Exception):
                attempt(trial.model_copy(update={part: other}))
                hint = "" if advised else f"\n  It is accepted without '{option}'."
                return Refused(part, words + hint, option)
    hint = "" if advised else f"\n  Change its options, or choose another {part}."
    return Refused(part, words + hint, named[0] if len(named) == 1 else "")


def words_of(error: BaseException) -> str:
    """Return what an error says, and its name where that is needed to understand it.

    One without words is told with the function that raised it.
    """
    words = str(error).strip().rstrip(".")
    if not words and error.__traceback__ is not None:
        *_, (frame, _) = walk_tb(error.__traceback__)
        return f"{type(error).__name__} in {frame.f_code.co_qualname}"
    expected = isinstance(error, (ValueError, RuntimeError)) and words
    return words if expected else f"{type(error).__name__}: {words}"
