"""By what settings and epochs are chosen, and the mark where that is the test set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_runs import answered, group, run, tuned

from deltagclip_cli.core import MARK, UsageError, measured_on
from deltagclip_cli.report.page import page
from deltagclip_cli.results.compare.comparison import Standing
from deltagclip_cli.results.compare.formats import json_text, markdown
from deltagclip_cli.results.compare.paper import content
from deltagclip_cli.results.compare.question import Moment
from deltagclip_cli.spec.load import load_spec

ROOT = Path(__file__).parents[2]

TWINS = ["validation__accuracy", "val__accuracy"]


@pytest.mark.parametrize("twin", TWINS)
def test_the_setting_that_validation_chooses_is_shown_with_its_test_value(twin: str) -> None:
    answer = answered(tuned(twin), baseline="gclip", at="epoch=2", within="1%")
    (found,) = answer.comparisons
    names = [row.group.name for row in found.rows]
    assert names[:3] == ["adam", "gclip lr=1 gamma=2", "gclip lr=1 gamma=1"]
    assert [row.standing for row in found.rows][2:] == [Standing.PASSED_OVER] * 13
    assert found.rows[0].standing is Standing.BEST, "its 0.75 is more than the 0.7 that was chosen"
    assert found.best["gclip"].mean == pytest.approx(0.71)
    assert found.baseline is found.best["gclip"] or found.baseline.group.name == names[1]  # type: ignore[union-attr]
    text = markdown(answer.tables())
    assert "was chosen by " + twin.replace("__", "/") in text
    assert MARK not in text + json_text(answer)
    (record,) = json.loads(json_text(answer))["experiments"]
    assert (record["chosen_by"], record["chosen_on"]) == (twin.replace("__", "/"), "validation")
    assert record["sensitivity"][0]["settings_within"] == 1
    assert record["sensitivity"][0]["best"] == "gclip lr=1 gamma=2"


def test_the_best_epoch_is_that_of_validation() -> None:
    of = run("adam", 0, [0.3, 0.9, 0.6, 0.2], validation__accuracy=[0.1, 0.2, 0.3, 0.0])
    moment = Moment("best")
    value = moment.value(of, "test/accuracy", higher_is_better=True, chooser="validation/accuracy")
    assert value == 0.6
    (found,) = answered([of], at="best").comparisons
    assert list(found.rows[0].values.values()) == [0.6]


def test_a_metric_of_another_split_chooses_by_itself() -> None:
    (found,) = answered(tuned("validation__accuracy"), metric="validation/accuracy").comparisons
    assert found.best["gclip"].group.name == "gclip lr=1 gamma=2"
    assert found.choice is not None and found.choice.notes == []


def test_a_run_without_validation_leaves_the_choice_to_the_test_set() -> None:
    lacking = run(group("gclip", lr="9", gamma="9"), 0, [0.0, 0.1])
    (found,) = answered([*tuned("validation__accuracy"), lacking], at="epoch=2").comparisons
    assert found.best["gclip"].group.name == "gclip lr=1 gamma=1"
    assert found.choice is not None and found.choice.on == "test"


def test_where_one_setting_each_is_compared_nothing_is_chosen() -> None:
    runs = [run(name, seed, [0.1, seed / 9]) for name in ("adam", "sgd") for seed in range(3)]
    answer = answered(runs, baseline="adam")
    assert answer.comparisons[0].choice is None
    assert MARK not in page("x", runs, answer, [])


@pytest.mark.parametrize("experiment", ["tiny", "of-others"])
def test_the_best_epoch_by_the_test_set_is_refused_unless_it_is_asked_for(experiment: str) -> None:
    runs = tuned(None, experiment)
    with pytest.raises(UsageError, match=r"^--at best: .*test/accuracy would(.|\n)*--select-on-te"):
        answered(runs, at="best")
    assert MARK in markdown(answered(runs, at="best", select_on_test=True).tables())


@pytest.mark.parametrize(
    ("metric", "part"),
    [
        ("test/accuracy", "test"),
        ("test_ema/loss", "test"),
        ("eval/reward", "test"),
        ("Recall/test", "test"),
        ("validation/my_test", "validation"),
        ("validation_ema/loss", "validation"),
        ("val/loss", "validation"),
        ("train/loss", "train"),
        ("perf/latest", "other"),
    ],
)
def test_the_name_of_a_metric_tells_what_it_is_measured_on(metric: str, part: str) -> None:
    assert measured_on(metric) == part


def test_all_experiments_of_the_paper_say_that_it_chose_on_the_test_set() -> None:
    chosen = content()["chosen_on_test"]
    shipped = load_spec(ROOT / "experiments.yaml", (), (), ("paper",)).experiments
    assert list(shipped) == chosen["experiments"]
    assert MARK in chosen["says"]
    (found,) = answered([run(group("adam", "kan-mnist"), 0, [0.1])]).comparisons
    assert found.choice is not None and found.choice.on == "test"
