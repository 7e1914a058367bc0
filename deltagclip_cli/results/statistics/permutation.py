"""Two methods of optimizing, compared by exchanging their draws.

A method is an optimizer together with the way its setting is chosen. Which settings were drawn is
chance as much as the seeds are, and so whole draws are exchanged here, with all of their seeds. The
seeds of the two chosen settings tell of two settings, however many they are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from deltagclip_cli.results.statistics.best_of import survival
from deltagclip_cli.results.statistics.summary import ROUNDING, Numbers, ranked

_MOST_EXACT = 20_000  # exchanges of which each is looked at
_DRAWN = 9_999  # of more exchanges
_SEED = 0  # two readers of the same runs are to see the same p
_SAME = 1e-7  # leads that differ by less of a standard deviation are equal

Masks = NDArray[np.bool_]
Sizes = tuple[tuple[int, int], ...]
"""Of each study, how many draws the one method has, and the other."""


@dataclass(frozen=True)
class AtBudget:
    """Two methods at a budget of ``k`` draws."""

    k: int
    # how probably the best of k draws of the one is better than the best of k of the other, over
    # all subsets of the draws; half of equal ones counts
    superiority: float
    # how many standard deviations the mean score of its best of k is ahead, by exchanges, with the
    # score by which they are farther apart
    lead: float
    p: float  # two-sided, adjusted for all budgets that are tested together

    @property
    def ahead(self) -> float:
        """Above 0 if the one is ahead, below if the other is; 0 where score and chance disagree."""
        return self.lead if self.lead * (self.superiority - 0.5) > 0 else 0.0


@dataclass(frozen=True)
class Exchange:
    """Two methods beside all that exchanges of draws between them would have shown."""

    budgets: Sequence[AtBudget]  # the smallest first
    least_p: float  # that so many draws could show
    exchanges: int  # that were looked at
    is_exact: bool  # whether these were all there are, and not a random part of them

    @property
    def p(self) -> float:
        """That of the methods being alike at all budgets."""
        return min(each.p for each in self.budgets)


def doubled_budgets(planned: int, draws: int) -> list[int]:
    """Return the budgets at which methods with so many draws are compared: 1, 2, 4, ....

    The last is what was planned, or half of the draws: of more, the best draw alone would decide.
    """
    last = max(1, min(planned, draws // 2))
    return [*(2**power for power in range(last.bit_length()) if 2**power < last), last]


def exchange_draws(
    ours: Sequence[Sequence[float]],
    theirs: Sequence[Sequence[float]],
    budgets: Sequence[int],
    *,
    higher_is_better: bool,
) -> Exchange:
    """Test whether two methods are alike, by giving the draws of each study to them by chance.

    Args:
        ours: the values of the draws of a method, those of each study; a draw with several seeds is
            one value. One that is not finite failed or diverged: it is worse than every number.
        theirs: likewise of the other method, of the same studies.
        budgets: at which they are compared, the smallest first.

    If both methods find values of one distribution, the draws of a study might as well have been
    the other's: p is the share of such exchanges that put the methods as far apart as they are, or
    farther. That is exact for every distribution of settings and seeds together; draws that are
    spread evenly over a space only err less.

    How far apart they are at a budget of k is told by the mean score of the best of k, over all
    subsets, with two scores of a draw: its rank among the draws of both, and Savage's (1956), about
    the logarithm of how many of these it takes to find one as good. So no unit matters; by the
    first, all draws count, by the second most of all the best ones. For k = 1 that is Mann and
    Whitney's test and the log-rank test. Of all budgets and both scores the largest difference
    counts, in its standard deviations over all exchanges, so that p holds for all of them together
    (Westfall & Young 1993). ``benchmarks/method_verdicts.py`` shows how often this errs, and how
    much it finds.
    """
    pairs = list(zip(ours, theirs, strict=True))
    values = np.concatenate([ranked(each, higher_is_better) for pair in pairs for each in pair])
    sizes: Sizes = tuple((len(one), len(other)) for one, other in pairs)
    order = np.argsort(-values if higher_is_better else values, kind="stable")
    groups = _groups(values[order])
    scores = _scores(groups)
    as_found = np.concatenate([np.arange(sum(pair)) < pair[0] for pair in sizes])[order][None]
    leads = np.concatenate([each @ scores for each in _weights(as_found, budgets)])
    # in a single study every order of the values has the same exchanges
    places = tuple(order.tolist()) if len(sizes) > 1 else ()
    chance = _by_chance(sizes, places, tuple(groups.tolist()), tuple(budgets))
    standard = leads / chance.spreads
    larger = np.abs(standard).argmax(axis=1)
    largest = standard[np.arange(len(budgets)), larger].tolist()
    found = [
        AtBudget(k, _superiority(as_found[0], groups, k), lead, chance.share(abs(lead)))
        for k, lead in zip(budgets, largest, strict=True)
    ]
    least = chance.share(float(chance.distances[-1]))
    return Exchange(found, least, len(chance.distances), chance.is_exact)


def _groups(in_order: Numbers) -> NDArray[np.int_]:
    """Return the group that each value is in, from 0, of values that are equal but for rounding."""
    one, other = in_order[1:], in_order[:-1]
    scale = np.abs(in_order[np.isfinite(in_order)]).max(initial=0.0)
    with np.errstate(invalid="ignore"):  # of two that have diverged, which are equal
        is_new = (one != other) & (np.abs(one - other) > ROUNDING * scale)
    return np.concatenate([[0], np.cumsum(is_new)])


def _scores(groups: NDArray[np.int_]) -> Numbers:
    """Return two scores of each value, the best first, (values, 2); equal ones share the mean."""
    places = np.arange(1.0, len(groups) + 1)
    both = (-places, np.cumsum(1 / places[::-1])[::-1])
    counts = np.bincount(groups)
    return np.stack([(np.bincount(groups, each) / counts)[groups] for each in both], axis=1)


def _superiority(is_ours: Masks, groups: NDArray[np.int_], k: int) -> float:
    """Return how probably the first method's best of k is the better one; half of equal ones."""
    mine, other = (np.cumsum(np.bincount(groups, each)).astype(int) for each in (is_ours, ~is_ours))
    # how probably k draws hold none so good: before the first group, and behind each
    without = [np.append(1.0, survival(int(each[-1]), k)[each]) for each in (mine, other)]
    best = without[0][:-1] - without[0][1:]
    return float(best @ (without[1][:-1] + without[1][1:])) / 2


def _weights(is_ours: Masks, budgets: Sequence[int]) -> list[Numbers]:
    """Return the weights of values in the difference of the means of the best of k, for each k.

    Args:
        is_ours: which values the first method has, the best first, (exchanges, draws).
    """
    draws = is_ours.shape[1]
    count = int(is_ours[0].sum())
    before = np.cumsum(is_ours, axis=1, dtype=np.int32) - is_ours
    # the place of each value in a table with the weights of the first method's, then the other's
    places = np.where(is_ours, before, count + np.arange(draws, dtype=np.int32) - before)
    tables = (
        np.concatenate([-np.diff(survival(count, k)), np.diff(survival(draws - count, k))])
        for k in budgets
    )
    return [table[places] for table in tables]


@dataclass(frozen=True, eq=False)
class _Chance:
    """Leads in exchanges of draws, taken together."""

    spreads: Numbers  # standard deviations of leads, (budgets, scores)
    distances: Numbers  # of each exchange, the largest of its leads; the smallest first
    is_exact: bool

    def share(self, distance: float) -> float:
        """Return how many are as far apart; of a random part of them, what was found is one."""
        count = len(self.distances)
        beyond = count - int(np.searchsorted(self.distances, distance - _SAME))
        return beyond / count if self.is_exact else (beyond + 1) / (count + 1)


@lru_cache(maxsize=64)
def _by_chance(
    sizes: Sizes, places: tuple[int, ...], groups: tuple[int, ...], budgets: tuple[int, ...]
) -> _Chance:
    weighed, is_exact = _weighed(sizes, places, budgets)
    scores = _scores(np.array(groups))
    leads = np.stack([each @ scores for each in weighed])  # (budgets, exchanges, scores)
    spreads = leads.std(axis=1)
    spreads[spreads < _SAME] = math.inf  # all values are equal
    distances = np.abs(leads / spreads[:, None]).max(axis=(0, 2))
    return _Chance(spreads, np.sort(distances), is_exact)


@lru_cache(maxsize=2)  # of 100 draws and 100, a hundred megabytes
def _weighed(
    sizes: Sizes, order: tuple[int, ...], budgets: tuple[int, ...]
) -> tuple[list[Numbers], bool]:
    """Return the weights of exchanges at each budget, and whether these are all exchanges."""
    masks, is_exact = _exchanged(sizes)
    masks = masks[:, list(order)] if order else masks
    return _weights(masks, budgets), is_exact


@lru_cache(maxsize=2)
def _exchanged(sizes: Sizes) -> tuple[Masks, bool]:
    """Return which draws the first method gets, (exchanges, draws), and whether these are all."""
    if math.prod(math.comb(sum(pair), pair[0]) for pair in sizes) <= _MOST_EXACT:
        ways = [itertools.combinations(range(sum(pair)), pair[0]) for pair in sizes]
        starts = np.cumsum([0, *map(sum, sizes[:-1])]).tolist()
        chosen = [
            [start + place for start, way in zip(starts, each, strict=True) for place in way]
            for each in itertools.product(*ways)
        ]
        masks = np.zeros((len(chosen), sum(map(sum, sizes))), dtype=bool)
        np.put_along_axis(masks, np.array(chosen), True, axis=1)
        return masks, True
    rng = np.random.default_rng(_SEED)
    parts = [np.tile(np.arange(sum(pair)) < pair[0], (_DRAWN, 1)) for pair in sizes]
    return np.hstack([rng.permuted(part, axis=1) for part in parts]), False
