"""What the trials of a setting came to, taken together over seeds."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from deltagclip_cli.core import standard_error
from deltagclip_cli.plan.planned import Planned
from deltagclip_cli.runs.folder import State


@dataclass(frozen=True)
class Mean:
    """A mean over seeds, with its standard error s/√n, where s has n - 1 degrees of freedom.

    Args:
        n: how many values there were.
        value: their mean.
        standard_error: None for a single value.
    """

    n: int
    value: float
    standard_error: float | None


@dataclass(frozen=True)
class SettingSummary:
    """One optimizer setting of an experiment, with what became of its seeds.

    Args:
        experiment: its name.
        label: of the optimizer.
        settings: what tells it from other settings of the label; may be empty.
        states: how many trials are in which state.
        metrics: over the finished trials, at their last epoch. A diverged trial has no last value,
            so that ``states`` has to be shown beside them.
    """

    experiment: str
    label: str
    settings: str
    states: Mapping[State, int]
    metrics: Mapping[str, Mean]

    @property
    def name(self) -> str:
        """The label and the settings."""
        return f"{self.label} {self.settings}".rstrip()


def summarize(planned: Iterable[Planned]) -> list[SettingSummary]:
    """Group trials by their setting, in the order of their first trials."""
    groups: dict[tuple[str, str, str], list[Planned]] = {}
    for each in planned:
        key = (each.trial.experiment, each.trial.label, each.trial.setting_hash)
        groups.setdefault(key, []).append(each)
    return [_summary(group) for group in groups.values()]


def _summary(group: Sequence[Planned]) -> SettingSummary:
    first = group[0]
    finished = [each.result for each in group if each.state is State.FINISHED and each.result]
    names = dict.fromkeys(name for result in finished for name in result["last"])
    return SettingSummary(
        experiment=first.trial.experiment,
        label=first.trial.label,
        settings=first.settings,
        states=Counter(each.state for each in group),
        metrics={name: mean([result["last"].get(name) for result in finished]) for name in names},
    )


def mean(values: Sequence[float | None]) -> Mean:
    """The mean and its standard error of the values that are there."""
    there = [value for value in values if value is not None]
    return Mean(len(there), statistics.fmean(there) if there else math.nan, standard_error(there))
