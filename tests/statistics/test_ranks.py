"""Rank tests of a few values, of which some are equal, some diverged, and some rounded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from deltagclip_cli.results.statistics.difference import (
    LARGEST_EXACT,
    Difference,
    compare,
    rank_sum_p,
    signed_rank_p,
)

INF = math.inf


def pairs_p(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return signed_rank_p(np.array(ours, float), np.array(theirs, float))


def samples_p(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return rank_sum_p(np.array(ours, float), np.array(theirs, float))


def compared(ours: Sequence[float], theirs: Sequence[float], *, by_seed: bool) -> Difference:
    others = {seed if by_seed else -1 - seed: value for seed, value in enumerate(theirs)}
    return compare(dict(enumerate(ours)), others, higher_is_better=True)


# ---------------------------------------------------------------- exact, with ties


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_of_two_samples_of_equal_values_p_is_that_of_the_two_extreme_arrangements(n: int) -> None:
    assert samples_p([96 / 128] * n, [97 / 128] * n) == pytest.approx(2 / math.comb(2 * n, n))


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_of_pairs_with_one_difference_p_is_that_of_equal_signs(n: int) -> None:
    assert pairs_p([97 / 128] * n, [96 / 128] * n) == pytest.approx(2 / 2**n)


def drawn(rng: np.random.Generator, n: int, low: int = 0) -> np.ndarray:
    """Whole numbers of which many are equal, and sometimes one that has diverged."""
    values = rng.integers(low, 6, size=n).astype(float)
    values[: rng.integers(0, 3)] = -INF
    return values


@pytest.mark.parametrize("draw", range(8))
def test_p_of_pairs_with_ties_is_that_of_all_arrangements_of_signs(draw: int) -> None:
    rng = np.random.default_rng(draw)
    ours, theirs = drawn(rng, 7, low=1), drawn(rng, 7)
    with np.errstate(invalid="ignore"):
        differences = np.nan_to_num(ours - theirs, neginf=-99, posinf=99)
    differences = differences[differences != 0]
    signed = np.sign(differences) * stats.rankdata(np.abs(differences))
    everything = stats.permutation_test(
        (signed,), lambda x, axis: x.sum(axis), permutation_type="samples", n_resamples=INF
    )
    assert signed_rank_p(ours, theirs) == pytest.approx(everything.pvalue, rel=1e-12)


@pytest.mark.parametrize("draw", range(8))
def test_p_of_samples_with_ties_is_that_of_all_arrangements(draw: int) -> None:
    rng = np.random.default_rng(draw)
    ours, theirs = drawn(rng, 5, low=2), drawn(rng, 5)
    ranks = stats.rankdata([*ours, *theirs])
    everything = stats.permutation_test(
        (ranks[:5], ranks[5:]), lambda x, y, axis: x.sum(axis), n_resamples=INF
    )
    assert rank_sum_p(ours, theirs) == pytest.approx(everything.pvalue, rel=1e-12)


@pytest.mark.parametrize("by_seed", [True, False])
def test_diverged_seeds_are_equal_and_leave_no_p_below_the_least_there_is(by_seed: bool) -> None:
    found = compared([math.nan] * 3, [0.9, 0.8, 0.7], by_seed=by_seed)
    least = 0.25 if by_seed else 0.1
    assert found.p == found.rank_test_p == pytest.approx(least)
    assert found.caution.endswith(f"p cannot be below {least:.3g}")


@pytest.mark.parametrize("n", [LARGEST_EXACT // 2, LARGEST_EXACT // 2 + 1])
def test_where_not_all_arrangements_are_counted_p_is_almost_the_same(n: int) -> None:
    rng = np.random.default_rng(n)
    ours, theirs = rng.integers(0, 20, n).astype(float), rng.integers(2, 22, n).astype(float)
    asymptotic = stats.mannwhitneyu(ours, theirs, method="asymptotic").pvalue
    assert rank_sum_p(ours, theirs) == pytest.approx(asymptotic, rel=0.1)
    ours, theirs = np.concatenate([ours, theirs]), np.concatenate([theirs[:5], ours, theirs[5:]])
    asymptotic = stats.wilcoxon(ours, theirs, method="asymptotic").pvalue
    assert signed_rank_p(ours, theirs) == pytest.approx(asymptotic, rel=0.1)


# ---------------------------------------------------------------- ties and rounding


def exact_p(ours: Sequence[Fraction], theirs: Sequence[Fraction]) -> float:
    """Wilcoxon's p with ties as fractions have them."""
    differences = [a - b for a, b in zip(ours, theirs, strict=True) if a != b]
    places = {size: place for place, size in enumerate(sorted({abs(d) for d in differences}))}
    signed = [math.copysign(1 + places[abs(d)], d) for d in differences]
    return pairs_p(signed, [0.0] * len(signed))


@pytest.mark.parametrize("of", [1000, 3000, 10000])
@pytest.mark.parametrize("written", [np.float64, np.float32])
def test_ties_are_those_of_the_counts_behind_accuracies(of: int, written: type) -> None:
    rng = np.random.default_rng(of)
    for _ in range(40):
        counts = rng.integers(of // 2, of // 2 + 9, size=(2, 10))
        exact = exact_p(*([Fraction(int(each), of) for each in side] for side in counts))
        assert pairs_p(*(written(1) * side / written(of) for side in counts)) == exact


def test_numbers_that_only_rounding_tells_apart_are_equal() -> None:
    assert pairs_p([0.1 + 0.2, 0.5, 0.7], [0.3, 0.25, 0.5]) == pairs_p([0, 2, 1], [0, 0, 0]) == 0.5
    assert samples_p([0.1 + 0.2] * 3, [0.3] * 3) == 1.0


def test_a_difference_however_small_is_one_if_the_numbers_show_it() -> None:
    assert pairs_p([0.3 + 1e-12] * 4, [0.3] * 4) == 2 / 2**4
    assert pairs_p([1e7 + 1] * 4, [1e7] * 4) == 2 / 2**4  # whole, and single precision
    assert samples_p([1e-300] * 3, [2e-300] * 3) == pytest.approx(0.1)


# ---------------------------------------------------------------- unequal sizes and spreads


@pytest.mark.parametrize(("n", "m"), [(2, 7), (5, 20), (13, 30), (7, 60)])
def test_of_samples_of_other_sizes_the_larger_p_counts(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    ours, theirs = rng.normal(0.5, 2.0, size=n), rng.normal(0.0, 1.0, size=m)
    method = "exact" if n + m <= LARGEST_EXACT else "asymptotic"
    whitney = stats.mannwhitneyu(ours, theirs, method=method).pvalue
    munzel = stats.brunnermunzel(ours, theirs).pvalue
    assert rank_sum_p(ours, theirs) == pytest.approx(max(whitney, munzel))


def test_samples_that_do_not_overlap_have_mann_and_whitney_s_p() -> None:
    assert samples_p([1, 2, 3], [4, 5, 6, 7, 8]) == pytest.approx(2 / math.comb(8, 3))


def test_a_small_sample_of_a_large_spread_is_not_taken_for_another_place() -> None:
    rng = np.random.default_rng(0)
    samples = [(rng.normal(0, 4, size=5), rng.normal(0, 1, size=20)) for _ in range(400)]
    rejected = np.mean([rank_sum_p(*each) < 0.05 for each in samples])
    whitney = np.mean([stats.mannwhitneyu(*each).pvalue < 0.05 for each in samples])
    assert rejected < 0.1 < 0.13 < whitney
