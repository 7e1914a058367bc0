"""Optimizers compared over experiments: mean ranks and performance profiles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from deltagclip_cli.results.statistics.across import LIMIT, Profile, performance_profile, ranks

NAN, INF = math.nan, math.inf

SCORES = {
    "digits": {"sgd": 0.90, "adam": 0.95, "ours": 0.96},
    "text": {"sgd": 2.0, "adam": 1.5, "ours": 1.5},
    "images": {"sgd": 0.7, "adam": 0.6, "ours": 0.8},
}
HIGHER = {"digits": True, "text": False, "images": True}


def test_ranks_are_means_over_experiments_in_each_its_own_direction() -> None:
    found = ranks(SCORES, HIGHER)
    assert found.mean_rank == pytest.approx(
        {"sgd": (3 + 3 + 2) / 3, "adam": (2 + 1.5 + 3) / 3, "ours": (1 + 1.5 + 1) / 3}
    )
    assert (found.experiments, found.left_out) == (3, ())
    assert list(found.mean_rank) == ["sgd", "adam", "ours"]


def test_friedman_s_p_is_scipy_s_on_scores_that_all_point_up() -> None:
    upwards = np.array([[0.90, 0.95, 0.96], [-2.0, -1.5, -1.5], [0.7, 0.6, 0.8]])
    assert ranks(SCORES, HIGHER).p == pytest.approx(stats.friedmanchisquare(*upwards.T).pvalue)


def test_friedman_s_p_is_that_worked_by_hand() -> None:
    # Rank sums 4, 8, 12 over 4 experiments: χ² = 12/(4·3·4)·(16 + 64 + 144) - 3·4·4 = 8, and with
    # two degrees of freedom p = exp(-χ²/2).
    scores = {str(number): {"a": 3.0, "b": 2.0, "c": 1.0} for number in range(4)}
    assert ranks(scores, dict.fromkeys(scores, True)).p == pytest.approx(math.exp(-4))


@pytest.mark.parametrize("diverged", [NAN, INF, -INF])
@pytest.mark.parametrize("higher", [True, False])
def test_diverged_optimizers_share_the_last_ranks(diverged: float, higher: bool) -> None:
    found = ranks({"one": {"a": diverged, "b": 1e9, "c": NAN, "d": -1e9}}, {"one": higher})
    first, second = ("b", "d") if higher else ("d", "b")
    assert found.mean_rank == {"a": 3.5, "c": 3.5, first: 1.0, second: 2.0}


def test_an_optimizer_that_an_experiment_lacks_is_left_out_and_named() -> None:
    scores = {**SCORES, "more": {"adam": 1.0, "ours": 2.0, "new": 3.0}}
    found = ranks(scores, {**HIGHER, "more": True})
    assert found.left_out == ("sgd", "new")
    assert found.mean_rank == {"adam": (2 + 1.5 + 2 + 2) / 4, "ours": (1 + 1.5 + 1 + 1) / 4}
    assert found.p is None


@pytest.mark.parametrize(
    "scores",
    [
        {},
        {"one": {}},
        {"one": {"a": 1.0}, "two": {"b": 1.0}},
        {"one": {"a": 1.0, "b": 2.0, "c": 3.0}},
        {"one": {"a": 1.0, "b": 2.0}, "two": {"a": 1.0, "b": 2.0}},
        {"one": dict.fromkeys("abc", 1.0), "two": dict.fromkeys("abc", NAN)},
    ],
)
def test_too_little_has_no_friedman_test(scores: dict[str, dict[str, float]]) -> None:
    assert ranks(scores, dict.fromkeys(scores, True)).p is None


def test_ranks_do_not_change_with_the_unit_of_an_experiment() -> None:
    scaled = {name: {k: 7 * v + 1 for k, v in row.items()} for name, row in SCORES.items()}
    assert ranks(scaled, HIGHER) == ranks(SCORES, HIGHER)


TIMES = {
    "digits": {"sgd": 10.0, "adam": 5.0, "ours": 5.0},
    "text": {"sgd": INF, "adam": 6.0, "ours": 4.0},
    "images": {"sgd": 3.0, "adam": 30.0, "ours": 4.5},
    "sound": {"sgd": NAN, "adam": INF, "ours": INF},
}


def test_a_profile_is_that_worked_by_hand() -> None:
    found = performance_profile(TIMES)
    assert found["ours"].ratios == {"digits": 1.0, "text": 1.0, "images": 1.5, "sound": INF}
    assert found["adam"].ratios == {"digits": 1.0, "text": 1.5, "images": 10.0, "sound": INF}
    assert found["sgd"].ratios == {"digits": 2.0, "text": INF, "images": 1.0, "sound": INF}
    # ρ of ours is 2/4 from 1 to 1.5 and 3/4 from there to 4.
    assert found["ours"].score == pytest.approx((0.5 * 0.5 + 2.5 * 0.75) / 3)
    assert found["adam"].score == pytest.approx((0.5 * 0.25 + 2.5 * 0.5) / 3)
    assert found["sgd"].score == pytest.approx((1.0 * 0.25 + 2.0 * 0.5) / 3)


def test_the_share_counts_experiments_within_a_factor_of_the_fastest() -> None:
    profile = performance_profile(TIMES)["adam"]
    taus = [0.9, 1.0, 1.49, 1.5, 9.9, 10.0, INF]
    assert [profile.share(tau) for tau in taus] == [0.0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]


def test_the_score_is_the_integral_of_the_share() -> None:
    rng = np.random.default_rng(5)
    times = {str(n): dict(zip("abc", rng.lognormal(size=3), strict=True)) for n in range(7)}
    taus = 1 + (np.arange(3000) + 0.5) / 3000 * (LIMIT - 1)
    for profile in performance_profile(times).values():
        assert profile.score == pytest.approx(np.mean([profile.share(t) for t in taus]), abs=1e-3)


def test_the_fastest_everywhere_scores_one_and_who_never_arrives_nothing() -> None:
    found = performance_profile({"x": {"a": 1.0, "b": INF}, "y": {"a": 2.0, "b": 9.0}})
    assert (found["a"].score, found["b"].score) == (1.0, 0.0)


def test_a_time_of_nothing_is_the_fastest() -> None:
    found = performance_profile({"x": {"a": 0.0, "b": 1.0, "c": 0.0}})
    assert [found[name].ratios["x"] for name in "abc"] == [1.0, INF, 1.0]


def test_what_was_not_run_everywhere_is_left_out_and_is_not_the_fastest() -> None:
    found = performance_profile({"x": {"a": 4.0, "b": 2.0, "c": 1.0}, "y": {"a": 1.0, "b": 1.0}})
    assert found == {
        "a": Profile({"x": 2.0, "y": 1.0}, pytest.approx((2 + 3) / 2 / 3)),
        "b": Profile({"x": 1.0, "y": 1.0}, 1.0),
    }
    assert performance_profile({}) == {}
