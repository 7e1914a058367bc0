"""Runs and their curves, wherever they were read from, and what their metrics are called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from deltagclip_cli.spec.trial import Trial

Numbers = NDArray[np.float64]

Option = bool | float | str
"""The value of a hyperparameter."""

RATE = "optim/lr"
"""The metric that tells the learning rate of the last step before a record."""

_SAME_RATE = 1e-6  # the part by which a rate may differ from one that is the same


class Outcome(StrEnum):
    """The end of a run, as far as a comparison is concerned."""

    FINISHED = "finished"
    DIVERGED = "diverged"
    FAILED = "failed"
    UNFINISHED = "unfinished"


@dataclass(frozen=True, eq=False)
class Curve:
    """One metric over the course of a run, all arrays of the same length (N,), N > 0."""

    steps: Numbers  # optimizer steps; of other people's runs, whatever they counted
    epochs: Numbers  # whole epochs; of other people's runs, their steps once more
    # of the epochs, evaluation included, without what was waited in between; of other people's
    # runs, since their first file was begun
    seconds: Numbers
    values: Numbers  # float64; NaN or infinite where the metric was not finite
    has_epochs: bool = True  # whether epochs are known, and are not just the steps once more
    tag: str = ""  # what the event files of the run call the metric, if that is not its name


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed."""

    experiment: str  # its name; of other people's runs, that of the folder that was searched
    optimizer: str  # the label; of other people's runs, what their names have in common
    # what tells it from other groups of the optimizer, a word for each name
    settings: Mapping[str, str] = field(default_factory=dict)
    # what tells model, data, task, epochs and precision from those of other groups of the
    # experiment, likewise. Only groups of the same conditions can be compared.
    conditions: Mapping[str, str] = field(default_factory=dict)
    # all options of the optimizer, its name included; empty if nobody knows them
    options: Mapping[str, object] = field(default_factory=dict)
    is_ours: bool = False  # whether its runs are run folders of this program

    def __hash__(self) -> int:
        return hash((self.experiment, self.name))

    @property
    def name(self) -> str:
        """The optimizer and its settings."""
        return " ".join([self.optimizer, *in_words(self.settings)])


def in_words(settings: Mapping[str, str]) -> list[str]:
    """Return ``lr=0.1`` for each of some settings."""
    return [f"{key}={word}" for key, word in settings.items()]


@dataclass(frozen=True, eq=False)
class Run:
    """One run."""

    folder: Path  # where its files are
    group: Group  # what it has in common with runs of other seeds
    # tells it from those, and pairs it with runs of other groups; a word of other people's runs,
    # None where nobody knows it
    seed: int | str | None
    outcome: Outcome  # how it ended
    reason: str  # why it did not finish; empty if it did, or if nothing is known
    curves: Mapping[str, Curve]  # by the names of the metrics
    parts: Sequence[Path] = ()  # folders below its own that hold files of it, too
    # that change the bits of its numbers, such as ``threads``; none of other people's runs
    circumstances: Mapping[str, str] = field(default_factory=dict)
    trial: Trial | None = None  # what was run; None of other people's runs

    @property
    def clock(self) -> Literal["epoch", "step"]:
        """The unit that it is told of in: steps where its spec has any, or nobody knows epochs."""
        if self.trial is not None:
            return self.trial.clock
        return "epoch" if any(each.has_epochs for each in self.curves.values()) else "step"

    @property
    def seed_or_folder(self) -> int | str | Path:
        """Something that no other run of its group has, unless a seed is there twice."""
        return self.folder if self.seed is None else self.seed

    def is_inside_schedule(self, step: float) -> bool:
        """Return whether the learning rate was to change after a step, by its schedule.

        What the run had there is not what a training has whose schedule ends there: rankings flip
        as the rate decays (Wen et al., arXiv 2509.02046). Of other people's runs, the rate that
        they logged says so. A run that broke off before its schedule ended was inside it.
        """
        if self.trial is not None:
            if self.trial.schedule is None:
                return False
            if not self._is_whole:
                return True
        rates = self.curves.get(RATE)
        if rates is None:
            return False
        begin = max(0, int(np.searchsorted(rates.steps, step, side="right")) - 1)
        later = rates.values[begin:][np.isfinite(rates.values[begin:])]
        return len(later) > 0 and bool(np.ptp(later) > _SAME_RATE * np.abs(later).max())

    @property
    def _is_whole(self) -> bool:
        """Its curves go to where its spec said that they end."""
        assert self.trial is not None
        ends = (c.epochs if self.trial.unit == "epoch" else c.steps for c in self.curves.values())
        return max((float(each[-1]) for each in ends), default=0.0) >= self.trial.length


def usual_clock(runs: Iterable[Run]) -> Literal["epoch", "step"]:
    """Return what runs are told of in, some of them at least if not all."""
    return "epoch" if any(run.clock == "epoch" for run in runs) else "step"


def not_ended(runs: Sequence[Run]) -> str:
    """Return what is said where no run has come to its end: how far they are."""
    unit = usual_clock(runs)
    curves = [curve for run in runs for curve in run.curves.values() if len(curve.epochs)]
    ends = [(each.epochs if unit == "epoch" else each.steps)[-1] for each in curves]
    far = f" (the longest is at {unit} {max(ends):.7g})" if ends else ""
    return f"No run has come to its end yet{far}; deltagclip status shows how far they are."


@dataclass(frozen=True)
class Reading:
    """The runs of some folders in their order, and a sentence on each problem and doubt."""

    runs: Sequence[Run]
    problems: Sequence[str]


SETS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "eval": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
}
"""Words of folders and tags for the parts of the data, and this project's."""


def split_metric(name: str) -> tuple[str, str]:
    """Return the data set that a metric was measured on, if its name says so, and the quantity.

    Of ``test_ema/loss``, measured at averaged weights, these are ``test`` and ``loss, averaged``.
    """
    dataset, slash, quantity = name.partition("/")
    if dataset.endswith("_ema"):
        dataset, quantity = dataset.removesuffix("_ema"), f"{quantity}, averaged"
    dataset = "val" if dataset == "validation" else dataset  # of data of one's own
    return (dataset, quantity) if slash and dataset in SETS.values() else ("", name)


_QUANTITIES = {"loss": "loss", "acc": "accuracy", "accuracy": "accuracy", "top1": "accuracy"}
_SINGLE = {"grad_norm": "optim/grad_norm", "lr": RATE, "learning_rate": RATE}


def standard_name(tag: str) -> str:
    """Return our name of what others call ``test_acc``, ``Loss/train`` or ``lr``; else the tag."""
    words = [word for word in re.split(r"[/_\-. ]+", tag.lower()) if word]
    match words:
        case [one, other] if one in SETS and other in _QUANTITIES:
            return f"{SETS[one]}/{_QUANTITIES[other]}"
        case [one, other] if one in _QUANTITIES and other in SETS:
            return f"{SETS[other]}/{_QUANTITIES[one]}"
    return _SINGLE.get("_".join(words), tag)


def name_in_set(name: str, tag: str) -> str:
    """Return a metric's name, by a folder of :data:`SETS` and a tag, as Keras' ``epoch_loss``."""
    bare = tag.removeprefix("epoch_")
    standard = standard_name(bare)
    if standard != bare or standard.partition("/")[0] in SETS.values():
        return standard
    return f"{SETS[name.lower()]}/{_QUANTITIES.get(bare.lower(), bare)}"


def standard_names(tags: Iterable[str]) -> dict[str, str]:
    """Return a name for each tag of a run; two tags never get the same."""
    tags = list(tags)
    names: dict[str, str] = {}
    taken = set(tags)
    for tag in tags:
        name = standard_name(tag)
        if name != tag and name in taken:
            name = tag
        taken.add(name)
        names[tag] = name
    return names
