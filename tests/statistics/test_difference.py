"""Two settings compared over seeds: tests, effect sizes, and what too few seeds cannot show."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import special, stats

from deltagclip_cli.results.statistics.difference import (
    LARGEST_EXACT,
    Design,
    Difference,
    _Effect,
    compare,
    holm,
    rank_sum_p,
)
from deltagclip_cli.results.statistics.summary import Interval

Compare = Callable[..., Difference]

OURS = [0.91, 0.93, 0.94, 0.9, 0.96, 0.92]
THEIRS = [0.89, 0.935, 0.9, 0.87, 0.94, 0.93]
SIZES = [2, 3, 5, 12, 13, 30, 60]
NAN, INF = math.nan, math.inf


def paired(ours: Sequence[float], theirs: Sequence[float], higher: bool = True) -> Difference:
    """Compared as values of the same seeds."""
    return compare(dict(enumerate(ours)), dict(enumerate(theirs)), higher_is_better=higher)


def unpaired(ours: Sequence[float], theirs: Sequence[float], higher: bool = True) -> Difference:
    """Compared as values of other seeds."""
    other = {-1 - seed: value for seed, value in enumerate(theirs)}
    return compare(dict(enumerate(ours)), other, higher_is_better=higher)


def drawn(n: int, m: int) -> tuple[list[float], list[float]]:
    """Two samples with other means and spreads, without ties."""
    rng = np.random.default_rng(100 * n + m)
    return rng.normal(1.0, 2.0, size=n).tolist(), rng.normal(0.5, 1.0, size=m).tolist()


# ---------------------------------------------------------------- which comparison


@pytest.mark.parametrize(
    ("ours", "theirs", "design", "pairs", "left_out"),
    [
        ("012", "012", Design.PAIRED, 3, 0),
        ("012", "210", Design.PAIRED, 3, 0),
        ("01234", "13", Design.PAIRED, 2, 3),
        ("13", "01234", Design.PAIRED, 2, 3),
        ("012", "123", Design.UNPAIRED, 0, 0),
        ("012", "2345", Design.UNPAIRED, 0, 0),
        ("01", "23", Design.UNPAIRED, 0, 0),
        ("0", "012", Design.TOO_FEW, 0, 0),
        ("0", "0", Design.TOO_FEW, 0, 0),
        ("", "012", Design.TOO_FEW, 0, 0),
        ("", "", Design.TOO_FEW, 0, 0),
    ],
)
def test_seeds_are_paired_where_one_setting_has_no_others(
    ours: str, theirs: str, design: Design, pairs: int, left_out: int
) -> None:
    values = [{seed: number_of(seed) for seed in seeds} for seeds in (ours, theirs)]
    found = compare(values[0], values[1], higher_is_better=True)
    assert (found.design, found.pairs, found.left_out) == (design, pairs, left_out)
    assert (found.n_ours, found.n_theirs) == (len(ours), len(theirs))


def number_of(seed: str) -> float:
    """Some number that depends on the seed."""
    return math.sin(1 + int(seed))


def test_pairs_are_matched_by_seed_and_not_by_their_order() -> None:
    ours = {"a": 1.0, "b": 2.0, "c": 4.0, "more": 100.0}
    theirs = {"c": 3.5, "a": 0.0, "b": 1.25}
    found = compare(ours, theirs, higher_is_better=True)
    assert found.difference == pytest.approx((1.0 + 0.75 + 0.5) / 3)
    assert found.t_test_p == stats.ttest_rel([1.0, 2.0, 4.0], [0.0, 1.25, 3.5]).pvalue


def test_values_without_a_partner_count_where_the_comparison_is_not_by_seed() -> None:
    found = compare({0: 1.0, 1: 2.0, 2: 9.0}, {1: 3.0, 2: 4.0, 3: 5.5}, higher_is_better=True)
    assert found.difference == pytest.approx(4.0 - 12.5 / 3)


# ---------------------------------------------------------------- equal to scipy


@pytest.mark.parametrize("n", SIZES)
def test_paired_p_values_and_interval_are_scipy_s(n: int) -> None:
    ours, theirs = drawn(n, n)
    found, expected = paired(ours, theirs), stats.ttest_rel(ours, theirs)
    assert found.t_test_p == expected.pvalue
    method = "exact" if n <= LARGEST_EXACT else "asymptotic"
    assert found.rank_test_p == pytest.approx(stats.wilcoxon(ours, theirs, method=method).pvalue)
    assert found.interval == Interval(*expected.confidence_interval(0.95))
    assert found.difference == pytest.approx(np.mean(ours) - np.mean(theirs))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("m", [2, 7, 20])
def test_unpaired_p_values_and_interval_are_scipy_s(n: int, m: int) -> None:
    ours, theirs = drawn(n, m)
    found, expected = unpaired(ours, theirs), stats.ttest_ind(ours, theirs, equal_var=False)
    assert found.t_test_p == expected.pvalue
    assert found.interval == Interval(*expected.confidence_interval(0.95))
    assert found.difference == pytest.approx(np.mean(ours) - np.mean(theirs))


# ---------------------------------------------------------------- worked by hand


def test_a_paired_comparison_is_that_worked_by_hand() -> None:
    # Differences 1, 2, 3: mean 2, s = 1, t = 2√3; p = 1 - t/√(t² + 2) of two degrees of freedom.
    found = paired([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    t = 2 * math.sqrt(3)
    assert found.difference == 2.0
    assert found.t_test_p == pytest.approx(1 - t / math.sqrt(t**2 + 2))
    assert found.rank_test_p == 2 / 2**3
    assert found.interval == Interval(
        pytest.approx(2 - 4.302653 / math.sqrt(3), rel=1e-6),
        pytest.approx(2 + 4.302653 / math.sqrt(3), rel=1e-6),
    )


def test_ranks_of_separate_samples_have_the_smallest_p() -> None:
    found = unpaired([5.0, 6.0, 7.0, 9.0], [1.0, 2.0, 4.0])
    assert found.rank_test_p == pytest.approx(2 / math.comb(7, 3))


# ---------------------------------------------------------------- effect size


def test_hedges_g_of_two_samples_is_that_of_his_formula() -> None:
    ours, theirs = [4.0, 6.0, 8.0], [1.0, 2.0, 3.0, 4.0]
    # Sums of squares 8 and 5 over 3 + 4 - 2 degrees of freedom.
    d = (6.0 - 2.5) / math.sqrt((8 + 5) / 5)
    unbiased = special.gamma(5 / 2) / (math.sqrt(5 / 2) * special.gamma(4 / 2))
    assert unbiased == pytest.approx(1 - 3 / (4 * 5 - 1), abs=2e-3)  # Hedges' approximation
    assert unpaired(ours, theirs).effect_size == pytest.approx(unbiased * d)


def test_hedges_g_of_pairs_is_in_spreads_of_their_differences() -> None:
    found = paired([2.0, 4.0, 6.0, 9.0], [1.0, 2.0, 3.0, 3.0])
    d = 3.0 / math.sqrt((4 + 1 + 0 + 9) / 3)
    unbiased = special.gamma(3 / 2) / (math.sqrt(3 / 2) * special.gamma(2 / 2))
    assert found.effect_size == pytest.approx(unbiased * d)


def test_hedges_g_has_no_bias_and_its_interval_covers() -> None:
    rng = np.random.default_rng(3)
    ours, theirs = rng.normal(1.0, 1.0, size=(200, 4)), rng.normal(0.0, 1.0, size=(200, 3))
    found = [unpaired(a, b) for a, b in zip(ours, theirs, strict=True)]
    # 200 draws have standard errors of 0.07 and 0.015; without its correction g would be 1.19.
    assert np.mean([each.effect_size or 0 for each in found]) == pytest.approx(1.0, abs=0.1)
    intervals = [each.effect_interval for each in found]
    covered = np.mean([each is not None and each.low <= 1.0 <= each.high for each in intervals])
    assert covered == pytest.approx(0.95, abs=0.04)


def effect(t: float, degrees: int) -> Interval:
    found = _Effect(t, degrees, 1.0).interval
    assert found is not None
    return found


def test_limits_of_the_noncentral_t_are_those_of_mbess() -> None:
    # conf.limits.nct(ncp=2.83, df=126) of the R package MBESS (Kelley 2007).
    found = effect(2.83, 126)
    assert found.low == pytest.approx(0.8337502, abs=1e-6)
    assert found.high == pytest.approx(4.815359, abs=1e-5)


@pytest.mark.parametrize("degrees", [2, 5, 30, 100])
@pytest.mark.parametrize("t", [0.0, 1e-8, 1.0, 30.0, 150.0])
def test_limits_of_the_noncentral_t_exist_for_any_t(t: float, degrees: int) -> None:
    found = effect(t, degrees)
    for limit, probability in ((found.low, 0.975), (found.high, 0.025)):
        # T = (Z + δ)/S is at most t if Z ≤ t·S - δ, whatever S is.
        quantiles = np.sqrt(stats.chi2.ppf((np.arange(5000) + 0.5) / 5000, degrees) / degrees)
        assert np.mean(stats.norm.cdf(t * quantiles - limit)) == pytest.approx(
            probability, abs=1e-4
        )


def test_two_pairs_have_a_test_but_no_effect_size() -> None:
    found = paired([1.0, 3.0], [0.5, 1.0])
    assert found.t_test_p == stats.ttest_rel([1.0, 3.0], [0.5, 1.0]).pvalue
    assert found.effect_size is found.effect_interval is None


# ---------------------------------------------------------------- invariance


@pytest.mark.parametrize("how", [paired, unpaired])
def test_exchanged_sides_exchange_the_signs(how: Compare) -> None:
    there, back = how(OURS, THEIRS), how(THEIRS, OURS)
    assert back.difference == pytest.approx(-there.difference, rel=1e-12)
    assert back.effect_size == pytest.approx(-float(there.effect_size or 0), rel=1e-12)
    assert (back.t_test_p, back.rank_test_p) == (
        pytest.approx(there.t_test_p, rel=1e-12),
        there.rank_test_p,
    )
    for ours, theirs in (
        (there.interval, back.interval),
        (there.effect_interval, back.effect_interval),
    ):
        assert ours is not None and theirs is not None
        assert (-theirs.high, -theirs.low) == pytest.approx((ours.low, ours.high), rel=1e-9)


@pytest.mark.parametrize("how", [paired, unpaired])
@pytest.mark.parametrize("power", [-20, -3, 5, 20])
def test_another_unit_changes_no_p_value_and_no_effect_size(how: Compare, power: int) -> None:
    here = how(OURS, THEIRS)
    there = how(*([math.ldexp(each, power) for each in side] for side in (OURS, THEIRS)))
    assert here.interval is not None
    interval = Interval(math.ldexp(here.interval.low, power), math.ldexp(here.interval.high, power))
    assert there == replace(here, difference=math.ldexp(here.difference, power), interval=interval)


@pytest.mark.parametrize("how", [paired, unpaired])
def test_a_constant_added_to_both_sides_changes_nothing(how: Compare) -> None:
    here, there = how(OURS, THEIRS), how([x + 8 for x in OURS], [x + 8 for x in THEIRS])
    assert there.difference == pytest.approx(here.difference)
    assert there.t_test_p == pytest.approx(here.t_test_p)
    assert there.effect_size == pytest.approx(here.effect_size)


# ---------------------------------------------------------------- no spread


def test_identical_runs_differ_by_nothing() -> None:
    for found in (paired(OURS, OURS), paired([1.0] * 3, [1.0] * 3)):
        assert (found.difference, found.rank_test_p, found.p) == (0.0, 1.0, 1.0)
        assert found.t_test_p is found.interval is found.effect_size is None
    assert unpaired([1.0] * 3, [1.0] * 4).p == 1.0
    assert unpaired([1.0] * 3, [1.0] * 4).t_test_p is None


def test_pairs_that_all_differ_by_the_same_have_ranks_only() -> None:
    exact = paired([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])
    rounded = paired([0.3, 0.4, 0.7], [0.2, 0.3, 0.6])
    assert len({0.3 - 0.2, 0.4 - 0.3, 0.7 - 0.6}) == 2  # but for rounding, 0.1
    for found in (exact, rounded):
        assert found.t_test_p is found.interval is found.effect_size is None
        assert found.p == found.rank_test_p == 0.25


def test_one_side_without_spread_has_welch_s_test() -> None:
    ours, theirs = [1.0, 1.0, 1.0], [1.0, 2.0, 3.0]
    found = unpaired(ours, theirs)
    # Welch's t is that of one sample with two degrees of freedom.
    assert found.t_test_p == pytest.approx(stats.ttest_1samp(theirs, 1.0).pvalue)
    assert found.effect_size is not None and found.effect_interval is not None
    assert paired(ours, theirs).t_test_p == stats.ttest_rel(ours, theirs).pvalue


@pytest.mark.parametrize("how", [paired, unpaired])
def test_a_spread_that_is_tiny_beside_the_difference_is_still_one(how: Compare) -> None:
    found = how([1.0, 1.0 + 1e-9, 1.0 + 3e-9], [2.0, 2.0 + 2e-9, 2.0 + 1e-9])
    assert found.t_test_p is not None and found.t_test_p < 1e-15
    assert found.effect_size is not None and found.effect_size < -1e6


@pytest.mark.parametrize("how", [paired, unpaired])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([1e-20, 2e-20, 3e-20], [1e20, 2e20, 4e20]),
        ([1e-200, 2e-200, 3e-200], [1e100, 1e100, 1e100]),
        ([1e-170, 3e-170, 2e-170], [1.0, 1.0, 1.0]),
        ([5e-324, 1e-323, 0.0], [0.0, 5e-324, 5e-324]),
    ],
)
def test_very_large_and_very_small_values_are_no_error(
    how: Compare, ours: list[float], theirs: list[float]
) -> None:
    found = how(ours, theirs)
    assert found.difference <= 0 or found.difference < 1e-322
    assert found.rank_test_p is not None and found.rank_test_p > 0
    assert found.t_test_p is None or 0 <= found.t_test_p <= 1


# ---------------------------------------------------------------- diverged


@pytest.mark.parametrize("diverged", [NAN, INF, -INF])
@pytest.mark.parametrize("higher", [True, False])
def test_a_diverged_run_leaves_the_ranks(diverged: float, higher: bool) -> None:
    found = paired([diverged, 1.0, 2.0, 3.0], [9.0, 1.5, 3.0, 5.0], higher)
    assert found.difference == pytest.approx(-3.5 / 3)
    assert found.t_test_p is found.interval is found.effect_size is None
    worst = -100.0 if higher else 100.0
    expected = stats.wilcoxon([worst, -0.5, -1.0, -2.0]).pvalue
    assert found.p == found.rank_test_p == expected


def test_two_runs_that_diverged_at_the_same_seed_are_equal() -> None:
    found = paired([NAN, 1.0, 2.0, 3.0], [INF, 1.5, 3.0, 5.0])
    assert found.rank_test_p == stats.wilcoxon([0.0, -0.5, -1.0, -2.0]).pvalue
    assert found.difference == pytest.approx(-3.5 / 3)


def test_a_diverged_run_is_worse_than_any_number() -> None:
    found = paired([NAN, 0.0, 3.0, 5.0], [0.0, 1.5e100, 2.0, 3.0], higher=False)
    assert found.rank_test_p == stats.wilcoxon([4.0, -3.0, 1.0, 2.0]).pvalue


def test_samples_with_diverged_runs_are_ranked_with_these_at_the_end() -> None:
    found = unpaired([NAN, 1.0, 2.0, INF], [1.5, 3.0, 5.0, 2.5, -INF], higher=False)
    everything = rank_sum_p(*map(np.array, ([9.0, 1.0, 2.0, 9.0], [1.5, 3.0, 5.0, 2.5, 9.0])))
    assert found.p == found.rank_test_p == everything
    assert found.difference == pytest.approx(1.5 - 3.0)
    assert found.t_test_p is found.interval is found.effect_interval is None


@pytest.mark.parametrize("how", [paired, unpaired])
def test_where_all_runs_of_a_side_diverged_there_is_no_difference(how: Compare) -> None:
    assert math.isnan(how([NAN] * 4, [1.0, 2.0, 3.0, 4.0]).difference)
    assert how([NAN] * 6, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).p == pytest.approx(
        2 / 2**6 if how is paired else 2 / math.comb(12, 6)
    )
    both = how([NAN] * 3, [NAN] * 3)
    assert math.isnan(both.difference) and both.p == 1.0


def test_one_seed_has_a_difference_but_no_test() -> None:
    one = paired([3.0], [1.0])
    assert (one.design, one.difference, one.p) == (Design.TOO_FEW, 2.0, None)
    assert unpaired([3.0], [1.0, 2.0]).difference == 1.5
    assert math.isnan(paired([NAN], [1.0]).difference)
    assert math.isnan(paired([], []).difference)


# ---------------------------------------------------------------- what few seeds cannot show


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (paired([], []), "no seed: no test"),
        (unpaired([1.0], [1.0, 2.0]), "one seed: no test"),
        (paired(OURS[:2], THEIRS[:2]), "with 2 pairs Wilcoxon's p cannot be below 0.5"),
        (paired(OURS[:5], THEIRS), "with 5 pairs Wilcoxon's p cannot be below 0.0625"),
        (paired(OURS, THEIRS), ""),
        (
            unpaired(OURS[:3], THEIRS[:3]),
            "with 3 and 3 seeds Mann-Whitney's p cannot be below 0.1",
        ),
        (
            unpaired(OURS[:2], THEIRS[:5]),
            "with 2 and 5 seeds Mann-Whitney's p cannot be below 0.0952",
        ),
        (unpaired(OURS[:4], THEIRS[:4]), ""),
        (unpaired(OURS[:3], THEIRS[:5]), ""),
    ],
)
def test_a_caution_says_what_so_few_seeds_cannot_show(found: Difference, words: str) -> None:
    assert found.caution == words


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_no_p_value_is_below_what_the_caution_says(n: int) -> None:
    far = [100.0 + 2**seed for seed in range(n)]
    near = [float(seed) for seed in range(n)]
    for found, least in (
        (paired(far, near), 2 / 2**n),
        (unpaired(far, near), 2 / math.comb(2 * n, n)),
    ):
        assert found.rank_test_p == pytest.approx(least)
        assert not found.caution or found.caution.endswith(f" {least:.3g}")


# ---------------------------------------------------------------- Holm


def test_holm_s_p_values_are_those_worked_by_hand() -> None:
    # statsmodels' multipletests(p, method="holm") gives the same.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9, 0.02]) == pytest.approx([1.0, 1.0, 0.06])


def test_a_comparison_without_a_test_is_no_member_of_the_family() -> None:
    assert holm([None, 0.01, None, 0.04]) == [None, 0.02, None, 0.04]
    assert holm([]) == [] and holm([None]) == [None]


def test_holm_keeps_the_order_and_makes_no_p_value_smaller() -> None:
    p_values = np.random.default_rng(0).uniform(size=50) ** 3
    adjusted = holm(p_values.tolist())
    in_order = [adjusted[index] for index in np.argsort(p_values)]
    assert in_order == sorted(adjusted, key=float)  # type: ignore[arg-type]
    assert all(after >= p for p, after in zip(p_values, adjusted, strict=True) if after is not None)
    assert max(filter(None, adjusted)) <= 1.0
