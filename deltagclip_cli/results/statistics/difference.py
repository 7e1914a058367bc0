"""Settings against another and against the best: how far apart, how sure, how large."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from deltagclip_cli.results.statistics.summary import (
    CONFIDENCE,
    DIVERGED,
    Interval,
    Numbers,
    differ,
    finite,
    no_warnings,
    ranked,
)

SIGNIFICANT = 0.05
"""The p-value below which a difference is commonly called one; ``Difference.caution`` uses it."""

Seed = TypeVar("Seed", bound=Hashable)


class Design(StrEnum):
    """Designs of a comparison: by seed, as two samples, or too few values for any."""

    PAIRED = "paired"
    UNPAIRED = "unpaired"
    TOO_FEW = "too few"


@dataclass(frozen=True)
class Difference:
    """A setting minus its baseline."""

    design: Design  # no test at all if one of the two has fewer than two values
    n_ours: int  # how many values the setting has, diverged ones with them
    n_theirs: int  # likewise of the baseline
    left_out: int  # how many of these have no partner in a paired comparison
    difference: float  # of the means, or the mean of the differences, of what is finite; else NaN
    # of the difference, by Student's t or Welch's; None without a t-test
    interval: Interval | None = None
    # of the paired or of Welch's t-test, two-sided; None if a run diverged, or if what is tested
    # has no spread beyond rounding
    t_test_p: float | None = None
    degrees: float | None = None  # of freedom of that test
    rank_test_p: float | None = None  # of signed_rank_p or rank_sum_p; None without two values
    # Hedges' g, in standard deviations of the differences of pairs or of both samples pooled. None
    # without a t-test, and for two pairs, which have no unbiased one.
    effect_size: float | None = None
    effect_interval: Interval | None = None  # of it, by the non-central t distribution

    @property
    def pairs(self) -> int:
        """The number of pairs; 0 if the comparison is not by seed."""
        both = self.n_ours + self.n_theirs - self.left_out
        return both // 2 if self.design is Design.PAIRED else 0

    @property
    def p(self) -> float | None:
        """That of the t-test; where there is none, as a run diverged, that of the ranks."""
        return self.rank_test_p if self.t_test_p is None else self.t_test_p

    @property
    def caution(self) -> str:
        """Words on what so few seeds cannot show; empty if there is nothing to say."""
        if self.design is Design.TOO_FEW:
            return ("no seed" if min(self.n_ours, self.n_theirs) == 0 else "one seed") + ": no test"
        if self.design is Design.PAIRED:
            who, least = f"{self.pairs} pairs Wilcoxon's", 2 / 2**self.pairs
        else:
            who = f"{self.n_ours} and {self.n_theirs} seeds Mann-Whitney's"
            least = 2 / math.comb(self.n_ours + self.n_theirs, self.n_ours)
        return "" if least <= SIGNIFICANT else f"with {who} p cannot be below {least:.3g}"


def compare(
    values: Mapping[Seed, float],
    baseline: Mapping[Seed, float],
    *,
    higher_is_better: bool,
) -> Difference:
    """Compare a setting with a baseline: by seed where the same seeds were run, else as samples.

    Trials of one seed begin with the same weights and see the same batches. They are compared in
    pairs if at least two seeds are shared and one of the settings has no seed but those: then what
    is left out are only more seeds of the other. Where each has seeds of its own, pairs would
    throw away results of both, and all values count, unpaired. What is not finite has diverged.
    """
    shared = [seed for seed in values if seed in baseline]
    counts = len(values), len(baseline)
    if 2 <= len(shared) == min(counts):
        ours = ranked((values[seed] for seed in shared), higher_is_better)
        theirs = ranked((baseline[seed] for seed in shared), higher_is_better)
        both = np.isfinite(ours) & np.isfinite(theirs)
        mean = float((ours[both] - theirs[both]).mean()) if both.any() else math.nan
        bare = Difference(Design.PAIRED, *counts, sum(counts) - 2 * len(shared), mean)
        return _tested(bare, ours, theirs)
    ours = ranked(values.values(), higher_is_better)
    theirs = ranked(baseline.values(), higher_is_better)
    design = Design.TOO_FEW if min(counts) < 2 else Design.UNPAIRED
    sides = [finite(each) for each in (ours, theirs)]
    mean = float(sides[0].mean() - sides[1].mean()) if all(map(len, sides)) else math.nan
    bare = Difference(design, *counts, 0, mean)
    return bare if min(counts) < 2 else _tested(bare, ours, theirs)


def _tested(bare: Difference, ours: Numbers, theirs: Numbers) -> Difference:
    """Add a test of ranks, and a t-test where no run diverged and something varies."""
    is_paired = bare.design is Design.PAIRED
    ranks_only = replace(
        bare, rank_test_p=(signed_rank_p if is_paired else rank_sum_p)(ours, theirs)
    )
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return ranks_only
    if is_paired:
        varies = differ(ours - theirs, scale=float(np.abs([ours, theirs]).max()))
    else:
        varies = any(differ(each, scale=float(np.abs(each).max())) for each in (ours, theirs))
    if not varies:
        return ranks_only
    test: Any
    with no_warnings():
        if is_paired:
            test = stats.ttest_rel(ours, theirs)
        else:
            test = stats.ttest_ind(ours, theirs, equal_var=False)
    if not math.isfinite(test.statistic):  # of numbers such as 1e-170, whose squares are 0
        return ranks_only
    if is_paired:
        effect = _Effect(float(test.statistic), len(ours) - 1, 1 / math.sqrt(len(ours)))
    else:
        effect = _pooled_effect(ours, theirs)
    with no_warnings():
        found = test.confidence_interval(CONFIDENCE)
    return replace(
        ranks_only,
        interval=Interval(float(found.low), float(found.high)),
        t_test_p=float(test.pvalue),
        degrees=float(test.df),
        effect_size=effect.size,
        effect_interval=effect.interval,
    )


def _pooled_effect(ours: Numbers, theirs: Numbers) -> _Effect:
    degrees = len(ours) + len(theirs) - 2
    squares = sum(float(np.var(each)) * len(each) for each in (ours, theirs))
    scale = math.sqrt(1 / len(ours) + 1 / len(theirs))
    difference = float(ours.mean() - theirs.mean())
    return _Effect(difference / math.sqrt(squares / degrees) / scale, degrees, scale)


_LARGEST_T = 1000.0


@dataclass(frozen=True)
class _Effect:
    """An effect size as a t-test saw it: t times ``scale``, the standard error of it, with bias."""

    statistic: float
    degrees: int
    scale: float

    @property
    def size(self) -> float | None:
        """Without bias (Hedges 1981, equation 6e, exact); one degree is too few for that."""
        if self.degrees < 2 or not math.isfinite(self.statistic):
            return None
        half = self.degrees / 2
        unbiased = math.exp(math.lgamma(half) - math.lgamma(half - 0.5)) / math.sqrt(half)
        return unbiased * self.statistic * self.scale

    @property
    def interval(self) -> Interval | None:
        """The sizes for which the statistic is no surprise (Steiger & Fouladi 1997).

        None for t in the thousands, where scipy's function does not come to an end.
        """
        if self.size is None or abs(self.statistic) > _LARGEST_T:
            return None
        low, high = (
            self.scale * float(special.nctdtrinc(self.degrees, probability, abs(self.statistic)))
            for probability in ((1 + CONFIDENCE) / 2, (1 - CONFIDENCE) / 2)
        )
        return Interval(low, high) if self.statistic >= 0 else Interval(-high, -low)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust the p-values of a family of tests so that it errs at most as often as one (Holm 1979).

    A comparison without a test, None, is no member of the family.
    """
    there = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(there):
        largest = max(largest, min(1.0, (len(there) - rank) * p))
        adjusted[index] = largest
    return adjusted


LARGEST_EXACT = 50
"""How many values, or pairs, have all of their arrangements counted; more have almost the same p
by the normal distribution."""

_ULPS = 4  # of a number that was computed, such as the mean over a test set, this many may be wrong


def signed_rank_p(ours: Numbers, theirs: Numbers) -> float:
    """Return p of Wilcoxon's test of pairs, two-sided; equal pairs are left out, as he does.

    An infinite value has diverged, at the bad end; two that have are equal. The test is exact for
    small samples, ties and all: scipy's falls back on the normal distribution as soon as two values
    are equal, and then gives three seeds p = 0.047 where no arrangement of them has less than 0.1.
    """
    errors = np.add(*_rounding(ours, theirs))
    with np.errstate(invalid="ignore", over="ignore"):
        differences = ours - theirs
    differs = np.abs(differences) > errors
    differences, errors = differences[differs], errors[differs]
    ranks = _tied_ranks(np.abs(differences), errors)
    is_positive = differences > 0
    if len(ranks) > LARGEST_EXACT:
        with no_warnings():
            signed = np.where(is_positive, ranks, -ranks)
            return float(stats.wilcoxon(signed, method="asymptotic").pvalue)
    doubled = np.rint(2 * ranks).astype(int)
    ways = np.zeros(doubled.sum() + 1)  # in how many ways the signs give each sum of doubled ranks
    ways[0] = 1
    for rank in doubled:
        ways[rank:] += ways[:-rank]
    return _two_sided(ways, int(doubled[is_positive].sum()))


def rank_sum_p(ours: Numbers, theirs: Numbers) -> float:
    """Return p of two samples, two-sided: Mann and Whitney's, or Brunner and Munzel's if larger.

    Mann and Whitney's compares whole distributions: it takes a small sample of the larger spread
    for one that lies elsewhere. Brunner and Munzel's does not, but of few values is approximate.
    Where sizes differ, both have to agree; where they do not, the first hardly has this fault.
    """
    everything = np.concatenate([ours, theirs])
    ranks = _tied_ranks(everything, np.concatenate(_rounding(ours, theirs)))
    ours, theirs = ranks[: len(ours)], ranks[len(ours) :]
    p = _mann_whitney_p(ours, theirs)
    if len(ours) == len(theirs) or min(len(ours), len(theirs)) < 2:
        return p
    with no_warnings():
        other = float(stats.brunnermunzel(ours, theirs).pvalue)
    return float(np.fmax(p, other))  # NaN where the samples do not overlap


def _mann_whitney_p(ours: Numbers, theirs: Numbers) -> float:
    if len(ours) + len(theirs) > LARGEST_EXACT:
        with no_warnings():
            return float(stats.mannwhitneyu(ours, theirs, method="asymptotic").pvalue)
    doubled = np.rint(2 * np.concatenate([ours, theirs])).astype(int)
    # In how many ways so many values, (n + 1,), have each sum of doubled ranks.
    ways = np.zeros((len(ours) + 1, np.sort(doubled)[-len(ours) :].sum() + 1))
    ways[0, 0] = 1
    for rank in doubled[doubled < ways.shape[1]]:
        ways[1:, rank:] += ways[:-1, : ways.shape[1] - rank]
    return _two_sided(ways[-1], int(doubled[: len(ours)].sum()))


def _two_sided(ways: Numbers, found: int) -> float:
    """Return twice the part of all ways that are as far out as what was found, on its side."""
    tail = min(ways[: found + 1].sum(), ways[found:].sum())
    return min(1.0, 2 * float(tail / ways.sum()))


def _rounding(ours: Numbers, theirs: Numbers) -> list[Numbers]:
    """Return how far rounding may have put each value off.

    A whole number is what it says. Event files hold single precision: what fits into that has it.
    """
    with np.errstate(over="ignore"):
        fits = all((each.astype(np.float32) == each).all() for each in (ours, theirs))
    precision = float(np.finfo(np.float32 if fits else np.float64).eps)
    return [
        np.where(each == np.rint(each), 0.0, _ULPS * precision * np.abs(each))
        for each in (ours, theirs)
    ]


def _tied_ranks(values: Numbers, errors: Numbers) -> Numbers:
    """Return ranks from 1; neighbours that are equal but for their errors share a mean rank."""
    order = np.argsort(values, kind="stable")
    with np.errstate(invalid="ignore", over="ignore"):
        gaps = np.diff(values[order])  # NaN between two that have diverged
    is_new = gaps > errors[order][1:] + errors[order][:-1]
    places: NDArray[np.int_] = np.concatenate([[0], np.cumsum(is_new)])[: len(values)]
    ranks = np.empty(len(values))
    ranks[order] = stats.rankdata(places)
    return ranks


_USUAL = 0.25
"""The quantile of the spreads of all settings that each has at the least."""

_SURER = 1.5
"""How much surer than a spread of its own, in degrees of freedom, that quantile is.

Both were found by simulation: with the median, good settings look alike beside others that follow
the seeds differently; with twice the degrees, three pairs err in 8 % of tables."""

_NORMAL = np.linspace(-8.5, 8.5, 137)  # there is no more of the normal distribution in float64
_DENSITY = stats.norm.pdf(_NORMAL) * (_NORMAL[1] - _NORMAL[0])


def adjusted_to_best(
    best: Mapping[Seed, float],
    others: Sequence[Mapping[Seed, float]],
    tests: Sequence[Difference],
    *,
    higher_is_better: bool,
) -> list[float | None]:
    """Adjust the p-values of settings against the best for its being the best of all by chance.

    One of several equal settings has the best mean by chance. A test against it that does not know
    this finds another one worse in every tenth table of seven. What counts is how far the best and
    the worst of so many equal means lie apart: the studentized range, with a spread and degrees of
    freedom for each difference (Games and Howell 1976). As in Holm's method, what is found worse
    makes it easier for the next, for then one setting fewer may be equal to the best.

    A few pairs of seeds may have differences that are alike by chance, and of many settings one
    nearly always has. So the spread of a setting's differences from the best is taken to be no less
    than the lower quartile over all settings. ``benchmarks/best_setting.py`` shows how often all
    this errs.

    Returns:
        For each of the others a p-value for its being no worse than the best; None without a test,
        and for one that has diverged altogether, which needs none.
    """
    usual: dict[frozenset[Seed], float] = {}
    found = []
    for place, (values, test) in enumerate(zip(others, tests, strict=True)):
        if test.p is None or not any(map(math.isfinite, values.values())):
            continue
        p, degrees = test.p, math.inf if test.degrees is None else test.degrees
        if test.design is Design.PAIRED and test.degrees is not None:
            seeds = frozenset(values).intersection(best)
            if seeds not in usual:
                known = (_variance(each, best, seeds) for each in others)
                usual[seeds] = float(np.quantile([v for v in known if v is not None], _USUAL))
            own = _variance(values, best, seeds)
            if own is not None and 0 < own < usual[seeds]:
                statistic = stats.t.isf(p / 2, degrees) * math.sqrt(own / usual[seeds])
                degrees *= _SURER
                p = 2 * float(stats.t.sf(statistic, degrees))
        if _is_ahead(values, best, test, higher_is_better):
            p = 1.0
        found.append((p, degrees, place))
    adjusted: list[float | None] = [None] * len(tests)
    largest = 0.0
    for rank, (p, degrees, place) in enumerate(sorted(found)):
        largest = max(largest, range_p(p, len(found) + 1 - rank, degrees))
        adjusted[place] = largest
    return adjusted


def _variance(
    values: Mapping[Seed, float], best: Mapping[Seed, float], seeds: Iterable[Seed]
) -> float | None:
    """Return that of the differences from the best at some seeds; None without all of them."""
    if not all(seed in values and abs(values[seed] - best[seed]) < DIVERGED for seed in seeds):
        return None
    return float(np.var([values[seed] - best[seed] for seed in seeds], ddof=1))


def _is_ahead(
    values: Mapping[Seed, float],
    best: Mapping[Seed, float],
    test: Difference,
    higher_is_better: bool,
) -> bool:
    """Return whether a setting is the better one: in its pairs, or but for a diverged seed."""
    if test.t_test_p is not None:
        return (test.difference > 0) is higher_is_better
    ours, theirs = (ranked(each.values(), higher_is_better) for each in (values, best))
    above = int((ours[:, None] > theirs).sum()) - int((ours[:, None] < theirs).sum())
    return above > 0 if higher_is_better else above < 0


def range_p(p: float, count: int, degrees: float) -> float:
    """Return how often the largest of equal means lies as far above the least as a t-test found.

    Scipy's studentized range gives the same, and takes 15 to 35 ms for it, this one less than 1 ms.
    """
    distance = math.sqrt(2) * float(stats.t.isf(p / 2, degrees))
    if not 0 < distance < math.inf:
        return p
    scale, weight = _scales(degrees)
    below = special.ndtr(_NORMAL) - special.ndtr(_NORMAL - distance * scale[:, None])
    within = count * float(weight @ below ** (count - 1) @ _DENSITY)
    return min(1.0, max(p, 1 - within))  # p is less only where 1 - within is rounding


def _scales(degrees: float) -> tuple[Numbers, Numbers]:
    """Return estimates of a standard deviation of 1 that may come up, and how often they do."""
    if math.isinf(degrees):
        return np.ones(1), np.ones(1)
    ends = stats.chi2.ppf([1e-15, 1 - 1e-15], degrees)
    low, high = np.log(ends / degrees) / 2
    scale = np.exp(np.arange(low, high, min(0.12, 0.25 / math.sqrt(degrees))))
    weight = stats.chi2.pdf(degrees * scale**2, degrees) * scale**2
    return scale, weight / weight.sum()
