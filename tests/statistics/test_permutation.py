"""Two methods compared by exchanging their draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from deltagclip_cli.results.statistics.permutation import doubled_budgets, exchange_draws


def worst(values: list[float]) -> list[float]:
    return [math.inf if math.isnan(each) else each for each in values]


def test_budgets_are_doubled_up_to_the_plan_or_half_of_the_draws() -> None:
    budgets = [(1, 1), (3, 3), (5, 5), (20, 20), (20, 60), (50, 8)]
    assert [doubled_budgets(*each) for each in budgets] == [
        [1],
        [1],
        [1, 2],
        [1, 2, 4, 8, 10],
        [1, 2, 4, 8, 16, 20],
        [1, 2, 4],
    ]


def test_superiority_is_that_over_all_pairs_of_subsets_with_ties_and_failures() -> None:
    ours, theirs = [1.0, 2, 2, math.nan, 3, 3], [2.0, 2, 3, math.nan, math.nan]
    found = exchange_draws([ours], [theirs], [1, 2], higher_is_better=False)
    for each in found.budgets:
        pairs = [
            (min(one) < min(other)) + (min(one) == min(other)) / 2
            for one in combinations(worst(ours), each.k)
            for other in combinations(worst(theirs), each.k)
        ]
        assert each.superiority == pytest.approx(np.mean(pairs))
    assert found.is_exact and found.exchanges == math.comb(11, 6)


def test_p_is_the_share_of_all_exchanges_that_are_as_far_apart() -> None:
    """Against loops over all exchanges, all subsets, both scores and all budgets."""
    values, size, budgets = [0.1, 0.7, 0.3, 0.95, 0.2, 0.9, 0.5, 0.8, 0.85], 4, [1, 2, 3]
    places = stats.rankdata(-np.array(values)).astype(int)
    savage = [sum(1 / j for j in range(place, 10)) for place in places]

    def mean_best(scores: Sequence[float], k: int) -> float:
        return float(np.mean([max(subset) for subset in combinations(scores, k)]))

    def leads(chosen: tuple[int, ...]) -> list[float]:
        others = [each for each in range(len(values)) if each not in chosen]
        return [
            mean_best([scores[i] for i in chosen], k) - mean_best([scores[i] for i in others], k)
            for k in budgets
            for scores in ([-each for each in places], savage)
        ]

    table = np.array([leads(each) for each in combinations(range(len(values)), size)])
    distances = np.abs(table / table.std(axis=0))
    found = exchange_draws([values[:size]], [values[size:]], budgets, higher_is_better=True)
    for number, each in enumerate(found.budgets):
        own = distances[0, 2 * number : 2 * number + 2].max()
        assert each.p == pytest.approx((distances.max(axis=1) >= own - 1e-9).mean())
        assert abs(each.lead) == pytest.approx(own)


def test_few_draws_cannot_show_anything() -> None:
    for count, least in ((1, 1.0), (2, 1 / 3), (3, 0.1), (4, 2 / 70)):
        ours, theirs = [1.0 + i for i in range(count)], [-1.0 - i for i in range(count)]
        found = exchange_draws([ours], [theirs], [1], higher_is_better=True)
        assert found.least_p == found.p == pytest.approx(least)


def test_draws_are_exchanged_within_their_study_alone() -> None:
    """Else the studies' own seeds would count as a difference between draws."""
    ours, theirs = [[0.9, 0.8], [0.4, 0.3]], [[0.7, 0.6], [0.2, 0.1]]
    found = exchange_draws(ours, theirs, [1], higher_is_better=True)
    assert found.exchanges == 36
    assert found.p == pytest.approx(2 / 36)


def test_equal_methods_are_equal() -> None:
    found = exchange_draws([[1.0] * 4], [[1.0] * 4], [1, 2], higher_is_better=True)
    assert [(each.superiority, each.p) for each in found.budgets] == [(0.5, 1.0)] * 2


def test_means_that_are_equal_but_for_rounding_are_equal() -> None:
    ours, theirs = [0.1 + 0.2, 0.5, 0.7, math.nan], [0.3, 0.4, 0.6, math.nan]
    assert ours[0] != theirs[0]
    found = exchange_draws([ours], [theirs], [1], higher_is_better=False)
    assert found.budgets[0].superiority == (3.5 + 2 + 1 + 0.5) / 16


def test_a_method_is_not_ahead_that_is_worse_in_most_draws() -> None:
    """Though its good ones are so good that a single one of them has the better score."""
    ours = [*range(200, 245), *range(55)]
    found = exchange_draws([ours], [range(60, 160)], [1, 2], higher_is_better=True)
    one, two = found.budgets
    assert one.p < 0.05 and one.lead > 0 and one.superiority == pytest.approx(0.45)
    assert one.ahead == 0 and two.ahead > 0


def test_no_unit_matters_and_the_order_of_draws_neither() -> None:
    rng = np.random.default_rng(3)
    ours, theirs = rng.normal(size=20), rng.normal(size=20) + 0.8
    found = exchange_draws([ours.tolist()], [theirs.tolist()], [1, 4], higher_is_better=True)
    same = exchange_draws([np.exp(ours[::-1])], [np.exp(theirs)], [1, 4], higher_is_better=True)
    assert same == found
    turned = exchange_draws([theirs], [ours], [1, 4], higher_is_better=True)
    assert turned.p == pytest.approx(found.p, abs=0.01)
    assert not found.is_exact
    for one, other in zip(found.budgets, turned.budgets, strict=True):
        assert one.superiority == pytest.approx(1 - other.superiority)
        assert one.lead == pytest.approx(-other.lead)


@pytest.mark.parametrize("spread", [0.0, 3.0])
def test_the_same_method_twice_is_rarely_told_apart(spread: float) -> None:
    rng, wrong, studies = np.random.default_rng(4), 0, 200
    for _ in range(studies):
        ours, theirs = spread * rng.normal(size=(2, 10)) + rng.standard_t(3, size=(2, 10))
        found = exchange_draws([ours], [theirs], [1, 2, 4, 5], higher_is_better=True)
        wrong += found.p <= 0.05
    assert wrong / studies <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)
