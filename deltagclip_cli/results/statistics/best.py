"""Which settings are worse than the best of them, where the same values have to say which is best.

One of several equal settings has the best mean by chance. A test against it that does not know this
finds another one worse in every tenth table of seven. What counts is how far the best and the worst
of so many equal means lie apart: Tukey's studentized range.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic

import numpy as np
from scipy import special, stats

from deltagclip_cli.results.statistics.difference import Design, Difference, Seed
from deltagclip_cli.results.statistics.summary import Numbers, ranked

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

    The test is that of Games and Howell (1976): the studentized range with a spread, and degrees of
    freedom, for each difference. As in Holm's method, what is found worse makes it easier for the
    next, for then one setting fewer may be equal to the best.

    A few pairs of seeds may have differences that are alike by chance, and of many settings one
    nearly always has. So the spread of a setting's differences from the best is taken to be no less
    than the lower quartile over all settings. ``benchmarks/best_setting.py`` shows how often all
    this errs.

    Args:
        best: the values of the best setting, by seed; what is not finite has diverged.
        others: those of the other settings.
        tests: of each of the others against the best.
        higher_is_better: so of an accuracy, not so of a loss.

    Returns:
        For each of the others a p-value for its being no worse than the best; None without a test,
        and for one that has diverged altogether, which needs none.
    """
    spreads = _Spreads(best, others)
    found = []
    for place, (values, test) in enumerate(zip(others, tests, strict=True)):
        if test.p is None or not any(map(math.isfinite, values.values())):
            continue
        p, degrees = test.p, math.inf if test.degrees is None else test.degrees
        if test.design is Design.PAIRED and test.degrees is not None:
            p, degrees = spreads.widened(p, test.degrees, values)
        found.append(
            (1.0 if _is_ahead(values, best, test, higher_is_better) else p, degrees, place)
        )
    adjusted: list[float | None] = [None] * len(tests)
    largest = 0.0
    for rank, (p, degrees, place) in enumerate(sorted(found)):
        largest = max(largest, range_p(p, len(found) + 1 - rank, degrees))
        adjusted[place] = largest
    return adjusted


class _Spreads(Generic[Seed]):
    """How much the differences of settings from the best one vary from seed to seed.

    Args:
        best: the values of the best setting.
        others: those of all others.
    """

    def __init__(self, best: Mapping[Seed, float], others: Sequence[Mapping[Seed, float]]) -> None:
        self._best = best
        self._others = others
        self._usual: dict[frozenset[Seed], float] = {}

    def widened(
        self, p: float, degrees: float, values: Mapping[Seed, float]
    ) -> tuple[float, float]:
        """The p-value of a paired t-test with no less than the usual spread, and its degrees."""
        seeds = frozenset(values).intersection(self._best)
        if seeds not in self._usual:
            known = (self._variance(each, seeds) for each in self._others)
            self._usual[seeds] = float(np.quantile([v for v in known if v is not None], _USUAL))
        own, usual = self._variance(values, seeds), self._usual[seeds]
        if own is None or not 0 < own < usual:
            return p, degrees
        statistic = stats.t.isf(p / 2, degrees) * math.sqrt(own / usual)
        return 2 * float(stats.t.sf(statistic, _SURER * degrees)), _SURER * degrees

    def _variance(self, values: Mapping[Seed, float], seeds: Iterable[Seed]) -> float | None:
        """Of the differences from the best at some seeds; None if it has not all of them."""
        try:
            pairs = np.array([(values[seed], self._best[seed]) for seed in seeds])
        except KeyError:
            return None
        if not np.isfinite(pairs).all():
            return None
        return float((pairs[:, 0] - pairs[:, 1]).var(ddof=1))


def _is_ahead(
    values: Mapping[Seed, float],
    best: Mapping[Seed, float],
    test: Difference,
    higher_is_better: bool,
) -> bool:
    """Whether a setting is the better one: in the same pairs, or but for a seed that diverged."""
    if test.t_test_p is not None:
        return (test.difference > 0) is higher_is_better
    ours, theirs = (ranked(each.values(), higher_is_better) for each in (values, best))
    above = int((ours[:, None] > theirs).sum()) - int((ours[:, None] < theirs).sum())
    return above > 0 if higher_is_better else above < 0


def range_p(p: float, count: int, degrees: float) -> float:
    """How often the largest of equal means is as far above the least as a t-test found two of them.

    Scipy's studentized range gives the same, and takes 15 to 35 ms for it, this one less than 1 ms.

    Args:
        p: of the t-test, two-sided.
        count: of the means, at least 2, for which it is ``p``.
        degrees: of freedom of the t-test.
    """
    distance = math.sqrt(2) * float(stats.t.isf(p / 2, degrees))
    if not 0 < distance < math.inf:
        return p
    scale, weight = _scales(degrees)
    below = special.ndtr(_NORMAL) - special.ndtr(_NORMAL - distance * scale[:, None])
    within = count * float(weight @ below ** (count - 1) @ _DENSITY)
    return min(1.0, max(p, 1 - within))  # p is less only where 1 - within is rounding


def _scales(degrees: float) -> tuple[Numbers, Numbers]:
    """Estimates of a standard deviation of 1 that may come up, and how often they do."""
    if math.isinf(degrees):
        return np.ones(1), np.ones(1)
    ends = stats.chi2.ppf([1e-15, 1 - 1e-15], degrees)
    low, high = np.log(ends / degrees) / 2
    scale = np.exp(np.arange(low, high, min(0.12, 0.25 / math.sqrt(degrees))))
    weight = stats.chi2.pdf(degrees * scale**2, degrees) * scale**2
    return scale, weight / weight.sum()
