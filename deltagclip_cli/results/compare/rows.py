"""One setting of an optimizer in a comparison: what its runs came to, and what they cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from deltagclip_cli.core import EPOCH_SECONDS, REGIME_FRACTIONS, REGIMES
from deltagclip_cli.results.compare.read_at import Missing, Moment
from deltagclip_cli.results.compare.target import Reached, Target, reached
from deltagclip_cli.results.read.run import Group, Outcome, Run
from deltagclip_cli.results.statistics.difference import Difference
from deltagclip_cli.results.statistics.summary import Summary, summarize

TWICE = "there twice"


@dataclass(frozen=True)
class Question:
    """What is asked of every experiment.

    Args:
        metric: the name of what is compared.
        higher_is_better: so of an accuracy, not so of a loss.
        moment: when it is read.
        targets: at most one of them counts in each experiment.
        baseline: what every setting is tested against: a label, or a label and its settings.
        ddof: of the standard error; 1 estimates the spread of all seeds, 0 is the paper's.
    """

    metric: str
    higher_is_better: bool
    moment: Moment
    targets: Sequence[Target] = ()
    baseline: str | None = None
    ddof: int = 1

    def target(self, experiment: str) -> Target | None:
        """The target of an experiment: the one that names it, else the one for all."""
        by_experiment = {each.experiment: each for each in self.targets}
        return by_experiment.get(experiment) or by_experiment.get(None)

    def value(self, run: Run) -> float | Outcome | Missing:
        """The value of a run; NaN if it has diverged; or why there is none."""
        return self.moment.value(run, self.metric, higher_is_better=self.higher_is_better)

    def summarize(self, values: Mapping[Hashable, float]) -> Summary | None:
        """The values of a setting taken together; None if there are none."""
        if not values:
            return None
        return summarize(
            list(values.values()), higher_is_better=self.higher_is_better, ddof=self.ddof
        )


class Standing(StrEnum):
    """Where a setting stands, measured by the best one."""

    BEST = "best"
    LIKE_BEST = "not distinguishable from the best"
    UNTOLD = "too few seeds to tell"
    WORSE = "worse"


@dataclass(frozen=True)
class Versus:
    """A setting against the baseline.

    Args:
        difference: between the two, with its tests.
        t_test_p: of the t-test, adjusted by Holm's method for those of all settings in the
            comparison; None if there is none.
        rank_test_p: of the rank test, likewise.
    """

    difference: Difference
    t_test_p: float | None
    rank_test_p: float | None


@dataclass(frozen=True)
class Behind:
    """A setting against the best one.

    Args:
        difference: between the two, with its tests.
        p: that its standing goes by, adjusted for the best one's being the best of all settings in
            the comparison; None if there is none.
    """

    difference: Difference
    p: float | None


@dataclass(frozen=True, eq=False)
class Row:
    """One setting of an optimizer.

    Args:
        group: its names.
        runs: all of its runs.
        values: of the metric, by seed or folder; NaN for a run that diverged.
        counted: the run behind each value, likewise.
        left_out: how many runs have no value, and why.
        too_short: those of them that have the metric, only not so far.
        summary: of the values; None if there are none.
        reached: how the runs did with the target; None if there is no target.
        epoch_seconds: the mean of all epochs; None if nobody knows it.
        regimes: the shares of plain, clipped and floored steps; None for what does not clip.
        standing: measured by the best setting; None if there are no values.
        behind: the test that says so; None for the best one itself, or without values.
        versus: against the baseline; None for the baseline itself, or without one.
    """

    group: Group
    runs: Sequence[Run]
    values: Mapping[Hashable, float]
    counted: Mapping[Hashable, Run]
    left_out: Mapping[str, int]
    too_short: Sequence[Run]
    summary: Summary | None
    reached: Reached | None
    epoch_seconds: float | None
    regimes: Mapping[str, float] | None
    standing: Standing | None = None
    behind: Behind | None = None
    versus: Versus | None = None

    @property
    def mean(self) -> float | None:
        """The mean of a setting of which no seed diverged; None if one did, or without values."""
        if self.summary is None or self.summary.diverged:
            return None
        return self.summary.mean

    @property
    def once(self) -> list[Run]:
        """One run of each seed."""
        twice = self.twice
        return [run for run in self.runs if run not in twice]

    @property
    def twice(self) -> list[Run]:
        """The runs of seeds of which another run counts."""
        return [run for run in self.runs if self.counted.get(run.seed_or_folder, run) is not run]

    @property
    def was_never_floored(self) -> bool:
        """Whether this is δ-GClip of which no step was floored, so that δ might as well be 0."""
        has_floor = bool(self.group.options.get("delta"))
        return has_floor and self.regimes is not None and self.regimes["floored"] == 0


def make_row(group: Group, runs: Sequence[Run], question: Question) -> Row:
    """Take the runs of a setting together; of those with the same seed, the first that has a value.

    Args:
        group: the setting.
        runs: all of its runs.
        question: what is asked.
    """
    values: dict[Hashable, float] = {}
    counted: dict[Hashable, Run] = {}
    left_out: Counter[str] = Counter()
    for run in runs:
        value = question.value(run)
        if not isinstance(value, float):
            left_out[str(value)] += 1
        elif run.seed_or_folder in counted:
            left_out[TWICE] += 1
        else:
            values[run.seed_or_folder], counted[run.seed_or_folder] = value, run
    once = [run for run in runs if counted.get(run.seed_or_folder, run) is run]
    target = question.target(group.experiment)
    return Row(
        group=group,
        runs=runs,
        values=values,
        counted=counted,
        left_out=left_out,
        too_short=[
            r for r in runs if r.seed_or_folder not in counted and question.metric in r.curves
        ],
        summary=question.summarize(values),
        reached=reached(once, target) if target else None,
        epoch_seconds=_epoch_seconds(once),
        regimes=_regimes(once),
    )


def _epoch_seconds(runs: Sequence[Run]) -> float | None:
    """The mean over runs; each run's is the mean over its epochs."""
    known = [seconds for seconds in map(_epoch_seconds_of, runs) if seconds is not None]
    return float(np.mean(known)) if known else None


def _epoch_seconds_of(run: Run) -> float | None:
    own = run.curves.get(EPOCH_SECONDS)
    if own is not None:
        return float(np.mean(own.values))
    longest = max(run.curves.values(), key=lambda curve: len(curve.values), default=None)
    if longest is None or longest.epochs[-1] <= longest.epochs[0]:
        return None
    seconds = longest.seconds[-1] - longest.seconds[0]
    return float(seconds / (longest.epochs[-1] - longest.epochs[0]))


def _regimes(runs: Sequence[Run]) -> dict[str, float] | None:
    names = REGIME_FRACTIONS.values()
    having = [run for run in runs if all(name in run.curves for name in names)]
    if not having:
        return None
    means = [[float(np.mean(run.curves[name].values)) for name in names] for run in having]
    return dict(zip(REGIMES, np.mean(means, axis=0).tolist(), strict=True))


def order(row: Row, *, higher_is_better: bool) -> tuple[float, float]:
    """A key that sorts the best setting first, and is the same for equal ones.

    A run that diverged is the worst value, so that fewer of them come before a better mean.
    """
    if row.summary is None:
        return math.inf, 0.0
    share = row.summary.diverged / (row.summary.n + row.summary.diverged)
    mean = row.summary.mean if row.summary.n else 0.0
    return share, -mean if higher_is_better else mean
