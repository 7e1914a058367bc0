"""Trials that were trained in unlike circumstances are named beside what they came to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from made_runs import answered, last_values
from tiny_spec import trial_of

from deltagclip_cli.report.prose import sentences
from deltagclip_cli.results.compare.comparison import camps
from deltagclip_cli.results.compare.formats import json_text
from deltagclip_cli.results.read.run import Run
from deltagclip_cli.runs.environment import circumstances, circumstances_of_all


def runs_of(optimizer: str, *words: str, n: int = 5) -> list[Run]:
    """A run for each seed, with as many threads as the words say, and the last of them after."""
    threads = [*words, *words[-1:] * n][: max(n, len(words))]
    return [
        replace(run, circumstances={"threads": each, "torch": "2.15.0"} if each else {})
        for run, each in zip(
            last_values(optimizer, [0.5 + seed / 100 for seed in range(len(threads))]),
            threads,
            strict=True,
        )
    ]


def note(runs: list[Run]) -> str:
    """What is said of circumstances below the table; empty if nothing is."""
    found = answered(runs)
    (table, *_) = found.tables()
    said = [each for each in table.notes if "circumstances" in each]
    assert said == [each for each in sentences(found.comparisons[0]) if "circumstances" in each]
    return "".join(said)


def test_of_trials_that_are_alike_nothing_is_said() -> None:
    runs = [*runs_of("adam", "1"), *runs_of("sgd", "1")]
    assert note(runs) == ""
    assert json.loads(json_text(answered(runs)))["experiments"][0]["unlike_circumstances"] == []


def test_settings_and_seeds_are_named_where_they_differ() -> None:
    runs = [*runs_of("delta-gclip", "2", "2", "2", "1"), *runs_of("adam", "1")]
    assert note(runs) == (
        "Trained in unlike circumstances, which change the bits: delta-gclip (seeds 0-2) with"
        " threads 2; all else with threads 1."
    )
    runs = [*runs_of("delta-gclip", "1", "3", "1"), *runs_of("adam", "2", n=2)]
    assert note(runs) == (
        "Trained in unlike circumstances, which change the bits: adam with threads 2 and"
        " delta-gclip (seed 1) with threads 3; all else with threads 1."
    )


def test_programs_can_read_who_differs_in_what() -> None:
    runs = [*runs_of("delta-gclip", "2", "2", "2", "1"), *runs_of("adam", "1")]
    (found,) = json.loads(json_text(answered(runs)))["experiments"]
    assert found["unlike_circumstances"] == [
        {
            "circumstances": {"threads": "1"},
            "seeds": {"adam": [0, 1, 2, 3, 4], "delta-gclip": [3, 4]},
        },
        {"circumstances": {"threads": "2"}, "seeds": {"delta-gclip": [0, 1, 2]}},
    ]
    (setting,) = (each for each in found["settings"] if each["optimizer"] == "adam")
    assert setting["runs"][0]["circumstances"] == {"threads": "1", "torch": "2.15.0"}


def test_what_is_not_known_is_no_difference_by_itself() -> None:
    assert note([*runs_of("adam", "1"), *runs_of("sgd", "")]) == ""
    said = note([*runs_of("adam", "1"), *runs_of("sgd", "", n=3), *runs_of("gclip", "2", n=2)])
    assert "sgd with threads unknown and gclip with threads 2; all else with threads 1" in said


def test_other_data_and_other_code_are_named_like_other_threads() -> None:
    starts = [{"data": "40 + 8 + 8 samples, checksum 1234abcd", "code": "aaaa1111"}] * 5
    mixed = [*starts[:3], {**starts[0], "data": "40 + 8 + 8 samples, checksum 99990000"}]
    mixed.append({**starts[0], "code": "bbbb2222"})
    runs = [
        replace(run, circumstances=circumstances(start))
        for name, all_of in (("adam", mixed), ("sgd", starts))
        for run, start in zip(runs_of(name, "1"), all_of, strict=True)
    ]
    assert note(runs) == (
        "Trained in unlike circumstances, which change the bits: adam (seed 3) with code aaaa1111,"
        " data 40 + 8 + 8 samples, checksum 99990000 and adam (seed 4) with code bbbb2222, data"
        " 40 + 8 + 8 samples, checksum 1234abcd; all else with code aaaa1111, data 40 + 8 + 8"
        " samples, checksum 1234abcd."
    )


def test_of_operations_that_are_not_exact_most_runs_have_none() -> None:
    put = {"threads": "1", "torch": "2.15.0", "inexact operations": "put_"}
    own = [replace(run, circumstances=put) for run in runs_of("own", "1")]
    assert note([*runs_of("adam", "1"), *runs_of("sgd", "1"), *own]) == (
        "Trained in unlike circumstances, which change the bits: own with inexact operations put_;"
        " all else with inexact operations none."
    )
    assert note(own) == ""


def test_trials_of_several_devices_are_told_from_those_of_one() -> None:
    alone = {"threads": 1}
    together = {**alone, "ranks": {"count": 2, "parallel": "ddp"}}
    assert circumstances(alone).keys() == {"program", "threads"}
    went_on = [alone, together, together]
    assert circumstances_of_all(went_on)["devices"] == "1, then 2 (ddp)"
    run, *others = runs_of("adam", "1")
    mixed = replace(run, circumstances=circumstances(together))
    alike = [replace(each, circumstances=circumstances(alone)) for each in others]
    assert note([mixed, *alike]) == (
        "Trained in unlike circumstances, which change the bits: adam (seed 0) with devices 2"
        " (ddp); all else with devices 1."
    )


def test_of_fast_trials_a_table_says_so(tmp_path: Path) -> None:
    said = "Trained with determinism: fast, so that a trial may have other numbers the next time."
    exact = [replace(run, trial=trial_of(tmp_path)) for run in runs_of("sgd", "1")]
    fast = [replace(run, trial=trial_of(tmp_path, "determinism=fast")) for run in exact]
    for runs, is_said in ((exact, False), (fast, True)):
        found = answered(runs)
        (table, *_) = found.tables()
        assert (said in table.notes) is is_said
        assert (said in sentences(found.comparisons[0])) is is_said


def test_only_runs_that_count_are_spoken_of() -> None:
    once = runs_of("adam", "1")
    twice = [replace(run, circumstances={"threads": "2"}) for run in once]
    assert note([*once, *twice]) == ""


def test_of_a_thousand_runs_a_note_is_still_a_line_or_two() -> None:
    many = [
        run
        for number in range(100)
        for run in runs_of(f"optimizer-{number}", *map(str, range(number, number + 10)), n=10)
    ]
    (comparison,) = answered(many).comparisons
    assert sum(camp.runs for camp in camps(comparison)) == 1000
    assert 0 < len(note(many)) < 400
