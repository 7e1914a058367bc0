"""Means, medians and interquartile means over seeds, and how often their intervals are right."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import astuple

import numpy as np
import pytest
from scipy import stats

from deltagclip_cli.plan import planned as results
from deltagclip_cli.results.statistics.summary import (
    LEAST_TO_RESAMPLE,
    Interval,
    Summary,
    interquartile_mean,
    mean_interval,
    median,
    share_interval,
    summarize,
)

TEN = np.random.default_rng(1).normal(3.0, 2.0, size=10).tolist()
NOT_FINITE = [math.nan, math.inf, -math.inf]


def numbers_of(found: Summary) -> list[float]:
    """Everything in a summary that has the unit of the metric."""
    flat = np.hstack([np.ravel(each) for each in astuple(found)[2:] if each is not None])
    return [float(each) for each in flat]


def test_mean_error_and_interval_are_those_worked_by_hand() -> None:
    found = summarize([1.0, 2.0, 4.0], higher_is_better=False)
    assert (found.n, found.diverged, found.mean) == (3, 0, pytest.approx(7 / 3))
    assert found.standard_error == pytest.approx(math.sqrt(7) / 3)
    assert found.interval is not None
    assert found.interval.high - found.mean == pytest.approx(4.302653 * math.sqrt(7) / 3, rel=1e-6)
    assert found.mean - found.interval.low == pytest.approx(4.302653 * math.sqrt(7) / 3, rel=1e-6)
    assert (found.median, found.iqm, found.best, found.worst) == (2.0, pytest.approx(7 / 3), 1, 4)


def test_the_paper_s_standard_error_divides_by_n_and_leaves_the_interval_as_it_is() -> None:
    usual = summarize([1.0, 2.0, 4.0], higher_is_better=False)
    paper = summarize([1.0, 2.0, 4.0], higher_is_better=False, ddof=0)
    assert paper.standard_error == pytest.approx(math.sqrt(14 / 27))
    assert paper.interval == usual.interval


@pytest.mark.parametrize("n", [2, 3, 10, 100])
def test_the_interval_of_a_mean_is_scipy_s(n: int) -> None:
    values = np.random.default_rng(n).normal(5.0, 3.0, size=n)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    found = mean_interval(values)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_mean_and_error_are_those_of_the_tables_without_statistics() -> None:
    ours, theirs = summarize(TEN, higher_is_better=True), results.mean(TEN)
    assert ours.mean == pytest.approx(theirs.value, rel=1e-15)
    assert ours.standard_error == pytest.approx(theirs.standard_error, rel=1e-15)


def test_no_values_have_no_summary_but_counts() -> None:
    found = summarize([], higher_is_better=True)
    assert (found.n, found.diverged) == (0, 0)
    assert found.standard_error is found.interval is found.median_interval is None
    assert all(map(math.isnan, [found.mean, found.median, found.iqm, found.best, found.worst]))


def test_one_value_has_no_error_and_no_interval() -> None:
    found = summarize([2.0], higher_is_better=True)
    assert numbers_of(found) == [2.0] * 5
    assert found.standard_error is found.interval is None


@pytest.mark.parametrize("n", [2, 3, 10, 12])
def test_equal_values_have_an_interval_without_width(n: int) -> None:
    found = summarize([0.1] * n, higher_is_better=True)
    point = Interval(0.1, 0.1)
    assert (found.mean, found.standard_error, found.interval) == (0.1, 0.0, point)
    expected = point if n >= LEAST_TO_RESAMPLE else None
    assert found.median_interval == found.iqm_interval == expected


@pytest.mark.parametrize("diverged", NOT_FINITE)
@pytest.mark.parametrize(("higher", "worst"), [(True, -math.inf), (False, math.inf)])
def test_a_diverged_run_is_the_worst_and_has_no_part_in_the_mean(
    diverged: float, higher: bool, worst: float
) -> None:
    found = summarize([1.0, diverged, 3.0], higher_is_better=higher)
    assert (found.n, found.diverged, found.mean) == (2, 1, 2.0)
    assert (found.worst, found.best) == (worst, 3.0 if higher else 1.0)
    assert found.median == (1.0 if higher else 3.0)
    assert found.iqm == worst
    assert found.interval == mean_interval([1.0, 3.0])


def test_where_half_of_the_runs_diverged_the_median_is_infinite() -> None:
    assert summarize([1.0, math.nan], higher_is_better=False).median == math.inf
    assert summarize([1.0, 2.0, math.nan], higher_is_better=False).median == 2.0


@pytest.mark.parametrize("n", [1, 2, 11])
def test_where_all_runs_diverged_there_is_no_mean(n: int) -> None:
    found = summarize([math.nan] * n, higher_is_better=True)
    assert (found.n, found.diverged) == (0, n) and math.isnan(found.mean)
    assert found.median == found.iqm == found.best == found.worst == -math.inf
    assert found.interval is found.median_interval is found.iqm_interval is None


def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end_rounded_down() -> None:
    assert interquartile_mean([100.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, -50.0]) == 2.5
    assert interquartile_mean([100.0, 2.0, 3.0, 4.0, -50.0]) == 3.0
    assert interquartile_mean([1.0, 2.0, 6.0]) == 3.0
    assert math.isnan(interquartile_mean([]))


def test_the_median_of_two_is_their_mean_and_of_none_there_is_none() -> None:
    assert median([1.0, 4.0]) == 2.5
    assert median([9.0, 1.0, 4.0]) == 4.0
    assert math.isnan(median([]))


def test_fewer_than_ten_values_are_not_resampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "bootstrap", lambda *_, **__: pytest.fail("it was resampled"))
    found = summarize(TEN[:9], higher_is_better=True)
    assert found.median_interval is found.iqm_interval is None


def test_intervals_of_median_and_iqm_are_scipy_s_bootstrap() -> None:
    found = summarize(TEN, higher_is_better=True)
    for statistic, interval in (
        (np.median, found.median_interval),
        (lambda values, axis: stats.trim_mean(values, 0.25, axis=axis), found.iqm_interval),
    ):
        expected = stats.bootstrap(
            (np.sort(TEN),), statistic, rng=np.random.default_rng(0)
        ).confidence_interval
        assert interval is not None
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


def test_the_order_of_the_seeds_changes_no_bit() -> None:
    assert summarize(TEN, higher_is_better=True) == summarize(TEN[::-1], higher_is_better=True)


def test_where_bca_is_not_defined_there_is_no_interval() -> None:
    found = summarize([1.0] * 9 + [2.0], higher_is_better=True)
    assert (found.median, found.iqm) == (1.0, 1.0)
    assert found.median_interval is found.iqm_interval is None
    assert found.interval is not None


def test_a_sample_with_a_diverged_run_is_not_resampled() -> None:
    found = summarize([*TEN, math.nan], higher_is_better=True)
    assert found.median_interval is found.iqm_interval is None
    assert found.interval == summarize(TEN, higher_is_better=True).interval


@pytest.mark.parametrize("power", [-20, 20])
def test_a_summary_in_another_unit_is_the_same_to_the_last_bit(power: int) -> None:
    scaled = summarize([math.ldexp(each, power) for each in TEN], higher_is_better=True)
    expected = numbers_of(summarize(TEN, higher_is_better=True))
    assert numbers_of(scaled) == [math.ldexp(each, power) for each in expected]


def test_a_constant_moves_everything_but_the_error() -> None:
    here = summarize(TEN, higher_is_better=True)
    there = summarize([each + 64 for each in TEN], higher_is_better=True)
    moved = [each + 64 for each in numbers_of(here)]
    moved[1] -= 64
    # The bootstrap counts ties of means, which rounding breaks: its ends jump a little.
    assert numbers_of(there) == pytest.approx(moved, abs=0.02)
    assert numbers_of(there)[:5] == pytest.approx(moved[:5], rel=1e-12)


@pytest.mark.parametrize("values", [[1e-20, 1e20], [5e-324, 0.0] * 6])
def test_very_large_and_very_small_values_are_no_error(values: list[float]) -> None:
    found = summarize(values, higher_is_better=False)
    assert (found.best, found.worst) == (min(values), max(values))
    assert found.interval is not None and found.interval.low <= found.mean <= found.interval.high


def test_resampling_a_thousand_values_takes_less_than_100_megabytes() -> None:
    values = np.random.default_rng(0).normal(size=1000).tolist()
    tracemalloc.start()
    found = summarize(values, higher_is_better=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.iqm_interval is not None
    assert peak < 100e6


@pytest.mark.parametrize("n", [3, 5, 10, 20])
def test_the_interval_of_a_mean_covers_it_in_95_percent_of_samples(n: int) -> None:
    samples = np.random.default_rng(n).normal(3.0, 2.0, size=(2000, n))
    found = [mean_interval(sample) for sample in samples]
    covered = np.mean([each is not None and each.low <= 3.0 <= each.high for each in found])
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize("n", [3, 5, 10, 20])
def test_of_skewed_values_the_interval_covers_the_mean_less_often(n: int) -> None:
    samples = np.random.default_rng(n).lognormal(size=(2000, n))
    found = [mean_interval(sample) for sample in samples]
    mean = math.exp(0.5)
    covered = np.mean([each is not None and each.low <= mean <= each.high for each in found])
    assert 0.82 <= covered <= 0.89


@pytest.mark.slow
@pytest.mark.parametrize("n", [10, 20, 21])  # larger ones take minutes
def test_bootstrap_intervals_cover_as_often_as_is_said(n: int) -> None:
    samples = np.random.default_rng(1000 + n).normal(3.0, 2.0, size=(600, n))
    found = [summarize(sample, higher_is_better=True) for sample in samples]
    for name, intervals in (
        ("median", [each.median_interval for each in found]),
        ("IQM", [each.iqm_interval for each in found]),
    ):
        covered = np.mean([each is not None and each.low <= 3.0 <= each.high for each in intervals])
        assert 0.895 <= covered <= 0.975, name  # 0.92 to 0.95 of many more samples


def test_a_value_whose_square_is_no_number_has_diverged() -> None:
    found = summarize([1.0, 1e200, 3.0], higher_is_better=False)
    assert (found.n, found.diverged, found.mean, found.worst) == (2, 1, 2.0, math.inf)


@pytest.mark.parametrize(("count", "n"), [(0, 8), (1, 8), (5, 20), (20, 20)])
def test_the_interval_of_a_share_is_that_of_clopper_and_pearson(count: int, n: int) -> None:
    expected = stats.binomtest(count, n).proportion_ci(method="exact")
    found = share_interval(count, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
