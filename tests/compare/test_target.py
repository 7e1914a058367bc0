"""What it takes to reach a value."""

from __future__ import annotations

import math

import pytest
from made_runs import answered, group, run

from deltagclip_cli.core import UsageError
from deltagclip_cli.results.compare.question import NEVER, Cost, Mode, Target, cost, reached
from deltagclip_cli.results.read.run import Outcome

RUNS = [run("adam", 0, [0.1], test__loss=[1.0], sharpness=[1.0])]
HALF = Target.parse("test/accuracy=0.5", RUNS)


def test_the_first_record_that_is_as_good_counts() -> None:
    assert cost(run("adam", 0, [0.1, 0.5, 0.2]), HALF) == Cost(epochs=2, steps=20, seconds=4)
    low = Target.parse("test/loss=0.5", RUNS)
    assert cost(run("adam", 0, [], test__loss=[0.6, math.nan, 0.5]), low) == Cost(3, 30, 6)


def test_a_run_that_never_gets_there_costs_infinitely_much() -> None:
    assert cost(run("adam", 0, [0.1, math.nan, 0.4]), HALF) == NEVER
    assert cost(run("adam", 0, [0.1], Outcome.DIVERGED), HALF) == NEVER
    assert cost(run("adam", 0, [], Outcome.DIVERGED), HALF) == NEVER


def test_a_run_without_the_metric_says_nothing() -> None:
    assert cost(run("adam", 0, [], test__loss=[0.1]), HALF) is None


def test_two_targets_of_one_experiment_are_refused() -> None:
    with pytest.raises(UsageError, match="2 of them for all experiments"):
        answered(RUNS, target=["test/accuracy=0.1", "test/loss=0.2"])


def test_the_median_of_runs_of_which_most_get_there_is_finite() -> None:
    runs = [run("adam", seed, [0.0] * seed + [0.5]) for seed in range(3)]
    runs.append(run("adam", 9, [0.5], Outcome.DIVERGED))
    found = reached(runs, HALF)
    assert (found.count, found.n, found.median) == (4, 4, Cost(1.5, 15, 3))
    missed = [run("adam", seed, [0.1]) for seed in (4, 5, 6, 7, 8)]
    found = reached([*runs, *missed], HALF)
    assert (found.count, found.n, found.median) == (4, 9, NEVER)


def test_a_run_that_has_not_ended_says_nothing() -> None:
    """Else those that were quick would count and those that are slow would not."""
    runs = [run("adam", 0, [0.9], Outcome.UNFINISHED), run("adam", 1, [0.9], Outcome.FAILED)]
    assert reached(runs, HALF).n == 0
    assert reached(runs, HALF).median is None


def test_an_experiment_has_its_own_target_or_that_of_all() -> None:
    runs = [run(group("adam", experiment=name), 0, [0.5]) for name in ("one", "two")]
    targets = ["two:test/accuracy=0.6", "test/accuracy=0.4"]
    one, two = answered(runs, target=targets).comparisons
    assert (str(one.target), str(two.target)) == ("test/accuracy ≥ 0.4", "test/accuracy ≥ 0.6")
    assert [each.rows[0].reached.count for each in (one, two) if each.rows[0].reached] == [1, 0]


def test_a_target_for_an_experiment_that_is_not_there_is_told() -> None:
    found = answered([run("adam", 0, [0.5])], target=["ghost:test/accuracy=0.6"])
    assert found.problems == ["--target: there is no experiment ghost among tiny."]


@pytest.mark.parametrize("text", ["", "0.7", "test/accuracy", "=0.7", "test/loss=x", "loss=nan"])
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="say METRIC=VALUE"):
        Target.parse(text, RUNS)


def test_a_metric_whose_direction_nobody_knows_needs_to_be_told() -> None:
    with pytest.raises(UsageError, match="--mode max or --mode min"):
        Target.parse("sharpness=3", RUNS)
    assert not Target.parse("sharpness=3", RUNS, Mode.MIN).higher_is_better


def test_a_mode_does_not_turn_a_metric_whose_name_tells() -> None:
    assert not Target.parse("test/loss=3", RUNS, Mode.MAX).higher_is_better


def test_a_metric_that_no_run_has_cannot_be_a_target() -> None:
    with pytest.raises(UsageError, match="--target tset/loss=3: no run has that metric") as caught:
        Target.parse("tset/loss=3", RUNS)
    assert "did you mean 'test/loss'?" in str(caught.value)
