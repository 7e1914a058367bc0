"""By what settings and epochs are chosen, and the mark where that is the test set."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_runs import answered, group, run

from deltagclip_cli.core import MARK, UsageError, measured_on
from deltagclip_cli.report.appearance import Style
from deltagclip_cli.report.charts import figures
from deltagclip_cli.report.page import page, tables_across, tables_of
from deltagclip_cli.results.compare.analysis import Analysis
from deltagclip_cli.results.compare.choosing import check_choice
from deltagclip_cli.results.compare.comparison import Comparison, Standing
from deltagclip_cli.results.compare.export import csv_text, json_text, latex, markdown
from deltagclip_cli.results.compare.paper import content
from deltagclip_cli.results.compare.question import Moment
from deltagclip_cli.results.read.run import Run
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.tensorboard.contents import Contents

ROOT = Path(__file__).parents[2]

# The accuracy on the test set and on a validation split by lr and gamma: each has its own best one.
GRID = {(lr, gamma): (0.5, 0.4) for lr in "1234567" for gamma in "12"} | {
    ("1", "1"): (0.9, 0.5),
    ("1", "2"): (0.7, 0.8),
}


def tuned(twin: str | None, experiment: str = "tiny") -> list[Run]:
    """A grid of an optimizer, and a rival; validated under some name, or not at all."""
    settings = {group("gclip", experiment, lr=lr, gamma=g): v for (lr, g), v in GRID.items()}
    return [
        run(of, seed, [0.0, tested + seed / 100, 0.1], **_twin(twin, valid + seed / 100))
        for of, (tested, valid) in {**settings, group("adam", experiment): (0.75, 0.7)}.items()
        for seed in range(3)
    ]


def _twin(name: str | None, value: float) -> dict[str, Any]:
    return {name: [0.0, value / 2, value]} if name else {}


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


# Every way of choosing: the files that choose, or show what was chosen, and what they show of runs
# that have no validation split. One more is one more line here.

Shown = Callable[[], str]


def analysis(**request: Any) -> Analysis:
    runs = [each for name in ("tiny", "other") for each in tuned(None, name)]
    target = ["test/accuracy=0.4"]
    return answered(runs, heatmap="lr,gamma", baseline="gclip", target=target, **request)


def first(answer: Analysis) -> Comparison:
    return answer.comparisons[0]


def table(kind: str) -> Shown:
    def shown() -> str:
        answer = analysis()
        tables = [*tables_of(first(answer), answer), *tables_across(answer)]
        (found, *_) = [each for each in tables if each.kind == kind]
        assert {each.rsplit(",", 1)[1] for each in found.csv.splitlines()[1:]} == {"test"} or (
            kind == "values" and ",test," in found.csv
        )
        assert MARK in found.latex and MARK in found.markdown
        return found.markdown

    return shown


def epochs() -> str:
    return latex(analysis(at="best", select_on_test=True).tables()[:1])


def data() -> str:
    """JSON and CSV have the mark as a field."""
    answer = analysis()
    found = json.loads(json_text(answer))
    marked = [*found["experiments"], *found["heat_maps"], found["across"]]
    assert [each["chosen_on"] for each in marked] == ["test"] * len(marked)
    assert csv_text(answer).splitlines()[0].count("chosen_on") == 1
    return MARK


def drawn(kind: str) -> Shown:
    def shown() -> str:
        (figure, *_) = [e.figure for e in figures(analysis(), Style.read()) if e.kind == kind]
        return " ".join(text.get_text() for text in figure.findobj(_is_text))

    return shown


def _is_text(artist: Any) -> bool:
    return hasattr(artist, "get_text")


def in_words() -> str:
    answer = analysis()
    text = page("x", [], answer, [])
    assert text.count(MARK) > 5
    return text[text.index('<div class="answer">') :][:2000]


def tensorboard() -> str:
    files = Contents(0.0).of(tuned(None))
    layout = next(each.written for name, each in files.items() if name.startswith("!layout"))
    assert layout is not None
    return layout.decode(errors="replace")


def leaderboard() -> str:
    from deltagclip_cli.search.leaderboard import best_table, top_table

    search = SimpleNamespace(metric="test/loss")
    searched = SimpleNamespace(search=search, minimizes=True, label="adam")
    board: Any = SimpleNamespace(searched=searched, counts={}, ranking=[], settings=[])
    board.counts = dict.fromkeys(("finished", "pruned", "diverged", "failed", "not finished"), 0)
    assert MARK in str(top_table(board).caption)
    return str(best_table("tiny", [board]).caption)


def asked(what: str) -> Shown:
    """What would train or choose is refused without the option."""

    def shown() -> str:
        with pytest.raises(UsageError, match="--select-on-test") as refused:
            check_choice(what, "test/loss", select_on_test=False)
        check_choice(what, "test/loss", select_on_test=True)
        check_choice(what, "validation/loss", select_on_test=False)
        assert "validation/loss" in str(refused.value)
        return MARK

    return shown


def trained() -> str:
    from deltagclip_cli.terminal.console import _metrics_table

    best = {"test/loss": {"value": 0.1, "epoch": 1, "step": 2}}
    trial: Any = SimpleNamespace(experiment="tiny", label="adam", seed=0, clock="epoch")
    return str(_metrics_table(trial, {"best": best, "last": {"test/loss": 0.2}}).caption)


def by_validation() -> str:
    from deltagclip_cli.trying.protocol import CHOSEN_BY

    assert measured_on(CHOSEN_BY) == "validation"
    return MARK


WAYS: Mapping[str, Sequence[Shown]] = {
    "results/compare/question.py": [epochs],
    "results/compare/comparison.py": [table("values"), table("differences"), table("cost")],
    "results/compare/tables.py": [table("values")],
    "results/compare/sensitivity.py": [table("sensitivity"), table("heat-map")],
    "results/compare/analysis.py": [table("across")],
    "results/compare/export.py": [data],
    "report/appearance.py": [drawn("curves")],
    "report/charts/heat_maps.py": [drawn("heat-map-1")],
    "report/charts/performance.py": [drawn("profiles")],
    "report/charts/settings.py": [drawn("settings")],
    "report/prose.py": [in_words],
    "tensorboard/contents.py": [tensorboard],
    "search/leaderboard.py": [leaderboard],
    "search/session.py": [leaderboard],
    "search/study.py": [asked("--search")],
    "tuning/choice.py": [asked("tune")],
    "terminal/console.py": [trained],
    "training/worker.py": [trained],
    "trying/protocol.py": [by_validation],
}
CHOOSING = {"best", "best_of", "ranking", "merit", "worth", "should_prune", "is_chosen"}


def _chooses(tree: ast.AST) -> bool:
    return any(
        (isinstance(node, ast.Attribute) and node.attr in CHOOSING)
        or (isinstance(node, ast.FunctionDef) and node.name.strip("_") in CHOOSING)
        or (isinstance(node, ast.Subscript) and _text(node.slice) == "best")
        for node in ast.walk(tree)
    )


def _text(node: ast.AST) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def test_every_file_that_chooses_is_among_the_ways_of_choosing() -> None:
    package = ROOT / "deltagclip_cli"
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if _chooses(ast.parse(path.read_text()))
    }
    assert found <= WAYS.keys(), "add them to WAYS, with something that shows the mark"
    assert found > {"results/compare/comparison.py", "search/leaderboard.py"}


@pytest.mark.parametrize(
    ("file", "shown"),
    [
        pytest.param(file, each, id=f"{file}-{n}")
        for file, e in WAYS.items()
        for n, each in enumerate(e)
    ],
)
def test_what_the_test_set_has_chosen_carries_the_mark(file: str, shown: Shown) -> None:
    assert MARK in " ".join(shown().split())


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
