"""Runs as rows: what stands in them, and that they say what ``compare`` says."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from made_runs import group, run

from deltagclip_cli.core import claimed
from deltagclip_cli.results.compare.analysis import analyse
from deltagclip_cli.results.compare.formats import json_text
from deltagclip_cli.results.compare.request import Request
from deltagclip_cli.results.read.run import Reading
from deltagclip_cli.results.read.tree import Place
from deltagclip_cli.results.tidy import metric_rows, result_rows, state_of
from deltagclip_cli.runs.folder import RunFolder

STORED = Path(__file__).parents[1] / "stored"


@pytest.fixture(scope="module")
def ours() -> Reading:
    return Place((), STORED / "runs").read()


@pytest.fixture(scope="module")
def others() -> Reading:
    return Place((), STORED / "logs").read()


def test_a_result_has_the_identity_the_settings_and_the_last_metrics_of_its_run(
    ours: Reading,
) -> None:
    rows = result_rows(ours.runs)
    assert len(rows) == len(ours.runs) and len({tuple(each) for each in rows}) == 1
    row = next(each for each in rows if each["optimizer"] == "adam")
    folder = RunFolder(Path(str(row["folder"])))
    result, trial = folder.result(), folder.trial()
    assert result is not None
    assert (row["identity"], row["seed"]) == (trial.identity, trial.seed)
    assert (row["state"], row["epoch"], row["step"]) == ("finished", 4, result["steps"])
    assert row["seconds"] == pytest.approx(result["seconds"]["epochs"])
    assert (row["optimizer.lr"], row["setting.epochs"], row["model.hidden"]) == (0.01, 4, "[8]")
    assert row["circumstances.torch"] == "2.14.1"
    assert {name: row[name] for name in result["last"]} == result["last"]
    assert row["optim/step_size"] is None, "of another optimizer"


def test_values_of_results_are_those_of_compare_as_json(ours: Reading) -> None:
    found = json.loads(json_text(analyse(ours, Request(metric="test/loss"))))
    compared = {
        each["folder"]: each["value"]
        for experiment in found["experiments"]
        for setting in experiment["settings"]
        for each in setting["runs"]
        if each["value"] is not None
    }
    rows = {str(row["folder"]): row["test/loss"] for row in result_rows(ours.runs)}
    assert len(compared) > 20
    assert {folder: rows[folder] for folder in compared} == compared


def test_metrics_are_the_lines_of_metrics_jsonl_in_their_order(ours: Reading) -> None:
    rows = metric_rows(ours.runs)
    for each in ours.runs[:5]:
        records = list(RunFolder(each.folder).metrics())
        own = [row for row in rows if row["folder"] == str(each.folder)]
        assert [(r["epoch"], r["step"], r["time"]) for r in own] == [
            (r["epoch"], r["step"], r["time"]) for r in records
        ]
        assert [row["train/loss"] for row in own] == [r["train/loss"] for r in records]


def test_a_metric_that_was_not_finite_is_nan_and_one_that_is_not_there_is_none(
    ours: Reading,
) -> None:
    diverged = [each for each in ours.runs if each.outcome == "diverged"]
    last = metric_rows(diverged[:1])[-1]
    assert math.isnan(float(str(last["train/loss"])))
    assert [row["optim/step_size"] for row in metric_rows(ours.runs) if row["optimizer"] == "adam"][
        :2
    ] == [None, None]


def test_a_run_at_work_is_running_and_one_with_damaged_files_did_not_finish(
    tmp_path: Path, ours: Reading
) -> None:
    whole = next(each.folder for each in ours.runs if each.outcome == "finished")
    folder = RunFolder(tmp_path / "runs" / whole.relative_to(STORED / "runs"))
    shutil.copytree(whole, folder.path)
    lines = folder.metrics_file.read_bytes().splitlines(keepends=True)
    folder.metrics_file.write_bytes(b"".join(lines[:2]))
    assert [state_of(each) for each in Place((), tmp_path / "runs").read().runs] == ["unfinished"]
    folder.result_file.unlink()
    assert [state_of(each) for each in Place((), tmp_path / "runs").read().runs] == ["interrupted"]
    with claimed(folder.lock_file, ""):
        (at_work,) = result_rows(Place((), tmp_path / "runs").read().runs)
    assert (at_work["state"], at_work["epoch"]) == ("running", 2)


def test_other_peoples_runs_have_points_of_one_step_in_one_row(others: Reading) -> None:
    row = result_rows(others.runs)[0]
    assert (row["identity"], row["epoch"], row["begun_at"]) == (None, None, None)
    assert (row["experiment"], row["optimizer"], row["seed"]) == ("logs", "adam", 0)
    points = metric_rows(others.runs[:1])
    steps = [each["step"] for each in points]
    assert steps == sorted(set(map(int, steps)))  # type: ignore[arg-type]
    assert all(each["train/loss"] is not None for each in points)


def test_a_metric_with_the_name_of_a_column_does_not_take_its_place() -> None:
    made = run(group("adam", lr="0.1"), 0, [0.1, 0.2], epoch=[7.0, 8.0])
    row = result_rows([made])[0]
    assert (row["epoch"], row["metric/epoch"], row["setting.lr"]) == (2, 8.0, "0.1")
    assert [each["metric/epoch"] for each in metric_rows([made])] == [7.0, 8.0]
