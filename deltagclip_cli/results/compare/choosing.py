"""By what settings and epochs are chosen: by a validation split, else by the test set, with a mark.

Whatever chooses asks here, so that no number that the test set has chosen is shown without saying
so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deltagclip_cli.core import MARK, UsageError, listed, measured_on, stopped
from deltagclip_cli.results.compare.paper import content

if TYPE_CHECKING:
    from deltagclip_cli.results.read.run import Run
    from deltagclip_cli.spec.schema import Experiment

OPTION = "--select-on-test"


def chooser(metric: str, runs: Iterable[Run]) -> str:
    """Return the metric by which one chooses among what is compared by another.

    Of a metric of the test set that is the same of a validation split, if all runs have it.
    """
    having = [run.curves for run in runs if metric in run.curves]
    if measured_on(metric) != "test" or not having:
        return metric
    there = {name.lower(): name for name in having[0]}
    for word in ("validation", "val", "valid"):
        twin = re.sub(r"(?<![a-z0-9])(test|eval)(?![a-z0-9])", word, metric.lower(), count=1)
        if twin in there and all(there[twin] in curves for curves in having):
            return there[twin]
    return metric


def check_choice(what: str, metric: str, *, select_on_test: bool) -> None:
    """Raise UsageError if somebody would choose by the test set without having asked for it."""
    if measured_on(metric) == "test" and not select_on_test:
        raise UsageError(
            f"{what}: {metric} would choose on the test set, which flatters what it chooses.\n"
            "  Choose by a validation split instead (data: {validation: 0.1} measures"
            f" {metric.replace('test', 'validation', 1)}),\n"
            f"  or say {OPTION}: then all that rests on it says so."
        )


def check_ends(experiments: Mapping[str, Experiment], *, select_on_test: bool) -> bool:
    """Raise UsageError if the test set would end trainings without having been asked for.

    Returns:
        Whether it ends some.
    """
    ended = {name: each.early_stopping for name, each in experiments.items()}
    for name, early in ended.items():
        if early is not None:
            check_choice(f"{name}: early_stopping", early.metric, select_on_test=select_on_test)
    return any(early is not None and early.is_on_test for early in ended.values())


@dataclass(frozen=True)
class Selection:
    """A choice among what is compared, of settings or epochs."""

    metric: str  # that chose
    compared: str  # the metric that is shown
    settings: bool = True  # whether an optimizer had several to choose from
    moment: str | None = None  # ``epoch`` or ``step``, of which each run shows its best
    paper: bool = False  # whether the settings are the paper's, who chose them
    ended_by: str | None = None  # a metric of the test set that ended trainings
    unequal: str | None = None  # why a plan drew more settings of some optimizers than of others

    @property
    def by(self) -> str | None:
        """The metric that chose; None if only the paper's authors did."""
        return self.metric if self.settings or self.moment else self.ended_by

    @property
    def on(self) -> str:
        """The part of the data that chose: ``train``, ``validation``, ``test`` or ``other``."""
        return "test" if self.paper or self.ended_by else measured_on(self.metric)

    @property
    def notes(self) -> list[str]:
        """Sentences on it; none where what is compared chose, and is not of the test set."""
        told = [content()["chosen_on_test"]["says"]] if self.paper else []
        if self.ended_by:
            told.append(f"{self.ended_by} ended trainings, whose ends were {MARK}: it flatters.")
        if self.unequal:
            told.append(f"Unequal budgets, as planned: {stopped(self.unequal)}")
        chosen = ["the best setting of an optimizer"] if self.settings else []
        chosen += [f"the best {self.moment} of each run"] if self.moment else []
        if not chosen:
            return told
        one = len(chosen) == 1
        verb, flatters = ("was", "it flatters") if one else ("were", "they flatter")
        who = listed(chosen)
        words = f"{who[:1].upper()}{who[1:]} {verb}"
        if measured_on(self.metric) == "test":
            return [*told, f"{words} {MARK}: {flatters}."]
        if self.metric != self.compared:
            return [*told, f"{words} chosen by {self.metric}."]
        if self.moment:
            told += [f"The best {self.moment} was chosen by the value that is shown: it flatters."]
        return told


def chosen_on(choices: Iterable[Selection | None]) -> str | None:
    """Return the part of the data that chose, the test set if it did any of it; None for none."""
    parts = [each.on for each in choices if each is not None]
    return "test" if "test" in parts else next(iter(parts), None)


def is_of_the_paper(experiment: str) -> bool:
    """Return whether an experiment repeats one of the paper's, with its authors' settings."""
    return experiment in content()["chosen_on_test"]["experiments"]
