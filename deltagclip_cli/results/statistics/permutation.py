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
from deltagclip_cli.results.statistics.summary import Numbers, ranked

_MOST_EXACT = 20_000  # exchanges of which each is looked at
_DRAWN = 9_999  # of more exchanges
_SEED = 0  # two readers of the same runs are to see the same p
_ROUNDING = 1e-7  # of a statistic, in its standard deviations

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
    lead: float  # of the mean score of its best of k; the one is ahead if it is positive
    p: float  # two-sided, adjusted for all budgets that are tested together


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
    subsets. The score of a draw is Savage's (1956): about the logarithm of how many draws of both
    it takes to find one as good, so that no unit matters and the better draws count most. For k = 1
    that is the log-rank test. Of several budgets the largest difference counts, in its standard
    deviations over all exchanges, so that p holds for all of them together (Westfall & Young 1993).
    """
    pairs = list(zip(ours, theirs, strict=True))
    values = np.concatenate([ranked(each, higher_is_better) for pair in pairs for each in pair])
    sizes: Sizes = tuple((len(one), len(other)) for one, other in pairs)
    order = np.argsort(-values if higher_is_better else values, kind="stable")
    groups = _groups(values[order])
    scores = _scores(groups)
    as_found = np.concatenate([np.arange(sum(pair)) < pair[0] for pair in sizes])[order][None]
    leads = np.array([float((_weights(as_found, k) @ scores)[0]) for k in budgets])
    # in a single study every order of the values has the same exchanges
    exchanged, is_exact = _weighed(sizes, tuple(order) if len(sizes) > 1 else (), tuple(budgets))
    by_chance = np.stack([each @ scores for each in exchanged])
    spread = by_chance.std(axis=1, keepdims=True)
    spread[spread < _ROUNDING] = math.inf  # all values are equal
    largest = np.abs(by_chance / spread).max(axis=0)

    def share(distance: float) -> float:
        beyond = int((largest >= distance - _ROUNDING).sum())
        return beyond / len(largest) if is_exact else (beyond + 1) / (len(largest) + 1)

    distances = np.abs(leads / spread[:, 0]).tolist()
    found = [
        AtBudget(k, _superiority(as_found[0], groups, k), lead, share(distance))
        for k, lead, distance in zip(budgets, leads.tolist(), distances, strict=True)
    ]
    return Exchange(found, share(float(largest.max())), len(largest), is_exact)


def _groups(in_order: Numbers) -> NDArray[np.int_]:
    """Return the group of equal values that each value is in, from 0."""
    is_new = np.concatenate([[False], in_order[1:] != in_order[:-1]])
    return np.cumsum(is_new)


def _scores(groups: NDArray[np.int_]) -> Numbers:
    """Return Savage's score of each value, the best first; equal ones share the mean of theirs."""
    scores = np.cumsum((1 / np.arange(1.0, len(groups) + 1))[::-1])[::-1]
    return (np.bincount(groups, scores) / np.bincount(groups))[groups]


def _superiority(is_ours: Masks, groups: NDArray[np.int_], k: int) -> float:
    """Return how probably the first method's best of k is the better one; half of equal ones."""
    mine, other = (np.cumsum(np.bincount(groups, each)).astype(int) for each in (is_ours, ~is_ours))
    # how probably k draws hold none so good: before the first group, and behind each
    without = [np.append(1.0, survival(int(each[-1]), k)[each]) for each in (mine, other)]
    best = without[0][:-1] - without[0][1:]
    return float(best @ (without[1][:-1] + without[1][1:])) / 2


def _weights(is_ours: Masks, k: int) -> Numbers:
    """Return the weight of each value in the difference of the means of the best of k.

    Args:
        is_ours: which values the first method has, the best first, (exchanges, draws).
    """
    count = int(is_ours[0].sum())
    ours, theirs = (
        np.append(-np.diff(survival(each, k)), 0.0) for each in (count, is_ours.shape[1] - count)
    )
    before: NDArray[np.int_] = np.cumsum(is_ours, axis=1) - is_ours
    return np.where(is_ours, ours[before], -theirs[np.arange(is_ours.shape[1]) - before])


@lru_cache(maxsize=2)  # of 100 draws and 100, a hundred megabytes
def _weighed(
    sizes: Sizes, order: tuple[int, ...], budgets: tuple[int, ...]
) -> tuple[list[Numbers], bool]:
    """Return the weights of exchanges at each budget, and whether these are all exchanges."""
    masks, is_exact = _exchanged(sizes)
    masks = masks[:, list(order)] if order else masks
    return [_weights(masks, k) for k in budgets], is_exact


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
