"""What it takes to reach a value of a metric."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from deltagclip_cli.core import UsageError, more_is_better
from deltagclip_cli.results.compare.metrics import choose_metric, higher_is_better
from deltagclip_cli.results.compare.mode import Mode
from deltagclip_cli.results.read.run import Outcome, Run
from deltagclip_cli.results.statistics.summary import median as middle


@dataclass(frozen=True)
class Target:
    """A value of a metric that is to be reached.

    Args:
        metric: its name.
        value: the least of an accuracy that counts as reached, the most of a loss.
        higher_is_better: so of an accuracy.
        experiment: for which it holds; None for all.
    """

    metric: str
    value: float
    higher_is_better: bool
    experiment: str | None = None

    @classmethod
    def parse(cls, text: str, runs: Iterable[Run], mode: Mode | None = None) -> Target:
        """``METRIC=VALUE`` or ``EXPERIMENT:METRIC=VALUE``.

        Args:
            text: what the user wrote.
            runs: of which some has the metric.
            mode: which values are good ones if the name of the metric does not tell.

        Raises:
            UsageError: it is something else, no run has the metric, or it is not known which
                values are good ones.
        """
        name, _, number = text.rpartition("=")
        experiment, colon, metric = name.rpartition(":")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not metric or not math.isfinite(value):
            raise UsageError(
                f"--target {text}: say METRIC=VALUE, such as test/accuracy=0.7,\n"
                "  or EXPERIMENT:METRIC=VALUE for one of several experiments."
            )
        metric = choose_metric(runs, metric, f"--target {text}")
        told = more_is_better(metric)
        better = higher_is_better(metric, mode, f"--target {text}") if told is None else told
        return cls(metric, value, better, experiment if colon else None)

    def __str__(self) -> str:
        return f"{self.metric} {'≥' if self.higher_is_better else '≤'} {self.value:g}"


def check_once(targets: Iterable[Target]) -> None:
    """Check that no experiment has two targets.

    Raises:
        UsageError: one has.
    """
    counts = Counter(each.experiment for each in targets)
    for experiment, count in counts.items():
        if count > 1:
            raise UsageError(
                f"--target: {count} of them for {experiment or 'all experiments'}; say one, or"
                " EXPERIMENT:METRIC=VALUE for each experiment."
            )


@dataclass(frozen=True)
class Cost:
    """What a run, or the median one of several, took until it reached a target; ∞ for never."""

    epochs: float
    steps: float
    seconds: float


NEVER = Cost(math.inf, math.inf, math.inf)


@dataclass(frozen=True)
class Reached:
    """How the runs of a setting did with a target.

    Args:
        count: how many reached it.
        n: of how many that have ended by themselves.
        median: the middle of their costs, in which those that missed it have ∞; None if n is 0.
    """

    count: int
    n: int
    median: Cost | None


def cost(run: Run, target: Target) -> Cost | None:
    """What a run took until the first record that reached a target.

    None if it did not end, or did not tell of the metric. A run that diverged may have done so
    before it could tell.
    """
    curve = run.curves.get(target.metric)
    if run.outcome not in (Outcome.FINISHED, Outcome.DIVERGED):
        return None
    if curve is None:
        return NEVER if run.outcome is Outcome.DIVERGED else None
    with np.errstate(invalid="ignore"):
        there = (
            curve.values >= target.value
            if target.higher_is_better
            else curve.values <= target.value
        )
    if not there.any():
        return NEVER
    first = int(there.argmax())
    return Cost(float(curve.epochs[first]), float(curve.steps[first]), float(curve.seconds[first]))


def reached(runs: Sequence[Run], target: Target) -> Reached:
    """How the runs of a setting did with a target."""
    costs = [each for each in (cost(run, target) for run in runs) if each is not None]
    if not costs:
        return Reached(0, 0, None)
    columns = np.array([(each.epochs, each.steps, each.seconds) for each in costs])
    median = Cost(*(middle(column) for column in columns.T))
    return Reached(int(np.isfinite(columns[:, 0]).sum()), len(costs), median)
