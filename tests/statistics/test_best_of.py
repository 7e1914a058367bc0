"""The best of k draws: means and medians over all subsets, and how sure they are."""

from __future__ import annotations

import math
import time
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from deltagclip_cli.results.statistics.best_of import best_of_curve, largest_bounded, least_draws


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_means_and_medians_are_those_over_all_subsets(higher_is_better: bool) -> None:
    values = np.random.default_rng(0).normal(size=9).tolist()
    best = max if higher_is_better else min
    for each in best_of_curve(values, higher_is_better=higher_is_better):
        of_all = [best(subset) for subset in combinations(values, each.k)]
        assert each.expected == pytest.approx(np.mean(of_all))
        assert each.median == pytest.approx(np.median(of_all))


def test_failed_draws_are_the_worst_and_no_mean_hides_them() -> None:
    curve = best_of_curve([0.1, math.nan, 0.3, -math.inf, 0.2], higher_is_better=False)
    assert [each.expected for each in curve[:2]] == [math.inf, math.inf]
    assert curve[2].expected == pytest.approx((6 * 0.1 + 3 * 0.2 + 0.3) / 10)
    assert [each.median for each in curve[:2]] == [0.3, 0.2]
    assert curve[0].interval.high == math.inf


def test_a_budget_costs_so_many_draws() -> None:
    curve = best_of_curve([1.0, 2.0, 3.0], higher_is_better=True, costs=[1.0, 1.0, 4.0])
    assert [each.cost for each in curve] == [2.0, 4.0, 6.0]
    assert math.isnan(best_of_curve([1.0], higher_is_better=True)[0].cost)
    assert best_of_curve([], higher_is_better=True) == []


def test_it_is_known_how_many_draws_bound_the_best_of_k() -> None:
    assert [least_draws(k) for k in (1, 3, 5, 10)] == [6, 16, 27, 54]
    assert [largest_bounded(count) for count in (5, 6, 26, 27, 54)] == [0, 1, 4, 5, 10]
    for k in (1, 3, 5, 10):
        for count in (least_draws(k) - 1, least_draws(k)):
            interval = best_of_curve([*map(float, range(count))], higher_is_better=True)[k - 1]
            assert math.isfinite(interval.interval.high) is (count == least_draws(k))


def test_intervals_hold_the_median_as_often_as_they_say() -> None:
    """Exactly so, of every distribution: the draws below a quantile are a binomial number."""
    for count in (10, 11, 20, 27, 40, 54, 100):
        curve = best_of_curve([*map(float, range(1, count + 1))], higher_is_better=True)
        for k in range(1, 11):
            ends = curve[k - 1].interval
            below = stats.binom(count, 0.5 ** (1 / k))  # how many draws are below the quantile
            low = below.cdf(ends.low - 1) if math.isfinite(ends.low) else 0.0
            high = below.sf(ends.high - 1) if math.isfinite(ends.high) else 0.0
            assert 0.95 <= 1 - low - high <= 0.9915, (count, k)


def test_lower_is_better_mirrors_higher() -> None:
    values = np.random.default_rng(1).normal(size=30)
    rising = best_of_curve(values.tolist(), higher_is_better=True)
    falling = best_of_curve((-values).tolist(), higher_is_better=False)
    for one, other in zip(rising, falling, strict=True):
        assert (one.expected, one.median) == pytest.approx((-other.expected, -other.median))
        assert (one.interval.low, one.interval.high) == (-other.interval.high, -other.interval.low)


def test_curves_of_twelve_optimizers_are_there_within_a_second() -> None:
    values = np.random.default_rng(2).normal(size=(12, 100))
    begin = time.process_time()
    for each in values.tolist():
        assert len(best_of_curve(each, higher_is_better=True)) == 100
    assert time.process_time() - begin < 1.0
