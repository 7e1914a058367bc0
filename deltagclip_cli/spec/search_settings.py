"""Searches, protocols and early ends: all that judges by a metric."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    Field,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticKnownError

from deltagclip_cli.core import TRAINED_METRICS, listed, measured_on, more_is_better, plural
from deltagclip_cli.spec.axes import AnyDistribution, extremes, read_distribution
from deltagclip_cli.spec.component import Component, SpecSection
from deltagclip_cli.spec.faults import collected, explained, raised, refused, unknown_label

if TYPE_CHECKING:
    from deltagclip_cli.spec.data_settings import Data
    from deltagclip_cli.spec.task_settings import Task


Space = Annotated[dict[str, AnyDistribution], Field(min_length=1)]


_METRIC = re.compile(r"(train|(validation|test)(_ema)?)/[\w.-]+")


class Measured(NamedTuple):
    """The metrics of an experiment, as far as they are known before it runs."""

    names: Sequence[str] = TRAINED_METRICS  # of all; none if nobody knows
    rising: Mapping[str, bool] = MappingProxyType({})  # whether more is better, where that is said

    @classmethod
    def of(cls, task: Task | None, data: Data | None, ema: float | None) -> Self:
        """Return what is known of the metrics of a task; None stands for one that has faults."""
        if task is None or data is None or task.is_own:
            return cls(names=())
        splits = ["train", "test"]
        if data.is_own or data.has_validation:
            splits.append("validation")
        if ema is not None:
            splits += [f"{split}_ema" for split in splits[1:]]
        names = ["loss", *task.metrics]
        return cls([f"{split}/{name}" for split in splits for name in names], task.rising)

    def includes(self, name: object) -> bool:
        """Return whether there may be a metric of this name."""
        is_known = name in self.names
        return is_known or (not self.names and bool(_METRIC.fullmatch(str(name))))


FIXED = "fixed"


class Judged(SpecSection):
    """A section that judges by the values of a metric at the end of the training."""

    metric: str
    """By which it is judged, at the end of the training."""
    direction: Literal["minimize", "maximize"]
    """Towards better values; mostly known from the name of the metric."""

    @model_validator(mode="before")
    @classmethod
    def _follow_the_metric(cls, value: Any, info: ValidationInfo) -> Any:
        """More accuracy is better and less loss, unless the direction is written."""
        if not isinstance(value, dict):
            return value
        metric, measured = str(value.get("metric")), info.context or Measured()
        rises = measured.rising.get(metric.partition("/")[2], more_is_better(metric))
        if rises is None and measured.includes(metric):
            return value  # whose direction is missing then
        return {"direction": "maximize" if rises else "minimize", **value}

    @field_validator("metric", mode="plain")
    @classmethod
    def _is_measured(cls, value: Any, info: ValidationInfo) -> str:
        measured = info.context or Measured()
        if measured.includes(value):
            return str(value)
        if str(value).replace("validation", "test", 1) in measured.names:
            said = f"there is no {value}: these data have no validation split."
            raise refused(said, "write data: {validation: 0.1}, a share of the training samples")
        *others, last = map(repr, measured.names or ("train/…", "validation/…", "test/…"))
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(others)} or {last}"})


class Search(Judged):
    """A search for the best ``metric`` among the options in ``space``, for each label alone.

    Labels in ``fixed`` take part in a protocol as they are written.
    """

    sampler: Literal["sobol", "random", "tpe"] = "sobol"
    """``sobol`` spreads settings evenly, ``random`` draws each alone, ``tpe`` learns (Optuna)."""
    pruner: Literal["median", "halving", "none"] = "none"
    """Gives up settings early: ``halving`` lets one in three go on at each rung."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Of the sampler; trials have the seeds of the experiment."""
    space: Annotated[dict[str, Space], Field(min_length=1)]
    """By label and option, a distribution; ``fixed: true`` takes an optimizer as written."""
    fixed: frozenset[str] = frozenset()

    @field_validator("pruner")
    @classmethod
    def _looks_back(cls, pruner: str, info: ValidationInfo) -> str:
        if pruner == "median" and info.data.get("sampler", "tpe") != "tpe":
            said = "pruner: median compares with what has ended before, as only sampler: tpe does."
            raise refused(said, "write sampler: tpe, too, or pruner: halving or none")
        return pruner


def read_search(
    written: Any, optimizers: Mapping[str, Component] | None, measured: Measured
) -> Search:
    """Read the search of an experiment; ``optimizers`` are None if they have faults."""
    faults: list[InitErrorDetails] = []
    written, fixed = _without_fixed(written, faults)
    with collected(faults, ()):
        search = Search.model_validate(written, context=measured)
        search = search.model_copy(update={"fixed": fixed})
    labels = optimizers or {}
    faults += [
        unknown_label(label, labels, ("space", label))
        for label in fixed
        if optimizers is not None and label not in labels
    ]
    checkable = isinstance(written, dict) and optimizers is not None
    for label, options in _items(written.get("space") if checkable else None):
        if label not in labels:
            faults.append(unknown_label(label, labels, ("space", label)))
            continue
        optimizer = labels[label]
        for option, distribution in _items(options):
            where = ("space", label, option)
            fault = optimizer.refusal(option, where)
            if fault is not None:
                faults.append(fault)
                continue
            with suppress(ValidationError):  # of its form, which is among the faults already
                for place, value in extremes(read_distribution(distribution)):
                    with collected(faults, (*where, *place)):
                        optimizer.with_option(option, value)
    if faults:
        raise raised(faults)
    return search


def _items(written: Any) -> Iterable[tuple[Any, Any]]:
    return written.items() if isinstance(written, dict) else ()


def _without_fixed(written: Any, faults: list[InitErrorDetails]) -> tuple[Any, frozenset[str]]:
    """Take those out of the spaces that say ``fixed: true``."""
    if not isinstance(written, dict) or not isinstance(written.get("space"), dict):
        return written, frozenset()
    if FIXED in written:
        hint = "write it below the label: space: {LABEL: {fixed: true}}"
        faults.append(explained("unknown option 'fixed'.", hint, (FIXED,)))
        written = {key: value for key, value in written.items() if key != FIXED}
    said = {
        label: each[FIXED]
        for label, each in written["space"].items()
        if isinstance(each, dict) and FIXED in each
    }
    for label, value in said.items():
        if value is not True or len(written["space"][label]) > 1:
            message = "fixed: true takes an optimizer as it is written, without a space."
            faults.append(explained(message, "leave out one of the two", ("space", label, FIXED)))
    space = {label: each for label, each in written["space"].items() if label not in said}
    return {**written, "space": space}, frozenset(said)


_SEEDS_END = 2**31
_SPACES = "write search: {space: {LABEL: {lr: {log_uniform: [1e-4, 1]}}}}, or {fixed: true} there"

Draws = Annotated[int, Field(ge=1, le=100_000)]


class Protocol(Judged):
    """Settings that are drawn of every optimizer, a choice, and fresh seeds for what was chosen."""

    draws: Draws | Annotated[dict[str, Draws], Field(min_length=1)]
    """Settings that are drawn of each optimizer, or a mapping by label."""
    sampler: Literal["sobol", "random"] = "sobol"
    """``sobol`` spreads settings evenly, ``random`` draws each alone."""
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=_SEEDS_END)]], Field(min_length=1)] = Field(
        default_factory=list
    )
    """With which each drawn setting is run; without any, those of the experiment."""
    fresh_seeds: Annotated[int, Field(ge=2, le=10_000)] = 10
    """Seeds that chose nothing, with which a chosen setting is run."""
    studies: Annotated[int, Field(ge=1, le=1_000)] = 1
    """Repetitions of all of it, with other draws and other seeds."""
    baseline: str | None = None
    """The label that others are compared with; without it, each with each."""
    unequal: Annotated[str, Field(min_length=1)] | None = None
    """The reason that some have fewer draws than others; every table shows it."""

    @property
    def search(self) -> dict[str, Any]:
        """The settings of the experiment's search that it does not write itself."""
        own = {key: getattr(self, key) for key in ("metric", "direction", "sampler")}
        return {**own, "pruner": "none"}

    def draws_of(self, label: str, fixed: Collection[str]) -> int:
        """Return how many settings of an optimizer a study has."""
        if label in fixed:
            return 1
        return self.draws if isinstance(self.draws, int) else self.draws[label]


def read_protocol(written: Any, measured: Measured) -> Protocol | None:
    """Read the protocol of an experiment."""
    if written is None:
        return None
    faults: list[InitErrorDetails] = []
    with collected(faults, ()):
        protocol = Protocol.model_validate(written, context=measured)
    if isinstance(written, dict) and written.get("sampler") == "tpe":
        message = "each draw of sampler: tpe hangs on those before, so nothing follows for others."
        hint = "write sampler: sobol or random; a search may have tpe: sweep --search"
        faults = [each for each in faults if each["loc"] != ("sampler",)]
        faults.append(explained(message, hint, ("sampler",)))
    if faults:
        raise raised(faults)
    return protocol


def protocol_faults(
    protocol: Protocol, search: Search | None, labels: Collection[str], seeds: list[int]
) -> list[InitErrorDetails]:
    """Return what a protocol lacks, or has too much, for the optimizers of its experiment."""
    faults: list[InitErrorDetails] = []
    fixed = search.fixed if search else frozenset()
    lacking = [e for e in labels if e not in fixed and (search is None or e not in search.space)]
    if lacking:
        message = f"{listed(lacking)} {'has' if len(lacking) == 1 else 'have'} no search space."
        faults.append(explained(message, _SPACES, ("protocol",)))
    if search is not None and (search.sampler == "tpe" or search.pruner != "none"):
        key = "sampler" if search.sampler == "tpe" else "pruner"
        message = f"a protocol runs every draw to its end, without {key}: {getattr(search, key)}."
        faults.append(
            explained(message, "leave it out, or leave out the protocol", ("search", key))
        )
    if search is not None and search.metric != protocol.metric:
        message = f"the search judges by {search.metric}, the protocol by {protocol.metric}."
        hint = "write the metric in the protocol alone"
        faults.append(explained(message, hint, ("search", "metric")))
    faults += [
        unknown_label(label, labels, ("protocol", key))
        for key, named in (("baseline", [protocol.baseline]), ("draws", _labels(protocol)))
        for label in named
        if label is not None and label not in labels
    ]
    if faults:
        return faults
    if isinstance(protocol.draws, dict):
        left_out = [each for each in labels if each not in fixed and each not in protocol.draws]
        if left_out:
            hint = "one number is for all: draws: 20"
            message = f"draws has no number for {listed(left_out)}."
            return [explained(message, hint, ("protocol", "draws"))]
    budgets = {label: protocol.draws_of(label, fixed) for label in labels}
    if len(set(budgets.values())) > 1 and protocol.unequal is None:
        most, least = max(budgets.values()), min(budgets, key=budgets.__getitem__)
        message = f"{least} has {plural(budgets[least], 'draw')}, another one {most}."
        hint = "who draws more finds more: give all the same, or say unequal: 'the reason'"
        faults.append(explained(message, hint, ("protocol", "draws")))
    if twice := [seed for seed, count in Counter(protocol.seeds).items() if count > 1]:
        message = f"seed {twice[0]} is there twice, and would be run once."
        faults.append(explained(message, "write each seed once", ("protocol", "seeds")))
    studies = protocol.studies * (max(protocol.seeds or seeds) + 1 + protocol.fresh_seeds)
    if studies > _SEEDS_END:
        message = "so many studies have no room for seeds of their own."
        hint = f"seeds end at {_SEEDS_END - 1:,}: write smaller ones in protocol.seeds"
        faults.append(explained(message, hint, ("protocol", "studies")))
    return faults


def _labels(protocol: Protocol) -> list[str]:
    return list(protocol.draws) if isinstance(protocol.draws, dict) else []


class EarlyStopping(Judged):
    """The end of a training whose ``metric`` has not become better for so many evaluations."""

    patience: PositiveInt
    """Evaluations in a row that may be no better than the best before them."""

    @property
    def is_on_test(self) -> bool:
        """True if the training would end where the test set likes it best."""
        return measured_on(self.metric) == "test"
