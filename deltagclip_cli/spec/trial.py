"""One training run, fully resolved: an experiment, an optimizer setting and a seed."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    ConfigDict,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
)

from deltagclip_cli.core import RunFolderError, read_file, shortened
from deltagclip_cli.spec.code import CodeFolder
from deltagclip_cli.spec.component import AS_WRITTEN, Frozen, canonical, canonical_json
from deltagclip_cli.spec.document import parse
from deltagclip_cli.spec.faults import Name, in_one_line
from deltagclip_cli.spec.grid import NUMBERS_STAY, role
from deltagclip_cli.spec.schema import (
    Experiment,
    Optimizer,
    Seed,
    TrialSettings,
)


@dataclass(frozen=True)
class Course:
    """The way of a training: its optimizer steps, in passes over the data and between evaluations.

    What lies between two evaluations is a round; where nothing else is said, it is a pass.
    """

    steps: int  # of the whole training
    in_pass: int  # of one pass
    in_round: int  # of one round; the last one ends with the training
    clock: Literal["epoch", "step"] = "epoch"  # in which it is told of

    def round_start(self, step: int) -> int:
        """Return how many steps are made when the round begins in which the next step lies."""
        return step // self.in_round * self.in_round

    def round_end(self, step: int) -> int:
        """Return how many steps are made when that round ends."""
        return min(self.steps, self.round_start(step) + self.in_round)

    def pass_of(self, step: int) -> int:
        """Return the number of the pass, from 1, in which a step lies, which counts from 1, too."""
        return (step - 1) // self.in_pass + 1

    def passes(self, step: int) -> int | float:
        """Return how many passes so many steps are: a whole number where they are whole."""
        return step / self.in_pass if step % self.in_pass else step // self.in_pass

    def rounds(self, step: int) -> int:
        """Return how many rounds so many steps are, with one that is begun."""
        return -(-step // self.in_round)

    def told(self, step: int) -> str:
        """Return where the training is at a step, such as ``epoch 3/10``, ``step 1,200/5,000``."""
        if self.clock == "step":
            return f"step {step:,}/{self.steps:,}"
        return f"epoch {self.pass_of(step)}/{self.pass_of(self.steps)}"


class Trial(TrialSettings):
    """Everything that one run is made of; what the worker is given, as ``trial.yaml``.

    ``schedule`` is the one in force: the optimizer's own if it has one, else the experiment's.
    ``code`` names the copy of the code of its parts, if there are any that no table has, and
    ``scale`` the setting that the experiment has several sizes of.
    """

    experiment: Annotated[Name, NUMBERS_STAY]
    label: Annotated[Name, NUMBERS_STAY]
    seed: Seed
    optimizer: Optimizer
    code: str | None = None
    scale: Annotated[str | None, NUMBERS_STAY] = None

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings that change the numbers, as plain data: no names, no rhythm of writing."""
        parts = {key: getattr(self, key) for key in _IDENTITY}
        return {
            key: each.plain() if isinstance(each, Frozen) else each
            for key, each in parts.items()
            if _is_said(key, each)
        }

    @property
    def flat_settings(self) -> dict[str, bool | int | float | str]:
        """:attr:`settings` by dotted names, such as ``optimizer.lr``; lists are JSON."""
        return dict(_dotted(self.settings, ""))

    @cached_property
    def canonical(self) -> dict[str, str]:
        """Each of :attr:`settings` but the seed, as JSON that is the same for what is the same."""
        parts = {key: getattr(self, key) for key in _IDENTITY if key != "seed"}
        return {
            key: each.as_canonical_json if isinstance(each, Frozen) else canonical_json(each)
            for key, each in parts.items()
            if each is not None and _is_said(key, each)
        }

    @cached_property
    def identity(self) -> str:
        """A SHA-256 of all of :attr:`settings`, in hexadecimal."""
        return _hash({**self.canonical, "seed": str(self.seed)})

    @cached_property
    def setting_hash(self) -> str:
        """A SHA-256 like :attr:`identity`, of all but the seed: what such trials have in common."""
        return _hash(self.canonical)

    @model_serializer(mode="wrap")
    def _in_order(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The data of ``trial.yaml``: who it is first, then what is told of every trial."""
        plain = handler(self)
        for name in _UNSAID:
            if not _is_said(name, getattr(self, name)):
                del plain[name]
        return {**{name: plain[name] for name in _FIRST if name in plain}, **plain}

    @property
    def unit(self) -> Literal["epoch", "step"]:
        """The unit in which the spec says how long the training is."""
        return "epoch" if self.steps is None else "step"

    @property
    def clock(self) -> Literal["epoch", "step"]:
        """The unit in which the training is told of: steps where the spec counts any."""
        return self.unit if self.evaluate_every is None else "step"

    @property
    def length(self) -> int:
        """The length of the training, in its unit."""
        length = self.epochs if self.steps is None else self.steps
        assert length is not None, "the spec has one of both"
        return length

    def course(self, in_pass: int) -> Course:
        """Return the way of its training over data with so many steps in a pass."""
        steps = self.length * (in_pass if self.unit == "epoch" else 1)
        return Course(steps, in_pass, self.evaluate_every or in_pass, self.clock)

    @property
    def references(self) -> tuple[str, ...]:
        """The names of all whose code the identity covers."""
        parts = (self.model, self.data, self.task, self.optimizer, self.schedule)
        return tuple(sorted({each for part in parts if part for each in part.references}))

    @property
    def code_folder(self) -> CodeFolder:
        """The folder in which the files of its parts are looked up."""
        return self.model._folder

    def keep_code(self) -> None:
        """Keep a copy of the code of its parts, and load them from it from now on."""
        if self.code is not None:
            self.code_folder.keep(self.references)

    @property
    def folder(self) -> str:
        """The run folder below the runs folder, with forward slashes."""
        return f"{self.experiment}/{self.label}/seed-{self.seed}-{self.identity[:8]}"

    def with_seed(self, seed: int) -> Self:
        """Return the same setting with another seed, and what was computed of the setting."""
        copied = self.model_copy(update={"seed": seed})
        copied.__dict__.update(canonical=self.canonical, setting_hash=self.setting_hash)
        return copied


_FIRST = (
    "experiment", "label", "seed", "epochs", "steps", "evaluate_every", "accumulate", "ema",
    "early_stopping", "precision", "determinism", "compile", "stack", "devices", "nodes",
    "parallel", "model", "data", "task", "optimizer",
)  # fmt: skip
# where trials are told of, if they are as they are where nobody says anything
_UNSAID = (
    "code", "epochs", "steps", "evaluate_every", "accumulate", "ema", "early_stopping",
    "determinism", "compile", "stack", "devices", "nodes", "parallel", "scale",
)  # fmt: skip
_IDENTITY = [
    name
    for name in dict.fromkeys([*_FIRST, *Trial.model_fields])
    if role(Trial.model_fields[name]).identity
]


def _is_said(name: str, value: Any) -> bool:
    return name not in _UNSAID or value != Trial.model_fields[name].default


def _hash(canonical: Mapping[str, str]) -> str:
    parts = ", ".join(f'"{key}": {canonical[key]}' for key in sorted(canonical))
    return hashlib.sha256(f"{{{parts}}}".encode()).hexdigest()


def trial_to_run(written: Mapping[str, Any], runs: Path) -> Trial:
    """Check the plain data of a trial; files of its parts are those of the copy that it names.

    Raises:
        ValidationError: something that it names does not exist in this version.
        LookupError: the copy is not there.
    """
    folder, code = CodeFolder(), written.get("code")
    if code is not None:
        folder = CodeFolder.of_copy(runs, written["experiment"], code)
    return Trial.model_validate(written, context=folder)


def read_trial(file: Path, *, to_run: bool = False) -> Trial:
    """Read the trial of a ``trial.yaml`` as it was written; to run it, all it names must exist."""
    try:
        written = parse(read_file(file).decode())
        if to_run and isinstance(written, dict):
            return trial_to_run(written, file.parents[3])
        return Trial.model_validate(written, context=AS_WRITTEN)
    except FileNotFoundError:
        raise RunFolderError(
            f"{file.parent}: not a run folder, for it has no {file.name}.\n"
            "  Folders are made by 'deltagclip train'."
        ) from None
    except ValidationError as error:
        reason = in_one_line(error)
    except (OSError, ValueError, LookupError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join((getattr(error, "strerror", None) or str(error)).split())
    verb = "can run" if to_run else "reads"
    raise RunFolderError(
        f"{file}: not a trial that this version {verb}: {shortened(reason, 300)}.\n"
        "  Delete the folder to run the trial again."
    )


def stacks_with(trial: Trial) -> Hashable | None:
    """Return what trials have in common that train in one stack; None of one that trains alone.

    Members share the network, the data, the task and the arithmetic. Each has its own optimizer,
    schedule, length, early end and seed.
    """
    if trial.stack is None:
        return None
    own = ("optimizer", "schedule", "epochs", "steps", "evaluate_every", "accumulate", "ema",
           "early_stopping")  # fmt: skip
    shared = {key: each for key, each in trial.canonical.items() if key not in own}
    return (trial.experiment, *sorted(shared.items()))


def distinct_inputs(trials: Iterable[Trial]) -> list[Trial]:
    """Return one of the trials for each of the data sets and pretrained networks that they load."""
    found = {
        (each.data.model_dump_json(), each.model.options.get("pretrained")): each for each in trials
    }
    return list(found.values())


def make_trial(
    name: str, experiment: Experiment, label: str, seed: int, optimizer: Optimizer | None = None
) -> Trial:
    """Return the trial of one optimizer, by default as it is written under ``optimizers``."""
    optimizer = optimizer or experiment.optimizers[label]
    shared = {key: getattr(experiment, key) for key in TrialSettings.model_fields}
    if "schedule" in optimizer.model_fields_set:
        shared["schedule"] = optimizer.schedule
    schedule = shared["schedule"]
    if schedule is not None and schedule.unit is None:
        # One that waits for losses is told of evaluations, whatever the training is counted in.
        in_steps = experiment.steps is not None and schedule.name != "reducelronplateau"
        unit = "step" if in_steps else "epoch"
        shared["schedule"] = schedule.model_copy(update={"unit": unit})
    shared["scale"] = experiment.scaled
    made = Trial(experiment=name, label=label, seed=seed, optimizer=optimizer, **shared)
    code = made.code_folder.name(made.references)
    return made if code is None else made.model_copy(update={"code": code})


_SEEDS = TypeAdapter(list[Seed], config=ConfigDict(strict=True))


def expand(
    name: str, experiment: Experiment, seeds: Iterable[int] = (), labels: Iterable[str] = ()
) -> Iterator[Trial]:
    """Yield every trial of an experiment: each optimizer, point of the grid and seed.

    Settings of one label that agree in everything that changes the numbers are one trial. ``seeds``
    replace those of the experiment, ``labels`` choose among its optimizers.

    Raises:
        KeyError: there is no optimizer with one of the labels.
        ValidationError: a seed is out of range.
    """
    first, *others = dict.fromkeys(_SEEDS.validate_python(list(seeds)) or experiment.seeds)
    for label in dict.fromkeys(labels) or experiment.optimizers:
        seen = set()
        for variant in experiment.variants(label):
            trial = make_trial(name, variant.experiment, label, first, variant.optimizer)
            if trial.setting_hash not in seen:
                seen.add(trial.setting_hash)
                yield trial
                yield from map(trial.with_seed, others)


def distinguished(trials: Iterable[Trial]) -> dict[tuple[str, str, str], str]:
    """Return how each setting differs from others of its experiment and label, in words.

    Such as ``"lr=0.1 model.width=256"``: options of the optimizer by their bare names, and only
    keys in which two settings differ; empty where a label has one setting. The keys are the
    experiment, the label and :attr:`Trial.setting_hash`.
    """
    by_label: dict[tuple[str, str], dict[str, Trial]] = defaultdict(dict)
    for trial in trials:
        by_label[trial.experiment, trial.label].setdefault(trial.setting_hash, trial)
    return {
        (*label, setting): " ".join(f"{key}={word}" for key, word in words.items())
        for label, settings in by_label.items()
        for setting, words in differing_settings(settings).items()
    }


def differing_settings(
    trials: Mapping[str, Trial], sections: Iterable[str] = ()
) -> dict[str, dict[str, str]]:
    """Return for each trial, in words, the settings (of some sections) in which they differ."""
    sections = sections or dict.fromkeys(
        ["optimizer", *(key for each in trials.values() for key in each.canonical)]
    )
    varying = [key for key in sections if len({t.canonical.get(key) for t in trials.values()}) > 1]
    flat = {setting: _flat(trial.settings, varying) for setting, trial in trials.items()}
    parts: dict[str, dict[str, str]] = {setting: {} for setting in trials}
    for section, name, shown in dict.fromkeys(key for each in flat.values() for key in each):
        having = {
            setting: each.get((section, name, shown))
            for setting, each in flat.items()
            if name is None or each[section, None, section] == name
        }
        words = _words(list(having.values()))
        if len(set(words)) > 1:
            for setting, word in zip(having, words, strict=True):
                parts[setting][shown] = word
    return told_apart_without_code(parts)


def told_apart_without_code(parts: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Leave out the code, which says nothing to people, where other settings tell all apart."""
    without = {key: {k: v for k, v in each.items() if k != "code"} for key, each in parts.items()}
    enough = [len({*map(str, each.values())}) for each in (parts, without)]
    return without if enough[0] == enough[1] else parts


def _flat(settings: Mapping[str, Any], sections: Iterable[str]) -> dict[tuple[str, Any, str], Any]:
    """Return each value by its section, the name chosen there, and the name that it is shown by.

    Options are compared among those of one name only: that Adam has no momentum says nothing that
    its name does not.
    """
    flat: dict[tuple[str, Any, str], Any] = {}
    for section in sections:
        value = settings.get(section, Trial.model_fields[section].default)
        if not isinstance(value, dict):
            flat[section, None, section] = value[:8] if section == "code" and value else value
            continue
        if "name" not in value:
            flat |= {(section, None, f"{section}.{key}"): each for key, each in value.items()}
            continue
        name, prefix = value["name"], "" if section == "optimizer" else f"{section}."
        flat[section, None, section] = name
        flat |= {(section, name, prefix + key): value[key] for key in value if key != "name"}
    return flat


def _dotted(value: Any, prefix: str) -> Iterator[tuple[str, bool | int | float | str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _dotted(item, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, (bool, int, float, str)):
        yield prefix, value
    elif value is not None:
        yield prefix, json.dumps(value)


def _words(values: list[Any]) -> list[str]:
    """Return each value in few characters, unless different ones would then look the same."""
    plain = [canonical(value) for value in values]
    exact = [in_a_word(value, repr) for value in plain]
    short = [in_a_word(value) for value in plain]
    return short if len(set(short)) == len(set(exact)) else exact


def options_in_words(options: Mapping[str, Any]) -> str:
    """Return the options of a setting in few words, such as ``lr=0.1 gamma=1``."""
    return " ".join(f"{name}={in_a_word(value)}" for name, value in options.items())


def in_a_word(value: Any, number: Callable[[float], str] = "{:g}".format) -> str:
    """Return the value of a setting, plain data, as it is shown, such as ``1e-3`` or ``off``."""
    match value:
        case None:
            return "off"
        case bool():
            return str(value).lower()
        case float():
            return number(value).replace("e-0", "e-").replace("e+0", "e+")
        case list() | tuple():
            return f"[{','.join(in_a_word(item, number) for item in value)}]"
        case dict():
            items = (f"{key}:{in_a_word(item, number)}" for key, item in value.items())
            return f"{{{','.join(items)}}}"
    return str(value)


def differing_keys(one: Any, other: Any, prefix: str = "") -> list[str]:
    """Return the keys at which two sets of plain data differ, as ``"a.b (1 then, 2 now)"``."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            difference
            for key in sorted({*one, *other})
            for difference in differing_keys(one.get(key), other.get(key), f"{prefix}{key}.")
        ]
    return [] if one == other else [f"{prefix[:-1]} ({one!r} then, {other!r} now)"]
