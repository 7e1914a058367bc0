"""What was tried of each optimizer stands beside what became of it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

from made_runs import answered, group, last_values, run

from deltagclip_cli.results.compare.effort import effort_table
from deltagclip_cli.results.compare.formats import json_text
from deltagclip_cli.results.compare.tables import Table
from deltagclip_cli.results.read.run import Outcome, Run


def tried() -> list[Run]:
    """Five settings of one, of which a run diverged and one failed; a single one of another."""
    rates = [
        each for n in range(4) for each in last_values(group("sgd", lr=f"{10.0**-n:g}"), [0.5, 0.6])
    ]
    lost = run(group("sgd", lr="10"), 0, [0.1], Outcome.DIVERGED)
    failed = run(group("sgd", lr="10"), 1, [], Outcome.FAILED)
    going = run("adam", 9, [0.2], Outcome.UNFINISHED)
    return [*rates, lost, failed, *last_values("adam", [0.9, 0.8]), going]


def table_of(runs: list[Run]) -> Table | None:
    (comparison,) = answered(runs).comparisons
    return effort_table(comparison)


def test_outcomes_are_counted_beside_settings_and_space() -> None:
    table = table_of(tried())
    assert table is not None
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["adam", "1", "3", "2", "0", "0", "1", "10 s", "–"],
        ["sgd", "5", "10", "8", "1", "1", "0", "34 s", "lr 0.001 to 10 (5 values)"],
    ]


def test_whose_metric_is_no_number_has_diverged_here_as_in_every_other_table() -> None:
    lost = run("sgd", 0, [0.5, math.nan])
    (comparison,) = answered([*last_values("adam", [0.9, 0.8]), lost]).comparisons
    row = next(each for each in comparison.rows if each.group.optimizer == "sgd")
    assert row.summary is not None and row.summary.diverged == row.lost == 1
    table = effort_table(comparison)
    assert table is not None
    assert [cell.text for cell in table.rows[-1]][:6] == ["sgd", "1", "1", "0", "1", "0"]


def test_who_tried_more_is_named() -> None:
    table = table_of(tried())
    assert table is not None
    assert table.notes[-1] == (
        "Unequal: 5 settings of sgd tried, 1 of adam. Who tries more finds better ones."
    )


def test_where_each_has_one_setting_and_all_finished_there_is_nothing_to_say() -> None:
    plain = [*last_values("adam", [0.9, 0.8]), *last_values("sgd", [0.5, 0.6])]
    assert table_of(plain) is None
    assert table_of([*plain, run("sgd", 7, [0.1], Outcome.DIVERGED)]) is not None


def test_the_devices_are_named() -> None:
    runs = [replace(each, circumstances={"device": "NVIDIA H200"}) for each in tried()]
    table = table_of(runs)
    assert table is not None and "Time of their epochs on NVIDIA H200" in table.notes[0]


def test_programs_read_the_same() -> None:
    (experiment,) = json.loads(json_text(answered(tried())))["experiments"]
    assert experiment["effort"][1] == {
        "optimizer": "sgd",
        "budget": None,
        "settings": 5,
        "runs": 10,
        "finished": 8,
        "diverged": 1,
        "failed": 1,
        "unfinished": 0,
        "seconds": 34.0,
        "devices": [],
        "space": "lr 0.001 to 10 (5 values)",
    }
