"""Which setting is the best, what is like it, and what is tested against the baseline."""

from __future__ import annotations

import math

import pytest
from made_runs import answered, group, last_values, run

from deltagclip_cli.core import Mode, UsageError
from deltagclip_cli.results.compare.comparison import Standing
from deltagclip_cli.results.read.run import Outcome, Run

GOOD, SAME, BAD = [0.90, 0.91, 0.92, 0.93], [0.93, 0.90, 0.92, 0.90], [0.60, 0.61, 0.62, 0.64]
SPREAD = {"good": GOOD, "same": SAME, "bad": BAD}


def three() -> list[Run]:
    return [each for name, values in SPREAD.items() for each in last_values(name, values)]


def test_the_best_comes_first_and_what_cannot_be_told_from_it_is_marked() -> None:
    (found,) = answered(three()).comparisons
    standings = {row.group.name: row.standing for row in found.rows}
    assert list(standings)[2] == "bad"
    assert standings == {
        "good": Standing.BEST,
        "same": Standing.LIKE_BEST,
        "bad": Standing.WORSE,
    }


def test_of_losses_the_lowest_is_the_best() -> None:
    runs = [
        run(name, seed, [], test__loss=[value])
        for name, values in SPREAD.items()
        for seed, value in enumerate(values)
    ]
    (found,) = answered(runs, metric="test/loss").comparisons
    assert found.rows[0].group.name == "bad"
    (found,) = answered(runs, metric="test/loss", mode=Mode.MAX).comparisons
    assert found.rows[-1].group.name == "bad"


def test_one_seed_is_too_few_to_tell() -> None:
    runs = [*last_values("one", [0.9]), *last_values("two", [0.1])]
    (found,) = answered(runs).comparisons
    assert [row.standing for row in found.rows] == [Standing.BEST, Standing.UNTOLD]


def test_a_setting_with_a_diverged_run_comes_after_one_without() -> None:
    runs = [*last_values("bad", BAD), *last_values("fast", GOOD)]
    runs.append(run("fast", 9, [0.99], Outcome.DIVERGED))
    runs += [run("worse", seed, [], Outcome.DIVERGED) for seed in range(3)]
    (found,) = answered(runs).comparisons
    assert [row.group.name for row in found.rows] == ["bad", "fast", "worse"]
    assert [row.summary.diverged for row in found.rows if row.summary] == [0, 1, 3]
    assert [row.standing for row in found.rows] == [
        Standing.BEST,
        Standing.LIKE_BEST,
        Standing.WORSE,
    ]


def test_runs_without_a_value_are_counted() -> None:
    runs = last_values("adam", GOOD)
    runs += [run("adam", 7, [0.1], Outcome.FAILED), run("adam", 8, [0.1], Outcome.UNFINISHED)]
    runs += [run("new", 0, [], Outcome.UNFINISHED)]
    (found,) = answered(runs).comparisons
    assert [dict(row.left_out) for row in found.rows] == [
        {"failed": 1, "unfinished": 1},
        {"unfinished": 1},
    ]
    assert [row.standing for row in found.rows] == [Standing.BEST, None]


def test_a_seed_that_is_there_twice_counts_once_and_is_told() -> None:
    runs = last_values("adam", GOOD)
    again = run("adam", 2, [0.1])
    found = answered([*runs, again])
    (row,) = found.comparisons[0].rows
    assert row.values == dict(enumerate(GOOD))
    assert dict(row.left_out) == {"there twice": 1}
    assert found.problems == [
        f"{again.folder}: seed 2 of adam is there twice; {runs[2].folder} is the one that counts."
    ]


def test_percent_beside_fractions_is_told() -> None:
    runs = last_values("adam", GOOD)
    assert not answered(runs).problems
    (said,) = answered([*runs, *last_values("sgd", [91.5, 92.5])]).problems
    assert "some values are above 1 and others are not, as if some were in percent" in said


def test_the_baseline_is_not_tested_against_itself() -> None:
    (found,) = answered(three(), baseline="same").comparisons
    assert found.baseline is not None
    tested = {row.group.name: row.versus for row in found.rows}
    assert tested["same"] is None
    assert tested["bad"] is not None
    assert tested["bad"].difference.difference == pytest.approx(-0.295)


def test_equal_means_are_both_the_best() -> None:
    (found,) = answered(
        [*last_values("one", [0.5, 0.7]), *last_values("two", [0.7, 0.5])]
    ).comparisons
    assert [row.standing for row in found.rows] == [Standing.BEST, Standing.BEST]


def test_where_every_run_diverged_nothing_is_the_best() -> None:
    runs = [run(name, seed, [], Outcome.DIVERGED) for name in ("one", "two") for seed in range(3)]
    runs += [run("three", 0, [0.5], Outcome.UNFINISHED)]
    (found,) = answered(runs).comparisons
    assert [row.standing for row in found.rows] == [Standing.WORSE, Standing.WORSE, None]


def test_holm_s_method_adjusts_for_all_settings_that_are_tested() -> None:
    (found,) = answered(three(), baseline="good").comparisons
    rows = {row.group.name: row.versus for row in found.rows if row.versus}
    assert rows["bad"].t_test_p == pytest.approx(2 * (rows["bad"].difference.t_test_p or math.nan))
    assert rows["same"].t_test_p == rows["same"].difference.t_test_p
    assert rows["bad"].rank_test_p == pytest.approx(0.25)
    assert rows["same"].rank_test_p == rows["same"].difference.rank_test_p


def grid() -> list[Run]:
    """Two optimizers with long names, one of them with three settings."""
    runs = last_values("vit.sgd.0.1", BAD)
    for lr, shift in (("0.1", -0.1), ("0.2", 0.0), ("0.3", -0.2)):
        setting = group("vit.adam", lr=lr)
        runs += last_values(setting, [value + shift for value in GOOD])
    return runs


@pytest.mark.parametrize("name", ["vit.adam", "ADAM", "adam", "vit.adam lr=0.2"])
def test_of_an_optimizer_with_several_settings_the_best_is_the_baseline(name: str) -> None:
    (found,) = answered(grid(), baseline=name).comparisons
    assert found.baseline is not None
    assert found.baseline.group.settings == {"lr": "0.2"}


@pytest.mark.parametrize("name", ["vit", "ada", "adamw", ""])
def test_a_baseline_that_no_optimizer_or_more_than_one_is_called_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="not the name of one optimizer") as caught:
        answered(grid(), baseline=name)
    assert "optimizers: " in str(caught.value)


def test_only_runs_of_the_same_conditions_are_compared() -> None:
    short, long = {"epochs": "2"}, {"epochs": "9"}
    runs = last_values(group("adam", conditions=short), BAD)
    runs += last_values(group("adam", conditions=long), GOOD)
    runs += last_values(group("sgd", conditions=long), SAME)
    found = answered(runs, baseline="sgd")
    assert [each.title for each in found.comparisons] == ["tiny · epochs=2", "tiny · epochs=9"]
    assert [len(each.rows) for each in found.comparisons] == [1, 2]
    assert found.problems == ["tiny · epochs=2: no runs of --baseline sgd, so nothing was tested."]


def test_each_experiment_is_judged_by_the_first_usual_metric_that_it_has() -> None:
    runs = [run(group("adam", experiment="one"), 0, [0.5], test__loss=[1.0])]
    runs += [run(group("adam", experiment="two"), 0, [], test__loss=[1.0])]
    runs += [run(group("adam", experiment="three"), 0, [], Outcome.UNFINISHED)]
    found = answered(runs, metric=None)
    assert [each.question.metric for each in found.comparisons] == [
        "test/accuracy",
        "test/loss",
        "test/accuracy",
    ]


def test_a_metric_that_no_run_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        answered([run("adam", 0, [0.5], train__loss=[1.0])], metric="train/lose")
    assert str(caught.value) == (
        "--metric train/lose: no run has that metric.\n  metrics: test/accuracy, train/loss"
        " - did you mean 'train/loss'?"
    )


def test_other_people_s_words_for_a_metric_are_understood() -> None:
    (found,) = answered([run("adam", 0, [0.5])], metric="test_acc").comparisons
    assert found.question.metric == "test/accuracy"


def test_ties_of_few_seeds_make_no_difference_and_keep_the_caution() -> None:
    apart = [run("sgd", 10 + seed, [96 / 128]) for seed in range(3)]
    found = answered([*last_values("adam", [97 / 128] * 3), *apart], baseline="adam")
    adam, sgd = found.comparisons[0].rows
    assert (adam.standing, sgd.standing) == (Standing.BEST, Standing.LIKE_BEST)
    assert sgd.versus is not None and sgd.versus.rank_test_p == pytest.approx(0.1)
    notes = " ".join(note for table in found.tables() for note in table.notes)
    assert "With 3 and 3 seeds Mann-Whitney's p cannot be below 0.1." in notes


def test_where_sizes_differ_the_table_says_which_rank_test_counts() -> None:
    others = [run("sgd", 10 + seed, [0.5 + seed / 10]) for seed in range(3)]
    table = answered([*last_values("adam", GOOD), *others], baseline="adam").tables()[-1]
    assert any("Brunner and Munzel" in note for note in table.notes)
    table = answered(three()[:8], baseline="same").tables()[-1]
    assert table.notes and not any("Brunner" in note for note in table.notes)
