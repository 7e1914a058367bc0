"""Of many trials a few are tried, among which nothing is missing that a part may refuse."""

from __future__ import annotations

from pathlib import Path

from tiny_spec import trials_of, write_spec

from deltagclip_cli.launch.rehearsal import few
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import expand


def test_seeds_make_no_difference(tmp_path: Path) -> None:
    assert len(few(trials_of(tmp_path, "seeds=[0, 1, 2]"))) == 2


def test_of_real_numbers_each_value_is_there_but_not_each_combination(tmp_path: Path) -> None:
    grid = "grid.delta-gclip={lr: [1, 2, 3], gamma: [4, 5, 6], delta: [0.1, 0.2, 0.3]}"
    chosen = [t.optimizer.options for t in few(trials_of(tmp_path, grid)) if t.label != "sgd"]
    assert {each["lr"] for each in chosen} == {1, 2, 3}
    assert {each["gamma"] for each in chosen} == {4, 5, 6}
    assert len(chosen) < 10


def test_nothing_is_missing_of_trials_that_nobody_keeps(tmp_path: Path) -> None:
    values = {"range": [0.1, 0.9], "count": 15}
    grid = f"grid.delta-gclip={{lr: {values}, gamma: {values}, delta: {values}}}"
    spec = load_spec(write_spec(tmp_path), ["tiny"], [grid])
    chosen = few(expand("tiny", spec.experiments["tiny"], labels=["delta-gclip"]))
    for name in ("lr", "gamma", "delta"):
        assert len({trial.optimizer.options[name] for trial in chosen}) == 15


def test_switches_whole_numbers_and_signs_are_there_in_each_combination(tmp_path: Path) -> None:
    grid = "grid.sgd={momentum: [0, 0.5, 0.9], nesterov: [false, true]}"
    chosen = [t.optimizer.options for t in few(trials_of(tmp_path, grid)) if t.label == "sgd"]
    kinds = {(each["momentum"] > 0, each.get("nesterov", False)) for each in chosen}
    assert len(kinds) == 4


def test_of_thousands_of_numbers_some_are_there_with_the_least_and_the_largest(
    tmp_path: Path,
) -> None:
    grid = "grid.lr={log_range: [1e-4, 1], count: 2000}"
    chosen = [t.optimizer.options["lr"] for t in few(trials_of(tmp_path, grid))]
    assert len(chosen) == 40
    assert (min(chosen), max(chosen)) == (1e-4, 1)
