"""How much settings matter: shares of good ones, and heat maps."""

from __future__ import annotations

import numpy as np
import pytest
from made_runs import answered, group, last_values, run

from deltagclip_cli.core import UsageError
from deltagclip_cli.results.compare.sensitivity import (
    Margin,
    sensitivities,
    sensitivity_tables,
    share_within,
)
from deltagclip_cli.results.compare.tables import Table
from deltagclip_cli.results.read.run import Outcome, Run
from deltagclip_cli.results.statistics.summary import Interval

GRID = {("0.1", "1"): 0.50, ("0.1", "2"): 0.90, ("10", "1"): 0.895, ("10", "2"): 0.88}


def grid() -> list[Run]:
    runs = [
        each
        for (lr, gamma), value in GRID.items()
        for each in last_values(group("gclip", lr=lr, gamma=gamma), [value - 0.01, value + 0.01])
    ]
    return runs + last_values("adam", [0.7, 0.8])


def heat_map(runs: list[Run], keys: tuple[str, str]) -> Table:
    return next(s for s in answered(runs, heatmap=",".join(keys)).tables() if "down" in s.title)


@pytest.mark.parametrize(
    ("within", "count"), [("0", 1), ("0.006", 2), ("1%", 2), ("3%", 3), ("0.5", 4), (" 50 % ", 4)]
)
def test_the_settings_that_are_near_the_best_are_counted(within: str, count: int) -> None:
    (found,) = answered(grid()).comparisons
    (of_gclip,) = sensitivities(found, Margin.parse(within))
    assert (of_gclip.optimizer, of_gclip.count, of_gclip.n) == ("gclip", count, 4)
    assert of_gclip.best is not None and of_gclip.best.group.settings["gamma"] == "2"
    assert of_gclip.worst is not None and of_gclip.worst.summary is not None
    assert of_gclip.worst.summary.mean == pytest.approx(0.5)


def test_a_setting_of_which_a_seed_diverged_is_no_good_one() -> None:
    diverged = run(group("gclip", lr="10", gamma="2"), 9, [0.99], Outcome.DIVERGED)
    (found,) = answered([*grid(), diverged]).comparisons
    (of_gclip,) = sensitivities(found, Margin(1.0, relative=False))
    assert (of_gclip.count, of_gclip.n, of_gclip.diverged) == (3, 4, 1)


def test_the_learning_rates_of_the_good_settings_are_told() -> None:
    (found,) = answered(grid()).comparisons
    (of_gclip,) = sensitivities(found, Margin.parse("1%"))
    assert of_gclip.rates == Interval(0.1, 10)
    assert of_gclip.share is None  # a grid is all that there is: no part of a space
    (table,) = sensitivity_tables([found], Margin.parse("1%"))
    assert table.headings[:3] == ["optimizer", "within", "their lr"]
    assert [cell.text for cell in table.rows[0]][2] == "0.1 to 10"


@pytest.mark.parametrize("n", [8, 30])
@pytest.mark.parametrize("shares", [[0.02], [0.2], [0.7], [1.0], [0.00315, 0.0315, 0.085]])
def test_the_share_of_a_space_is_in_its_interval_in_95_of_100_cases(
    shares: list[float], n: int
) -> None:
    """Where parts of the space are as good as one another, each better than all that is larger.

    Below the smallest of these shares, and above the largest, each place is better than the next.
    """
    values = np.random.default_rng(n).uniform(size=(20_000, n))  # the best are near 0
    best = values.min(axis=1)
    whole = np.array([*sorted(shares), np.inf])
    true = whole[np.searchsorted(whole, best)]
    true = np.where(np.isinf(true), best, true)
    counts = (values <= true[:, None]).sum(axis=1)
    found = [share_within(count, n) for count in range(1, n + 1)]
    low, high = (np.array([getattr(each, end) for each in found]) for end in ("low", "high"))
    assert (low[counts - 1] <= true).mean() >= 0.973
    assert (true <= high[counts - 1]).mean() >= 0.973


@pytest.mark.parametrize("text", ["", "x", "-1", "1%%", "%", "nan"])
def test_what_is_no_margin_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--within"):
        Margin.parse(text)


def test_a_heat_map_has_a_cell_for_each_pair_of_settings_in_their_order() -> None:
    runs = grid() + last_values(group("gclip", lr="2", gamma="1"), [0.1, 0.3])
    found = heat_map(runs, ("lr", "gamma"))
    assert list(found.headings) == [r"lr \ gamma", "1", "2"]
    assert [[cell.text for cell in row] for row in found.rows] == [
        ["0.1", "0.5", "0.9"],
        ["2", "0.2", "–"],
        ["10", "0.895", "0.88"],
    ]
    assert [[cell.shade for cell in row] for row in found.rows] == [
        [None, 0.25, 1.0],
        [None, 0.0, None],
        [None, 0.75, 0.5],
    ]


def test_equal_means_have_the_same_shade_and_are_best_together() -> None:
    equal = last_values(group("gclip", lr="10", gamma="3"), [0.9, 0.9])
    runs = [*last_values(group("gclip", lr="1", gamma="3"), [0.9, 0.9]), *equal]
    found = heat_map(
        [*runs, *last_values(group("gclip", lr="1", gamma="1"), [0.1])], ("lr", "gamma")
    )
    assert [[cell.shade for cell in row[1:]] for row in found.rows] == [
        [0.0, 1.0],
        [None, 1.0],
    ]
    assert [row[2].is_best for row in found.rows] == [True, True]


def test_a_diverged_setting_has_a_cross_in_the_heat_map() -> None:
    diverged = run(group("gclip", lr="10", gamma="2"), 9, [0.99], Outcome.DIVERGED)
    assert heat_map([*grid(), diverged], ("gamma", "lr")).rows[1][2].text == "×"


def test_of_several_settings_in_a_cell_the_best_is_shown() -> None:
    runs = []
    for delta, shift in (("0", 0.0), ("1", 0.05)):
        for (lr, gamma), value in GRID.items():
            setting = group("gclip", lr=lr, gamma=gamma, delta=delta)
            runs += last_values(setting, [value + shift, value + shift])
    found = heat_map(runs, ("lr", "gamma"))
    assert [cell.text for cell in found.rows[0]] == ["0.1", "0.55", "0.95"]
    assert "Each cell is the best over the other settings, which flatters." in found.notes


def test_conditions_of_the_experiment_can_be_an_axis() -> None:
    runs = []
    for size in ("8", "16"):
        for lr in ("1", "2"):
            setting = group("gclip", conditions={"data.batch_size": size}, lr=lr)
            runs += last_values(setting, [0.1, 0.2])
    found = heat_map(runs, ("data.batch_size", "lr"))
    assert [row[0].text for row in found.rows] == ["8", "16"]


def test_settings_that_are_the_same_everywhere_make_no_map() -> None:
    with pytest.raises(UsageError) as caught:
        answered(grid(), heatmap="lr,delta").tables()
    assert str(caught.value) == (
        "--heatmap lr,delta: no optimizer has several values of both.\n"
        "  settings that differ: lr, gamma"
    )
