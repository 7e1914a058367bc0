"""Ranks and performance profiles over several experiments."""

from __future__ import annotations

import math

import pytest
from made_runs import answered, group, last_values, run

from deltagclip_cli.results.compare.analysis import Overall, overall_table
from deltagclip_cli.results.read.run import Run

LAST = {
    "one": {"adam": 0.9, "sgd": 0.8, "gclip": 0.7},
    "two": {"adam": 0.6, "sgd": 0.5, "gclip": 0.4},
    "three": {"adam": 0.1, "sgd": 0.3, "gclip": 0.2},
}


def runs() -> list[Run]:
    return [
        each
        for name, values in LAST.items()
        for label, value in values.items()
        for each in last_values(group(label, experiment=name), [value, value + 0.01])
    ]


def found(runs: list[Run], **request: object) -> Overall:
    across = answered(runs, **request).across
    assert across is not None
    return across


def test_mean_ranks_are_over_experiments() -> None:
    ranking = found(runs()).ranking
    assert ranking.mean_rank == pytest.approx({"adam": 5 / 3, "sgd": 5 / 3, "gclip": 8 / 3})
    assert (ranking.experiments, ranking.left_out) == (3, ())


def test_an_optimizer_counts_with_its_best_setting_and_that_is_said() -> None:
    better = last_values(group("gclip", experiment="one", lr="9"), [1.0, 1.0])
    across = found([*runs(), *better])
    assert across.ranking.mean_rank["gclip"] == pytest.approx((1 + 3 + 2) / 3)
    *_, said, chosen = overall_table(across).notes
    assert "Each optimizer counts with its best setting" in said and "on the test set" in chosen


def test_an_optimizer_that_is_not_in_all_experiments_is_left_out_and_named() -> None:
    across = found([*runs(), *last_values(group("muon", experiment="one"), [1.0, 1.0])])
    assert "muon" not in across.ranking.mean_rank
    assert "left out: muon." in " ".join(overall_table(across).notes)


def test_profiles_are_of_median_times_to_the_target() -> None:
    timed = [
        run(group(label, experiment=name), seed, [0.0] * epochs + [1.0])
        for name in ("one", "two")
        for label, epochs in (("fast", 1), ("slow", 2))
        for seed in (0, 1)
    ]
    timed.append(run(group("never", experiment="one"), 0, [0.0]))
    timed.append(run(group("never", experiment="two"), 0, [0.0]))
    across = found(timed, target=["test/accuracy=0.9"])
    for clock in ("epochs", "steps", "seconds"):
        profiles = across.profiles[clock]
        assert list(profiles["slow"].ratios.values()) == [1.5, 1.5]
        assert list(profiles["never"].ratios.values()) == [math.inf, math.inf]
        scores = {label: profile.score for label, profile in profiles.items()}
        assert scores == pytest.approx({"fast": 1.0, "slow": 2.5 / 3, "never": 0.0})
    texts = [[cell.text for cell in row] for row in overall_table(across).rows]
    assert texts[1][5:] == ["0%", "100%", "100%", "100%"]


def test_an_experiment_without_a_target_has_no_part_in_the_profiles() -> None:
    across = found(runs(), target=["one:test/accuracy=0.75"])
    assert across.timed == 1
    assert len(across.profiles["seconds"]["adam"].ratios) == 1


def test_one_experiment_alone_has_no_ranks() -> None:
    assert answered(last_values("adam", [1.0, 2.0])).across is None


def test_experiments_without_a_common_optimizer_have_none_either() -> None:
    alone = last_values(group("adam", experiment="one"), [0.1])
    alone += last_values(group("sgd", experiment="two"), [0.1])
    assert answered(alone).across is None
