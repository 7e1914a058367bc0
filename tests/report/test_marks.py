"""Whatever the test set has chosen says so, wherever it is shown."""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_runs import answered, run, tuned
from planned_cases import answer_of, finish_all, planned_tuning
from run_cases import result_text

from deltagclip_cli.core import MARK, UsageError, measured_on
from deltagclip_cli.report.appearance import COLOURS, LineStyle, Style
from deltagclip_cli.report.charts import Drawing, figures
from deltagclip_cli.report.charts.lines import PageLines
from deltagclip_cli.report.charts.speed_ups import SpeedUps
from deltagclip_cli.report.checklist import checklist_of
from deltagclip_cli.report.methods_section import methods_of
from deltagclip_cli.report.page import page, tables_across, tables_of
from deltagclip_cli.results.compare.analysis import Analysis
from deltagclip_cli.results.compare.choosing import Selection, check_choice, check_ends
from deltagclip_cli.results.compare.comparison import Comparison, Standing
from deltagclip_cli.results.compare.formats import csv_text, json_text, latex
from deltagclip_cli.results.compare.method_tables import verdict_record
from deltagclip_cli.results.compare.scales import AtScale, Scaling, SpeedUp, scaling_table
from deltagclip_cli.results.compare.tables import value_table
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.spec.trial import make_trial
from deltagclip_cli.tensorboard.contents import Contents

PACKAGE = Path(__file__).parents[2] / "deltagclip_cli"
EXPERIMENT = {
    "model": {"name": "mlp", "hidden": [8]},
    "data": {"name": "synthetic", "batch_size": 8, "size": 4, "train": 32, "test": 16},
    "epochs": 2,
    "optimizers": {"adam": {"name": "adam"}},
}

# Every way of choosing: the files that choose, or show what was chosen, and what they show of runs
# that have no validation split. One more is one more line here.

Shown = Callable[[Path], str]


@cache
def analysis(**request: Any) -> Analysis:
    runs = [each for name in ("tiny", "other") for each in tuned(None, name)]
    target = ["test/accuracy=0.4"]
    return answered(runs, heatmap="lr,gamma", baseline="gclip", target=target, **request)


@cache
def drawings() -> list[Drawing]:
    return list(figures(analysis(), Style.read()))


def first(answer: Analysis) -> Comparison:
    return answer.comparisons[0]


def table(kind: str) -> Shown:
    def shown(_: Path) -> str:
        answer = analysis()
        tables = [*tables_of(first(answer), answer), *tables_across(answer)]
        (found, *_) = [each for each in tables if each.kind == kind]
        assert {each.rsplit(",", 1)[1] for each in found.csv.splitlines()[1:]} == {"test"} or (
            kind == "values" and ",test," in found.csv
        )
        assert MARK in found.latex and MARK in found.markdown
        return found.markdown

    return shown


def epochs(_: Path) -> str:
    return latex(analysis(at="best", select_on_test=True).tables()[:1])


def data(_: Path) -> str:
    """JSON and CSV have the mark as a field."""
    answer = analysis()
    found = json.loads(json_text(answer))
    marked = [*found["experiments"], *found["heat_maps"], found["across"]]
    assert [each["chosen_on"] for each in marked] == ["test"] * len(marked)
    assert csv_text(answer).splitlines()[0].count("chosen_on") == 1
    return MARK


def drawn(kind: str) -> Shown:
    def shown(_: Path) -> str:
        figure = next(each.figure for each in drawings() if each.kind == kind)
        return " ".join(text.get_text() for text in figure.findobj(_is_text))

    return shown


def _is_text(artist: Any) -> bool:
    return hasattr(artist, "get_text")


def in_words(_: Path) -> str:
    answer = analysis()
    text = page("x", [], answer, [])
    assert text.count(MARK) > 5
    return text[text.index('<div class="answer">') :][:2000]


def tensorboard(_: Path) -> str:
    files = Contents(0.0).of(tuned(None))
    layout = next(each.written for name, each in files.items() if name.startswith("!layout"))
    assert layout is not None
    return layout.decode(errors="replace")


def leaderboard(_: Path) -> str:
    from deltagclip_cli.search.session import best_table, top_table

    search = SimpleNamespace(metric="test/loss")
    searched = SimpleNamespace(search=search, minimizes=True, label="adam")
    board: Any = SimpleNamespace(searched=searched, counts=Counter(), ranking=[], settings=[])
    assert MARK in str(top_table(board).caption)
    return str(best_table("tiny", [board]).caption)


def tuning_view(runs: Path) -> str:
    """What ``tune`` prints of a protocol that chooses on the test set."""
    from deltagclip_cli.search.tuning_view import as_data, choice_table, fresh_table, plan_table

    plan = planned_tuning(runs)
    assert as_data(plan, None, [])["chosen_on"] == "test"
    tables = [plan_table(plan), choice_table(plan, 0, []), fresh_table(plan, 0, [])]
    assert all(MARK in str(each.caption) for each in tables)
    return MARK


def planned(runs: Path) -> str:
    """The methods section and the verdicts of such a protocol."""
    plan = planned_tuning(runs, draws=4)
    finish_all(runs, plan)
    answer = answer_of(runs)
    (section,) = methods_of(answer).values()
    tables = [each for part in section for each in part.tables if "spaces" not in each.title]
    assert [each.chosen_on for each in tables] == ["test"] * 4
    assert all(MARK in " ".join(each.notes) for each in tables)
    assert verdict_record(answer.verdicts[0])["chosen_on"] == "test"
    assert MARK in " ".join(value_table(first(answer), first(answer).rows).notes)
    return " ".join(text for part in section for text in part.paragraphs)


def asked(what: str) -> Shown:
    """What would train or choose is refused without the option."""

    def shown(_: Path) -> str:
        with pytest.raises(UsageError, match="--select-on-test") as refused:
            check_choice(what, "test/loss", select_on_test=False)
        check_choice(what, "test/loss", select_on_test=True)
        check_choice(what, "validation/loss", select_on_test=False)
        assert "validation/loss" in str(refused.value)
        return MARK

    return shown


def trained(_: Path) -> str:
    from deltagclip_cli.terminal.console import _facts

    best = {"test/loss": {"value": 0.1, "epoch": 1, "step": 2}}
    result = {"epochs": 2, "steps": 4, "seconds": {"epochs": 1.0}, "regimes": None}
    assert MARK not in " ".join(_facts({**result, "best": {}, "diverged": None}))
    return " ".join(_facts({**result, "best": best, "diverged": None}))


def ended(_: Path) -> str:
    """A comparison whose trainings the test set has ended, which is refused unless asked for."""
    written = {"early_stopping": {"metric": "test/loss", "patience": 3}}
    experiment = Experiment.model_validate({**EXPERIMENT, **written})
    with pytest.raises(UsageError, match=r"^tiny: early_stopping: test/loss would choose"):
        check_ends({"tiny": experiment}, select_on_test=False)
    assert check_ends({"tiny": experiment}, select_on_test=True)
    trial = make_trial("tiny", experiment, next(iter(experiment.optimizers)), 0)
    runs = [run(name, seed, [0.1, seed / 9]) for name in ("adam", "sgd") for seed in range(3)]
    (found,) = answered([replace(each, trial=trial) for each in runs]).comparisons
    assert found.choice is not None
    assert (found.choice.by, found.choice.on) == ("test/loss", "test")
    return " ".join(found.choice.notes)


EARLY = {"metric": "test/loss", "evaluations": 2, "best": {"value": 0.1, "epoch": 1, "step": 2}}
RESULT: Mapping[str, Any] = {
    "seconds": {"epochs": 1.0},
    "steps": 4,
    "epochs": 2,
    "regimes": None,
    "diverged": None,
    "best": {},
    "ended_early": EARLY,
}


def summary_of_one_that_ended_early(_: Path) -> str:
    from deltagclip_cli.terminal.console import _facts

    validated = {**EARLY, "metric": "validation/loss"}
    assert MARK not in " ".join(_facts({**RESULT, "ended_early": validated}))
    return " ".join(_facts(RESULT))


def reason_of_its_end(folder: Path) -> str:
    (folder / "result.json").write_text(result_text(ended_early=EARLY))
    return RunFolder(folder).reason


def status_of_its_end(_: Path) -> str:
    from deltagclip_cli.terminal.status_view import _ended_early

    planned: Any = SimpleNamespace(name="tiny", result=RESULT)
    return " ".join(map(str, _ended_early([planned])))


def checklist(_: Path) -> str:
    found = checklist_of("neurips", [], analysis(), {})
    told = [line for item in found.items for each in item.evidence for line in each.lines]
    assert sum(MARK in line for line in told) > 1, "what was chosen, and how"
    return " ".join(told)


def scaling(_: Path) -> str:
    speed = SpeedUp(1.2, None)
    at = [AtScale("sgd", size, f"{size:g}", "2 and 2", speed, speed, False) for size in (1.0, 2.0)]
    choices = [Selection("test/loss", "test/loss"), None]
    found = Scaling("tiny", "model.width", "test/loss ≤ 1", "adam", at, choices)
    chart = SpeedUps(found, {"sgd": LineStyle("sgd", COLOURS[0], "solid")})
    assert all(MARK in each["title"] for each in chart.page(PageLines(400)))
    figure = chart.paper()
    assert figure is not None and MARK in " ".join(t.get_text() for t in figure.findobj(_is_text))
    return " ".join(scaling_table(found).notes)


def by_validation(_: Path) -> str:
    from deltagclip_cli.trying.protocol import CHOSEN_BY

    assert measured_on(CHOSEN_BY) == "validation"
    return MARK


WAYS: Mapping[str, Sequence[Shown]] = {
    "results/compare/question.py": [epochs],
    "results/compare/comparison.py": [table("values"), table("differences"), table("cost")],
    "results/compare/tables.py": [table("values")],
    "results/compare/sensitivity.py": [table("sensitivity"), table("heat-map")],
    "results/compare/analysis.py": [table("across")],
    "results/compare/formats.py": [data],
    "results/compare/account.py": [planned],
    "results/compare/scales.py": [scaling],
    "results/compare/methods.py": [planned],
    "results/compare/method_tables.py": [planned],
    "report/appearance.py": [drawn("curves")],
    "report/charts/heat_maps.py": [drawn("heat-map-1")],
    "report/charts/performance.py": [drawn("profiles")],
    "report/charts/settings.py": [drawn("settings")],
    "report/charts/speed_ups.py": [scaling],
    "report/evidence.py": [checklist],
    "report/methods_section.py": [planned],
    "report/prose.py": [in_words],
    "tensorboard/contents.py": [tensorboard],
    "search/drawn_search.py": [leaderboard],
    "search/session.py": [leaderboard],
    "search/tpe_search.py": [leaderboard],
    "search/tpe_study.py": [asked("--search")],
    "search/tuning_view.py": [tuning_view],
    "tuning/halving.py": [asked("--search")],
    "tuning/stages.py": [asked("tune")],
    "terminal/console.py": [trained, summary_of_one_that_ended_early],
    "training/ended.py": [trained],
    "trying/protocol.py": [by_validation],
    "training/patience.py": [ended],
    "runs/folder.py": [reason_of_its_end],
    "terminal/status_view.py": [status_of_its_end],
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
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if _chooses(ast.parse(path.read_text()))
    }
    others = {"results/compare/effort.py"}  # counts what was tried of each
    assert found - others <= WAYS.keys(), "add them to WAYS, with something that shows the mark"
    assert found > {"results/compare/comparison.py", "search/session.py"}


@pytest.mark.parametrize("shown", list(dict.fromkeys(w for ways in WAYS.values() for w in ways)))
def test_what_the_test_set_has_chosen_carries_the_mark(shown: Shown, tmp_path: Path) -> None:
    assert MARK in " ".join(shown(tmp_path).split())


def test_of_a_plan_what_its_studies_chose_is_compared(tmp_path: Path) -> None:
    plan = planned_tuning(tmp_path, draws=4)
    finish_all(tmp_path, plan)
    found = first(answer_of(tmp_path))
    assert found.account is not None
    names = {group.name for group in found.account.chosen}
    assert {row.group.name for row in found.rows[:3]} == names
    assert {row.standing for row in found.rows[3:]} == {Standing.PASSED_OVER}
