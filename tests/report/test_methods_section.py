"""The methods section of a report says what was planned, and what was not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from planned_cases import METRIC, answer_of, finish, finish_all, planned_tuning
from typer.testing import CliRunner

from deltagclip_cli.commands.app import app
from deltagclip_cli.core import MARK, RunFolderError
from deltagclip_cli.report.appearance import LineStyles, Style
from deltagclip_cli.report.charts import charts_of_methods
from deltagclip_cli.report.charts.lines import PageLines
from deltagclip_cli.report.methods_section import MethodsText, methods_of
from deltagclip_cli.report.page import page
from deltagclip_cli.report.prose import sentences
from deltagclip_cli.results.compare.analysis import Analysis, analyse
from deltagclip_cli.results.compare.effort import effort_table
from deltagclip_cli.results.compare.request import Request
from deltagclip_cli.results.compare.sensitivity import Margin, draws_tried, sensitivities
from deltagclip_cli.results.read.tree import Place
from deltagclip_cli.tuning.lock import lock_file, read_lock


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs of a plan, of which one failed, and one that is none of it."""
    runs = tmp_path_factory.mktemp("planned") / "runs"
    tuning = planned_tuning(runs)
    finish_all(runs, tuning, failed=1)
    (fixed,) = tuning.draws_of(0, "plain")
    finish(runs, tuning.trials(fixed, [77]))
    return runs


@pytest.fixture(scope="module")
def answer(planned: Path) -> Analysis:
    return answer_of(planned)


def told(parts: list[MethodsText]) -> str:
    return " ".join(paragraph for part in parts for paragraph in part.paragraphs)


def test_compare_shows_what_a_plan_chose_and_not_the_draws_that_it_passed_over(
    answer: Analysis,
) -> None:
    values, cost, *_ = answer.tables()
    assert len(answer.comparisons[0].rows) == 17
    assert [len(table.rows) for table in (values, cost)] == [3, 3]
    assert values.notes[-1].startswith("Not shown: 14 draws that no study chose")


def test_without_a_metric_compare_shows_the_one_of_the_plan(tmp_path: Path) -> None:
    finish_all(tmp_path, planned_tuning(tmp_path, metric="test/loss"))
    (found,) = analyse(Place((), tmp_path).read(), Request()).comparisons
    assert found.question.metric == "test/loss", "and not test/accuracy, which they have too"


def test_the_plan_is_told_with_its_hash_and_its_moment(planned: Path, answer: Analysis) -> None:
    lock = read_lock(planned, "tiny")
    assert lock is not None
    (parts,) = methods_of(answer).values()
    text = told(parts)
    assert "3 optimizers were to be compared on tiny: sgd, adam and plain" in text
    assert "mlp on synthetic for 2 epochs, with batches of 8 in fp32, no schedule." in text
    assert lock.hash in text and lock.made[:10] in text
    assert "draws 8 settings from its space by Sobol's sequence" in text
    assert "the seeds 0, 1" in text and "4 fresh seeds" in text
    assert "the plan says why: “plain has nothing to tune.”" in text
    assert "2 comparisons were planned: sgd with plain and adam with plain." in text


def test_what_was_added_and_what_failed_is_named(answer: Analysis) -> None:
    text = told(*methods_of(answer).values())
    assert "Of 34 planned trials of draws 33 finished and 1 failed; of 12 on fresh seeds 12" in text
    assert "Added later, and no part of the plan: plain (seed 77)" in text
    assert "Trials that failed: sgd lr=" in text


def test_spaces_and_choices_are_tables(answer: Analysis) -> None:
    (parts,) = methods_of(answer).values()
    spaces, chosen, *_ = (table for part in parts for table in part.tables)
    assert [[cell.text for cell in row] for row in spaces.rows] == [
        [
            "sgd",
            "8",
            "dampening=0 weight_decay=0 nesterov=True",
            "lr 0.001 to 1 (log); momentum 0 to 0.9",
        ],
        ["adam", "8", "betas=[0.9, 0.999] eps=1e-08 weight_decay=0", "lr 0.0001 to 0.1 (log)"],
        ["plain", "1", "lr=0.05 momentum=0 dampening=0 weight_decay=0", "as written"],
    ]
    assert [row[0].text for row in chosen.rows] == ["sgd", "adam", "plain"]
    assert {row[4].text for row in chosen.rows} == {"4 of 4"}
    assert chosen.chosen_on == "test" and any(MARK in each for each in chosen.notes)
    assert f"So settings were {MARK}" in told(parts)


def test_budgets_and_failures_stand_in_one_table(answer: Analysis) -> None:
    (comparison,) = answer.comparisons
    table = effort_table(comparison)
    assert table is not None
    by_name = {row[0].text: [cell.text for cell in row[1:7]] for row in table.rows}
    assert by_name["sgd"] == ["8", "8", "20", "19", "0", "1"]
    assert by_name["plain"] == ["1", "1", "7", "7", "0", "0"]
    assert "Unequal budgets, as planned: plain has nothing to tune." in table.notes
    assert "1 run added that the plan does not have." in table.notes


def test_a_plan_is_not_said_to_have_chosen_what_it_left_open(tmp_path: Path) -> None:
    tuning = planned_tuning(tmp_path)
    finish(tmp_path, [each for each in tuning.drawn_trials if each.label != "adam"])
    finish(tmp_path, [each for each in tuning.drawn_trials if each.label == "adam"][:3])
    (comparison,) = answer_of(tmp_path).comparisons
    account = comparison.account
    assert account is not None
    assert account.chooser("validation/loss", ["sgd"]) == METRIC
    assert account.chooser("validation/loss", ["adam"]) == "validation/loss"  # draws are open
    assert account.chooser("validation/loss", ["adam", "sgd"]) == METRIC  # of the test set


def test_unequal_budgets_stand_below_every_table(answer: Analysis) -> None:
    tables = list(answer.tables())
    assert len(tables) >= 5
    assert all("plain has nothing to tune" in " ".join(each.notes) for each in tables)


def test_nothing_counts_the_runs_that_chose_a_setting(planned: Path) -> None:
    (comparison,) = answer_of(planned, target=[f"{METRIC}=0.1"]).comparisons
    chosen = {row.group.optimizer: row for row in comparison.best.values()}
    reached = {label: row.reached.n for label, row in chosen.items() if row.reached}
    assert reached == {"sgd": 4, "adam": 4, "plain": 5}  # one was added
    (trouble,) = (each for each in sentences(comparison) if "no value to count" in each)
    assert trouble.startswith("1 run had"), "it failed, and the others have their values"


def test_the_share_of_a_space_is_of_its_draws_alone(answer: Analysis) -> None:
    (comparison,) = answer.comparisons
    drawn = draws_tried(comparison)
    assert drawn is not None and drawn.question.metric == "test/accuracy"
    assert {len(row.values) for row in drawn.rows} <= {1, 2}  # no fresh seed is among them
    assert {row.group.optimizer for row in drawn.rows} == {"sgd", "adam"}  # which have a space
    found = {each.optimizer: each for each in sensitivities(comparison, Margin.parse("1%"))}
    assert set(found) == {"sgd", "adam"}
    of_adam = found["adam"]
    assert of_adam.n == 8 and of_adam.share is not None
    assert of_adam.share.low < of_adam.count / 8 <= of_adam.share.high


def test_best_of_k_is_drawn_in_intervals_that_leave_the_panel_where_draws_are_too_few(
    answer: Analysis,
) -> None:
    styles = LineStyles.of(answer.comparisons)
    (chart,) = charts_of_methods(answer, styles).values()
    against_k, against_hours = chart.page(PageLines(400))
    bottom, top = against_k["layout"]["yaxis"]["range"]
    low, high, line = against_k["traces"][:3]
    assert [each["name"] for each in against_k["traces"] if "name" in each] == ["sgd", "adam"]
    assert line["x"] == list(range(1, 9)) and line["y"] == sorted(line["y"])
    assert high["y"][-1] == top  # eight draws do not bound the best of eight from above
    assert bottom < low["y"][-1] < line["y"][-1] < top
    assert against_hours["traces"][2]["x"] == pytest.approx([k * 2 / 3600 for k in line["x"]])
    assert against_hours["layout"]["xaxis"]["title"]["text"] == "hours"
    with Style.read().applied():
        figure = chart.paper()
    assert figure is not None
    _, sgd = figure.axes[0].get_lines()  # the first is drawn last
    assert list(map(float, sgd.get_ydata())) == pytest.approx(line["y"])  # type: ignore[arg-type]


def test_verdicts_are_words_on_settings_and_on_methods(answer: Analysis) -> None:
    text = told(*methods_of(answer).values())
    assert "The chosen settings of sgd and plain: not told apart (p = 0.2500, adjusted)." in text
    assert "sgd and plain: no verdict, for plain is fixed" in text


def test_the_page_has_the_section_and_its_tables(planned: Path, answer: Analysis) -> None:
    reading = Place((), planned).read()
    text = page("Tuned", reading.runs, answer, [])
    assert '<section id="methods"' in text
    assert "How settings were chosen" in text and "tiny: search spaces" in text


def test_without_a_plan_there_is_no_section(tmp_path: Path) -> None:
    tuning = planned_tuning(tmp_path)
    finish(tmp_path, tuning.drawn_trials[:2])
    lock_file(tmp_path, "tiny").unlink()
    answer = answer_of(tmp_path)
    assert methods_of(answer) == {}
    reading = Place((), tmp_path).read()
    assert 'id="methods"' not in page("Tuned", reading.runs, answer, [])


def test_nothing_is_compared_by_a_plan_that_was_changed(tmp_path: Path) -> None:
    tuning = planned_tuning(tmp_path)
    finish(tmp_path, tuning.drawn_trials[:6])
    file = lock_file(tmp_path, "tiny")
    content = json.loads(file.read_text())
    content["protocol"]["unequal"] = "no reason"
    file.write_text(json.dumps(content))
    with pytest.raises(RunFolderError, match="it was changed after it was written"):
        answer_of(tmp_path)
    done = CliRunner().invoke(app, ["compare", "--runs", str(tmp_path)])
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"{file}: not the plan of a protocol" in done.stderr


def test_a_plan_that_is_half_done_says_how_far_it_is(tmp_path: Path) -> None:
    tuning = planned_tuning(tmp_path, studies=2)
    finish(tmp_path, tuning.drawn_trials[:6])
    text = told(*methods_of(answer_of(tmp_path)).values())
    assert "2 studies were planned, each with draws and seeds of its own." in text
    assert "Of 68 planned trials of draws 6 finished; of 24 on fresh seeds none" in text
    assert "the choice may still change: sgd (study 1)" in text
