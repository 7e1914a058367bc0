"""Questions to runs: a metric, when it is read, and a value of it to be reached."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from deltagclip_cli.core import (
    COMPARED_METRICS,
    Mode,
    NotYetError,
    UsageError,
    as_number,
    more_is_better,
    nearest,
)
from deltagclip_cli.results.read.run import Curve, Numbers, Outcome, Run, standard_name
from deltagclip_cli.results.statistics.summary import Summary, summarize
from deltagclip_cli.results.statistics.summary import median as middle

_MOST_NAMES = 12


def choose_metric(runs: Iterable[Run], asked: str | None, words: str = "--metric") -> str:
    """Return the metric that is asked for, or the usual one; an error if no run has it (yet)."""
    there = dict.fromkeys(name for run in runs for name in run.curves)
    wanted = COMPARED_METRICS if asked is None else (asked, standard_name(asked))
    for name in wanted:
        if name in there:
            return name
    if not there:
        raise NotYetError(
            "There is nothing to compare yet: no run has come to the end of its first epoch.\n"
            "  deltagclip status shows how far they are."
        )
    what = f"{words} is needed" if asked is None else f"{words}: no run has that metric"
    raise UsageError(f"{what}.\n  metrics: {with_nearest(asked or '', there)}")


def usual_metric(runs: Sequence[Run]) -> str | None:
    """Return the first of :data:`~deltagclip_cli.core.COMPARED_METRICS` that some run has."""
    return next((name for name in COMPARED_METRICS if any(name in r.curves for r in runs)), None)


def with_nearest(word: str, names: Iterable[str]) -> str:
    """Return names as a list for a message, with a hint at those that are like a word."""
    names = list(names)
    more = len(names) - _MOST_NAMES
    listed = ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
    return f"{listed}{nearest(word, names)}" if word and word not in names else listed


def known_direction(metric: str, runs: Iterable[Run]) -> bool | None:
    """Return whether more of a metric is better, as its spec or its name says; None if neither."""
    name = metric.partition("/")[2]
    said = (run.trial.task.rising.get(name) for run in runs if run.trial is not None)
    return next((each for each in said if each is not None), more_is_better(metric))


def higher_is_better(metric: str, mode: Mode | None, words: str, runs: Iterable[Run] = ()) -> bool:
    """Return whether more of a metric is better, by the mode, its spec or its name.

    UsageError if nothing tells.
    """
    found = (mode is Mode.MAX) if mode is not None else known_direction(metric, runs)
    if found is None:
        raise UsageError(
            f"{words}: the name of {metric} does not tell whether more of it is better.\n"
            "  Say --mode max or --mode min."
        )
    return found


class Missing(StrEnum):
    """A reason why a run that did not fail has no value at a moment."""

    SHORTER = "shorter"
    EARLIER = "not yet measured"
    WITHOUT = "without the metric"


@dataclass(frozen=True)
class Moment:
    """When a metric is read: at the last epoch, at the best one, or at a given epoch or step."""

    kind: str = "last"  # ``last``, ``best``, ``epoch`` or ``step``
    at: int | None = None  # the number of the epoch or step; None for the other two
    # what is counted: ``epoch``, or ``step`` where the spec does, or nobody knows what an epoch is
    unit: str = "epoch"

    @classmethod
    def parse(cls, text: str) -> Moment:
        """Read ``last``, ``best``, ``epoch=N`` or ``step=N``; UsageError for anything else."""
        kind, equals, number = text.partition("=")
        if kind in ("last", "best") and not equals:
            return cls(kind)
        if kind in ("epoch", "step") and number.isascii() and number.isdigit():
            return cls(kind, int(number))
        raise UsageError(f"--at {text}: say last, best, epoch=N or step=N.")

    def __str__(self) -> str:
        return f"at the {self.kind} {self.unit}" if self.at is None else f"at {self.kind} {self.at}"

    @property
    def option(self) -> str:
        """The words of the user that ask for it."""
        return f"--at {self.kind}" + ("" if self.at is None else f"={self.at}")

    @property
    def is_chosen(self) -> bool:
        """True if the moment is chosen by the values of the run."""
        return self.kind == "best"

    def value(
        self, run: Run, metric: str, *, higher_is_better: bool, chooser: str | None = None
    ) -> float | Outcome | Missing:
        """Return a metric of a run; NaN if the run has diverged; or why there is none.

        A run that ended early counts where a given epoch or step came before its end. The best
        epoch is that of another metric, the ``chooser``, if there is one.
        """
        curve = run.curves.get(metric)
        if self.at is not None and curve is not None and self.end(curve) >= self.at:
            before = int(np.searchsorted(self._positions(curve), self.at, side="right"))
            return float(curve.values[before - 1]) if before else Missing.EARLIER
        if run.outcome is Outcome.DIVERGED:
            return math.nan
        if run.outcome is not Outcome.FINISHED:
            return run.outcome
        if curve is None:
            return Missing.WITHOUT
        if self.at is not None:
            return Missing.SHORTER
        if not self.is_chosen:
            return float(curve.values[-1])
        judge = run.curves.get(chooser or metric, curve)
        merits = judge.values if higher_is_better else -judge.values
        if not np.isfinite(merits).any():
            return math.nan
        place = int(np.argmax(np.where(np.isfinite(merits), merits, -np.inf)))
        if judge is curve:
            return float(curve.values[place])
        best = judge.steps[place]
        before = int(np.searchsorted(curve.steps, best, side="right"))
        return float(curve.values[before - 1]) if before else Missing.EARLIER

    def is_inside_schedule(self, run: Run, metric: str) -> bool:
        """Return whether a value is read at a given place, and the learning rate was to change."""
        curve = run.curves.get(metric)
        if self.at is None or curve is None:
            return False
        before = int(np.searchsorted(self._positions(curve), self.at, side="right"))
        return before > 0 and run.is_inside_schedule(float(curve.steps[before - 1]))

    def end(self, curve: Curve) -> float:
        """Return where a curve ends, in epochs or steps as the moment is."""
        return float(self._positions(curve)[-1])

    def _positions(self, curve: Curve) -> Numbers:
        return curve.epochs if self.kind == "epoch" else curve.steps


@dataclass(frozen=True)
class Target:
    """A value of a metric that is to be reached."""

    metric: str
    value: float  # the least of an accuracy that counts as reached, the most of a loss
    higher_is_better: bool  # so of an accuracy
    experiment: str | None = None  # for which it holds; None for all

    @classmethod
    def parse(cls, text: str, runs: Iterable[Run], mode: Mode | None = None) -> Target:
        """Read ``METRIC=VALUE`` or ``EXPERIMENT:METRIC=VALUE``; UsageError if no run has it."""
        name, _, number = text.rpartition("=")
        experiment, _, metric = name.rpartition(":")
        value = as_number(number)
        if not metric or value is None or not math.isfinite(value):
            raise UsageError(
                f"--target {text}: say METRIC=VALUE, such as test/accuracy=0.7,\n"
                "  or EXPERIMENT:METRIC=VALUE for one of several experiments."
            )
        runs = list(runs)
        metric = choose_metric(runs, metric, f"--target {text}")
        better = known_direction(metric, runs)
        if better is None:
            better = higher_is_better(metric, mode, f"--target {text}")
        return cls(metric, value, better, experiment if ":" in name else None)

    def __str__(self) -> str:
        return f"{self.metric} {'≥' if self.higher_is_better else '≤'} {self.value:g}"


def check_once(targets: Iterable[Target]) -> None:
    """Raise UsageError if an experiment has two targets."""
    counts = Counter(each.experiment for each in targets)
    for experiment, count in counts.items():
        if count > 1:
            raise UsageError(
                f"--target: {count} of them for {experiment or 'all experiments'}; say one, or"
                " EXPERIMENT:METRIC=VALUE for each experiment."
            )


@dataclass(frozen=True)
class Cost:
    """The way of a run, or the median of several, until it reached a target; ∞ for never."""

    epochs: float
    steps: float
    seconds: float


CLOCKS = ("epochs", "steps", "seconds")
"""The three ways to say what something cost, and what a curve can be drawn over."""

NEVER = Cost(math.inf, math.inf, math.inf)


@dataclass(frozen=True)
class Reached:
    """A target in the runs of a setting."""

    count: int  # how many reached it
    n: int  # of how many that have ended by themselves
    # the middle of their costs, in which those that missed it have ∞; None if n is 0
    median: Cost | None
    # how many reached it where the learning rate was still to change, as by a longer schedule
    inside_schedule: int = 0


def cost(run: Run, target: Target) -> Cost | None:
    """Return what a run took until the first record that reached a target.

    None if it did not end, or did not tell of the metric. A run that diverged may have done so
    before it could tell.
    """
    curve = run.curves.get(target.metric)
    if run.outcome not in (Outcome.FINISHED, Outcome.DIVERGED):
        return None
    if curve is None:
        return NEVER if run.outcome is Outcome.DIVERGED else None
    is_there = np.greater_equal if target.higher_is_better else np.less_equal
    there = is_there(curve.values, target.value)
    if not there.any():
        return NEVER
    first = int(there.argmax())
    return Cost(float(curve.epochs[first]), float(curve.steps[first]), float(curve.seconds[first]))


def reached(runs: Sequence[Run], target: Target) -> Reached:
    """Return what came of a target in the runs of a setting."""
    found = [(run, each) for run in runs if (each := cost(run, target)) is not None]
    if not found:
        return Reached(0, 0, None)
    columns = np.array([(each.epochs, each.steps, each.seconds) for _, each in found])
    median = Cost(*(middle(column) for column in columns.T))
    there = [(run, each) for run, each in found if math.isfinite(each.steps)]
    inside = sum(run.is_inside_schedule(each.steps) for run, each in there)
    return Reached(len(there), len(found), median, inside)


@dataclass(frozen=True)
class Question:
    """A question to the runs of an experiment."""

    metric: str  # the name of what is compared
    higher_is_better: bool  # so of an accuracy, not so of a loss
    moment: Moment  # when it is read
    # the metric that settings and epochs are chosen by; None for the one that is compared
    chosen_by: str | None = None
    targets: Sequence[Target] = ()  # at most one of them counts in each experiment
    # what every setting is tested against: a label, or a label and its settings
    baseline: str | None = None
    ddof: int = 1  # of the standard error; 1 estimates the spread of all seeds, 0 is the paper's
    interval: bool = False  # show means with their 95 % intervals, not with their standard errors

    def target(self, experiment: str) -> Target | None:
        """Return the target of an experiment: the one that names it, else the one for all."""
        by_experiment = {each.experiment: each for each in self.targets}
        return by_experiment.get(experiment) or by_experiment.get(None)

    def value(self, run: Run) -> float | Outcome | Missing:
        """Return the value of a run; NaN if it has diverged; or why there is none."""
        return self._read(run, self.metric)

    def merit(self, run: Run) -> float | Outcome | Missing:
        """Return likewise what a setting is chosen by."""
        return self._read(run, self.chooser)

    @property
    def chooser(self) -> str:
        """The metric that settings and epochs are chosen by."""
        return self.chosen_by or self.metric

    def _read(self, run: Run, metric: str) -> float | Outcome | Missing:
        better = self.higher_is_better
        return self.moment.value(run, metric, higher_is_better=better, chooser=self.chooser)

    def summarize(self, values: Mapping[Hashable, float]) -> Summary | None:
        """Return the values of a setting taken together; None if there are none."""
        if not values:
            return None
        return summarize(
            list(values.values()), higher_is_better=self.higher_is_better, ddof=self.ddof
        )

    def order(self, summary: Summary | None) -> tuple[float, float]:
        """Return a key that sorts the best setting first, and is the same for equal ones.

        A run that diverged is the worst value, so that fewer of them come before a better mean.
        """
        if summary is None:
            return math.inf, 0.0
        share = summary.diverged / (summary.n + summary.diverged)
        mean = summary.mean if summary.n else 0.0
        return share, -mean if self.higher_is_better else mean
