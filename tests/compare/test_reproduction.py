"""What the paper published beside what was run of it."""

from __future__ import annotations

import math

import pytest
from made_runs import group, last_values, run

from deltagclip_cli.results.compare.published import (
    Figure,
    as_data,
    overview,
    reproduction_tables,
    values,
)
from deltagclip_cli.results.read.run import Outcome, Run

FIGURE = Figure("vit-tiny-cifar10", "ViT-Tiny", 40)
ADAM = {"name": "adam", "lr": 5e-4, "weight_decay": 1e-5}


def ours(accuracies: list[float], epochs: int = 100) -> list[Run]:
    """Runs of the published Adam that come to these accuracies."""
    adam = group("a", experiment="vit-tiny-cifar10", options=ADAM)
    return [run(adam, seed, [0.0] * (epochs - 1) + [v]) for seed, v in enumerate(accuracies)]


def texts(runs: list[Run], metric: str = "test/accuracy") -> list[list[str]]:
    (table,) = reproduction_tables([FIGURE], runs)
    rows = [[cell.text for cell in row] for row in table.rows]
    return [row for row in rows if row[1] == metric]


def test_what_was_not_run_is_said_to_be_so_with_the_command_that_runs_it() -> None:
    (table,) = reproduction_tables([FIGURE], [])
    assert {row[4].text for row in table.rows} == {"not run"}
    assert "What was not run: deltagclip sweep vit-tiny-cifar10" in table.notes
    assert overview([FIGURE], []).rows[0][1].text == "not run"


def test_every_published_value_is_there() -> None:
    assert len(values("vit-tiny-cifar10", [])) == 3 * 4
    assert len(values("bert-emotion", [])) == 2
    assert values("quickstart", []) == []


def test_a_difference_is_in_standard_errors_of_both() -> None:
    adam, *others = texts(ours([0.71, 0.72, 0.73]))
    error = 0.01 / math.sqrt(3)
    distance = (0.72 - 0.7060) / math.hypot(error, 0.0019)
    assert adam[2:] == ["0.7060 ± 0.0019", "10", "0.7200 ± 0.0058", "3", f"{distance:+.1f} s.e."]
    assert [row[4] for row in others] == ["not run"] * 2


def test_a_single_seed_has_a_value_and_no_difference() -> None:
    adam, *_ = texts(ours([0.71]))
    assert adam[4:] == ["0.71", "1", "–"]


def test_ours_are_read_at_the_epoch_of_theirs() -> None:
    longer = [run(each.group, each.seed, [*[0.5] * 99, 0.7, 0.9]) for each in ours([0.7, 0.7])]
    (value,) = (v for v in values("vit-tiny-cifar10", longer) if v.row)
    assert value.row is not None and value.row.summary is not None
    assert (value.row.summary.mean, value.epoch) == (pytest.approx(0.7), 100)


def test_shorter_runs_are_shown_and_said_to_be_shorter() -> None:
    (table,) = reproduction_tables([FIGURE], ours([0.5, 0.6], epochs=3))
    assert "Theirs is after epoch 100, ours after epoch 3." in table.notes


def test_of_several_conditions_the_longest_runs_count() -> None:
    long = group("a", "vit-tiny-cifar10", {"epochs": "9"}, ADAM)
    short = group("a", "vit-tiny-cifar10", {"epochs": "2"}, ADAM)
    runs = [run(long, 0, [0.1] * 8 + [0.6]), *last_values(short, [0.2])]
    (value,) = (v for v in values("vit-tiny-cifar10", runs) if v.row)
    assert (value.row.summary.mean if value.row and value.row.summary else None, value.epoch) == (
        0.6,
        9,
    )


def test_the_caveats_stand_below() -> None:
    (table,) = reproduction_tables([FIGURE], [])
    assert any("158/157" in note for note in table.notes)


def test_runs_that_have_ended_are_counted_diverged_ones_too() -> None:
    lost = run(group("b", "vit-tiny-cifar10"), 0, [0.1], Outcome.DIVERGED)
    late = run(group("c", "vit-tiny-cifar10"), 0, [0.1], Outcome.UNFINISHED)
    runs = [*ours([0.5, 0.6]), lost, late]
    assert overview([FIGURE], runs).rows[0][1].text == "3 of 40"


def test_programs_get_everything_in_full_precision() -> None:
    (told,) = as_data([FIGURE], ours([0.71, 0.72, 0.73]))
    assert (told["planned"], told["finished"]) == (40, 3)
    (value,) = (v for v in told["values"] if v["ours"])
    assert value["ours"]["mean"] == pytest.approx(0.72)
    assert value["published"] == {"mean": 0.706, "standard_error": 0.0019, "n": 10, "epoch": 100}
    assert value["difference_in_standard_errors"] == pytest.approx(2.3, abs=0.1)
