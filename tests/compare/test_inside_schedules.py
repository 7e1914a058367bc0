"""What was read where a learning rate was still to change is marked wherever it is shown."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_runs import answered, group, run
from tiny_spec import trial_of

from deltagclip_cli.report.appearance import LineStyles, Style
from deltagclip_cli.report.charts import charts_of
from deltagclip_cli.report.charts.lines import PageLines
from deltagclip_cli.report.prose import sentences
from deltagclip_cli.results.compare.analysis import Analysis
from deltagclip_cli.results.compare.formats import csv_text, json_text
from deltagclip_cli.results.read.run import Outcome, Run

CLIMBS = [0.1, 0.4, 0.6, 0.7]
COSINE = [0.4, 0.3, 0.1, 0.0]
STEPPED = [0.4, 0.4, 0.1, 0.1]
FLAT = [0.4, 0.4, 0.4, 0.4]
MIDDLE, END = ["test/accuracy=0.5"], ["test/accuracy=0.65"]


def scheduled(rates: list[float], seed: int = 0, name: str = "a", of: str = "tiny") -> Run:
    return run(group(name, of), seed, CLIMBS, optim__lr=rates)


def inside(each: Run, target: list[str] = MIDDLE) -> int:
    (row,) = answered([each], target=target).comparisons[0].rows
    assert row.reached is not None and row.reached.count == 1
    return row.reached.inside_schedule


@pytest.mark.parametrize(
    ("rates", "target", "count"),
    [
        (COSINE, MIDDLE, 1),
        (COSINE, END, 0),  # that is where it ends
        (STEPPED, MIDDLE, 0),  # it has ended by then
        (STEPPED, ["test/accuracy=0.3"], 1),
        (FLAT, MIDDLE, 0),
        ([0.1 * (1 + 1e-9 * each) for each in range(4)], MIDDLE, 0),
    ],
)
def test_a_crossing_is_marked_if_the_rate_changes_after_it(
    rates: list[float], target: list[str], count: int
) -> None:
    assert inside(scheduled(rates), target) == count


def test_a_run_whose_rate_nobody_logged_is_not_marked() -> None:
    assert inside(run("a", 0, CLIMBS)) == 0


def test_a_rate_that_an_optimizer_changes_by_itself_is_no_schedule(tmp_path: Path) -> None:
    own = trial_of(tmp_path, "epochs=4")
    assert inside(replace(scheduled(COSINE), trial=own)) == 0
    cosine = trial_of(tmp_path, "epochs=4", "schedule={name: cosine}")
    assert inside(replace(scheduled(COSINE), trial=cosine)) == 1
    assert inside(replace(scheduled(COSINE), trial=cosine), END) == 0


def test_a_run_that_broke_off_was_inside_the_schedule_of_its_whole_length(tmp_path: Path) -> None:
    longer = trial_of(tmp_path, "epochs=9", "schedule={name: multistep, milestones: [8]}")
    lost = run("a", 0, CLIMBS, Outcome.DIVERGED, optim__lr=FLAT)
    assert inside(replace(lost, trial=longer), END) == 1
    whole = trial_of(tmp_path, "epochs=4", "schedule={name: multistep, milestones: [3]}")
    assert inside(replace(lost, trial=whole), END) == 0


def both(target: list[str] = MIDDLE, experiments: tuple[str, ...] = ("tiny",)) -> Analysis:
    runs = [
        each
        for of in experiments
        for seed in range(2)
        for each in (scheduled(COSINE, seed, "decays", of), scheduled(FLAT, seed, "flat", of))
    ]
    return answered(runs, target=target)


def test_tables_mark_the_costs_and_say_why() -> None:
    _, cost, *_ = both().tables()
    by_name = {row[0].text: [cell.text for cell in row[2:5]] for row in cost.rows}
    assert by_name == {"decays": ["3†", "30†", "6†"], "flat": ["3", "30", "6"]}
    (why,) = [each for each in cost.notes if each.startswith("†")]
    assert "rankings flip as rates decay; train for that length" in why
    assert not any("†" in each for each in both(END).tables()[1].notes)


def test_programs_read_how_many_crossings_are_marked() -> None:
    (found,) = json.loads(json_text(both()))["experiments"]
    marked = {each["optimizer"]: each["reached"]["inside_schedule"] for each in found["settings"]}
    assert marked == {"decays": 2, "flat": 0}
    rows = csv.DictReader(io.StringIO(csv_text(both())))
    assert {row["optimizer"]: row["reached_inside_schedule"] for row in rows} == {
        "decays": "2",
        "flat": "0",
    }


def test_a_value_at_a_given_epoch_inside_a_schedule_is_told() -> None:
    def note(at: str) -> str:
        table = answered([scheduled(COSINE), scheduled(FLAT, name="b")], at=at).tables()[0]
        return "".join(each for each in table.notes if "inside a longer schedule" in each)

    assert note("epoch=2").startswith("1 value read inside a longer schedule")
    assert note("step=25").startswith("1 value read")
    assert note("last") == note("epoch=4") == ""


def test_charts_and_sentences_tell_marked_crossings_from_others() -> None:
    answer = both()
    (comparison,) = answer.comparisons
    assert "decays reached test/accuracy ≥ 0.5 inside a longer learning-rate schedule" in " ".join(
        sentences(comparison)
    )
    charts = charts_of(comparison, LineStyles.of([comparison]))
    (targets,) = [each for each in charts if each.kind == "time-to-target"]
    (chart,) = targets.page(PageLines(400))
    symbols = {trace["name"]: trace["marker"]["symbol"] for trace in chart["traces"]}
    assert symbols["decays (a seed, inside a longer schedule)"] == "x-thin-open"
    assert "decays (a seed)" not in symbols
    assert symbols["flat (a seed)"] == "circle-open"
    with Style.read().applied():
        figure = targets.paper()
    assert figure is not None
    markers = {line.get_marker() for line in figure.axes[0].get_lines()}
    assert {"x", "o"} <= markers
    assert "inside a longer schedule" in [t.get_text() for t in figure.legends[0].get_texts()]


def test_profiles_say_how_many_times_are_marked() -> None:
    answer = both(experiments=("one", "two"))
    (table,) = [each for each in answer.tables() if "together" in each.title]
    assert "score (steps)†" in table.headings
    assert any(each.startswith("† 2 times to a target read inside") for each in table.notes)
    assert json.loads(json_text(answer))["across"]["inside_schedule"] == 2
