"""Which settings are worse than the best, where the same values say which is best."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from scipy import stats

from benchmarks import best_setting
from deltagclip_cli.results.statistics.difference import (
    Difference,
    adjusted_to_best,
    compare,
    range_p,
)

NAN = math.nan

Setting = Mapping[int, float]


def _tests(best: Setting, others: Sequence[Setting]) -> list[Difference]:
    return [compare(own, best, higher_is_better=True) for own in others]


def adjusted(best: Setting, *others: Setting) -> list[float | None]:
    return adjusted_to_best(best, others, _tests(best, others), higher_is_better=True)


def setting(values: Sequence[float], first_seed: int = 0) -> Setting:
    return dict(enumerate(values, first_seed))


def drawn(*means: float, n: int = 6, apart: bool = True) -> list[Setting]:
    """A setting for each mean, with seeds of its own or with those of all others."""
    rng = np.random.default_rng(n)
    common = 0.0 if apart else 5 * rng.normal(size=n)
    return [
        setting((mean + common + rng.normal(size=n)).tolist(), place * n if apart else 0)
        for place, mean in enumerate(means)
    ]


# ---------------------------------------------------------------- the studentized range


@pytest.mark.parametrize("count", [2, 3, 7, 40])
@pytest.mark.parametrize("degrees", [1, 2, 3.7, 8, 60, math.inf])
@pytest.mark.parametrize("p", [0.9, 0.04, 0.001])
def test_the_range_of_means_is_scipy_s(count: int, degrees: float, p: float) -> None:
    distance = math.sqrt(2) * stats.t.isf(p / 2, degrees)
    expected = stats.studentized_range.sf(distance, count, degrees)
    assert range_p(p, count, degrees) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("p", [0.0, 1e-300, 1e-20, 1.0])
def test_no_p_value_becomes_smaller_or_larger_than_one(p: float) -> None:
    assert p <= range_p(p, 7, 4.0) <= 1.0


# ---------------------------------------------------------------- several settings


def test_of_two_settings_the_p_value_is_that_of_their_test() -> None:
    for apart in (True, False):
        best, other = drawn(1.0, 0.0, apart=apart)
        (found,) = adjusted(best, other)
        assert found == pytest.approx(compare(other, best, higher_is_better=True).t_test_p)


@pytest.mark.skipif(
    "equal_var" not in inspect.signature(stats.tukey_hsd).parameters, reason="an older scipy"
)
def test_of_samples_it_is_the_test_of_games_and_howell_and_one_mean_fewer_for_the_next() -> None:
    best, near, far = drawn(3.0, 2.0, 0.0)
    samples = [list(each.values()) for each in (best, near, far)]
    games_howell = stats.tukey_hsd(*samples, equal_var=False).pvalue
    found = adjusted(best, near, far)
    assert found[1] == pytest.approx(games_howell[0, 2], rel=1e-4)
    assert found[0] == pytest.approx(max(found[1] or 0, _welch(best, near)), rel=1e-4)
    assert found[0] < games_howell[0, 1]


def _welch(ours: Setting, theirs: Setting) -> float:
    found = stats.ttest_ind(list(ours.values()), list(theirs.values()), equal_var=False)
    return float(found.pvalue)


def test_more_settings_make_each_harder_to_tell_from_the_best() -> None:
    best, other, *more = drawn(2.0, 0.0, 1.9, 1.8, 1.7, 1.6)
    few, many = adjusted(best, other), adjusted(best, other, *more)
    assert few[0] is not None and many[0] is not None and few[0] < many[0]


def test_a_few_pairs_that_are_alike_by_chance_are_not_told_apart_by_that() -> None:
    best, *others = drawn(0.3, 0.0, 0.1, 0.2, 0.1, n=3, apart=False)
    lucky = setting([value - 0.1 - seed * 1e-4 for seed, value in best.items()])
    assert compare(lucky, best, higher_is_better=True).t_test_p < 1e-5
    alone, beside = adjusted(best, lucky), adjusted(best, lucky, *others)
    assert alone[0] is not None and alone[0] < 1e-5
    assert beside[0] is not None and beside[0] > 0.05


def test_pairs_that_agree_in_several_settings_are_told_apart_beside_others_that_do_not() -> None:
    best, *others = drawn(0.3, 0.0, 0.1, n=5, apart=False)
    wobble = [0.01, -0.02, 0.015, 0.0, -0.01]
    shifts = (0.1, 0.2, 0.3)
    close = [
        setting([best[seed] - shift + shift * wobble[seed] for seed in best]) for shift in shifts
    ]
    found = adjusted(best, *close, *others)
    assert all(p is not None and p < 0.01 for p in found[:3])


@pytest.mark.parametrize("apart", [True, False])
def test_what_diverged_altogether_or_has_one_seed_has_no_part_in_it(apart: bool) -> None:
    best, other, *_ = drawn(2.0, 0.0, apart=apart)
    lost = setting([NAN] * 6)
    found = adjusted(best, lost, other, {0: 1.0})
    assert found == [None, *adjusted(best, other), None]


def test_what_is_better_but_for_a_seed_that_diverged_is_not_worse() -> None:
    best = setting([0.5 + seed / 1000 for seed in range(12)])
    better = {seed: value + 0.3 for seed, value in best.items()} | {5: NAN}
    assert compare(better, best, higher_is_better=True).rank_test_p < 0.05
    assert adjusted(best, better) == [1.0]
    mirrored = [{seed: -value for seed, value in each.items()} for each in (best, better)]
    test = compare(mirrored[1], mirrored[0], higher_is_better=False)
    assert adjusted_to_best(mirrored[0], [mirrored[1]], [test], higher_is_better=False) == [1.0]


@pytest.mark.parametrize("power", [-20, 20])
def test_another_unit_changes_no_p_value(power: int) -> None:
    here = drawn(2.0, 0.0, 1.0, 1.5, apart=False)
    there = [{seed: math.ldexp(value, power) for seed, value in each.items()} for each in here]
    assert adjusted(*there) == adjusted(*here)


# ---------------------------------------------------------------- how often it errs


@pytest.mark.parametrize("paired", [True, False])
def test_of_seven_equal_settings_one_is_rarely_called_worse(paired: bool) -> None:
    tables = best_setting.draw(200, [0.0] * 7, seeds=20, paired=paired)
    found = best_setting.judge(tables, paired=paired)
    assert found.ours.any(axis=1).mean() <= 0.05 < 0.08 < found.holm.any(axis=1).mean()


@pytest.mark.slow
@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("n", [3, 7, 20])
def test_seven_settings_err_in_5_percent_and_find_what_they_did(n: int, paired: bool) -> None:
    before, now = best_setting.shares(400, 7, n, paired=paired)
    assert now.wrong <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 400)
    assert now.one_worse >= before.one_worse - 0.1
    assert now.one_better >= before.one_better - 0.1
