"""Runs and their comparison from Python: the same as the commands say, and nothing loaded early."""

from __future__ import annotations

import csv
import dataclasses
import inspect
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import deltagclip_cli
from deltagclip_cli import Runs, compare
from deltagclip_cli.commands.app import app
from deltagclip_cli.core import UsageError
from deltagclip_cli.results.compare.request import Request

STORED = Path(__file__).parents[1] / "stored"
RUNS = STORED / "runs"


@pytest.fixture(scope="module")
def runs() -> Runs:
    return Runs(RUNS)


def printed(*words: str) -> str:
    done = CliRunner().invoke(app, ["compare", *words, "--runs", str(RUNS)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_package_alone_loads_no_library_and_starts_no_process() -> None:
    code = """
import sys
events = []
sys.addaudithook(lambda event, _: events.append(event))
import deltagclip_cli
heavy = {"torch", "numpy", "pandas", "pydantic", "yaml", "typer", "rich", "matplotlib", "typing"}
print(sorted(heavy & set(sys.modules) - {"typing"}))
print([e for e in events if e.startswith(("socket", "subprocess", "os.exec", "os.posix_spawn"))])
from deltagclip_cli import Runs, compare
print(sorted({"torch", "pandas", "matplotlib"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[]", "[]", "[]"], done.stdout + done.stderr


def test_what_is_not_there_is_an_attribute_error_and_what_is_there_is_listed() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Rums'"):
        deltagclip_cli.Rums  # noqa: B018
    assert {"Runs", "compare", "train"} <= set(dir(deltagclip_cli))


def test_runs_say_how_many_they_are_and_rows_are_those_of_frames(runs: Runs) -> None:
    pandas = pytest.importorskip("pandas")
    assert repr(runs).startswith(f"<Runs in {RUNS}: {len(runs)} runs of ")
    frame = runs.results()
    assert isinstance(frame, pandas.DataFrame) and len(frame) == len(runs)
    assert list(frame.columns) == list(runs.result_rows()[0])
    means = frame[frame.state == "finished"].groupby(["experiment", "optimizer"])["test/loss"]
    assert means.mean().notna().sum() > 3
    metrics = runs.metrics()
    assert len(metrics) == len(runs.metric_rows()) and metrics["step"].dtype.kind == "i"


def test_runs_are_selected_by_experiment_label_and_seed(runs: Runs) -> None:
    some = runs.select("blobs", optimizer=["adam", "sgd"], seed=1)
    rows = some.result_rows()
    assert {(row["experiment"], row["optimizer"], row["seed"]) for row in rows} == {
        ("blobs", "adam", 1),
        ("blobs", "sgd", 1),
    }
    assert {row["seed"] for row in some.metric_rows()} == {1}
    assert len(Runs("blobs", runs=RUNS).select(seed="1")) == len(runs.select("blobs", seed=[1]))


def test_a_selection_that_no_run_fits_names_what_there_is(runs: Runs) -> None:
    with pytest.raises(UsageError, match=r"optimizer adm: no run has it\.\n.*adam.*did you mean"):
        runs.select(optimizer="adm")
    with pytest.raises(UsageError, match=r"seed 7\.5: no run has it"):
        runs.select(seed=7.5)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="neither an experiment"):
        Runs("nowhere")


def test_without_pandas_there_are_dictionaries(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match=r"deltagclip_cli\[pandas\].*result_rows\(\)"):
        runs.results()
    assert runs.result_rows()[0]["experiment"] == "blobs"


def test_logs_of_other_programs_are_read_as_compare_reads_them() -> None:
    rows = Runs(STORED / "logs", group=r"(?P<optimizer>[a-z]+)_seed(?P<seed>\d+)").result_rows()
    assert {row["optimizer"] for row in rows} >= {"adam"}
    assert all(row["identity"] is None and row["epoch"] is None for row in rows)


def test_compare_takes_the_options_of_the_command() -> None:
    parameters = inspect.signature(compare).parameters
    for field in dataclasses.fields(Request):
        assert parameters[field.name].default == field.default, field.name
    assert set(parameters) - {field.name for field in dataclasses.fields(Request)} == {
        "targets",
        "runs",
        "group",
    }


@pytest.mark.parametrize("form", ["table", "csv", "json", "markdown", "latex"])
def test_compare_has_every_form_of_the_command(form: str) -> None:
    words = ["blobs", "--metric", "test/loss", "--baseline", "adam", "--target", "test/loss=2.2"]
    found = compare("blobs", runs=RUNS, metric="test/loss", baseline="adam", target="test/loss=2.2")
    assert found.text(form) == printed(*words, "--format", form)


def test_numbers_of_a_comparison_are_those_of_csv_and_json() -> None:
    pytest.importorskip("pandas")
    found = compare("blobs", runs=RUNS, metric="test/loss")
    rows = list(csv.DictReader(io.StringIO(found.text("csv"))))
    frame = found.frame()
    assert [float(row["mean"]) for row in rows] == frame["mean"].tolist()
    assert json.loads(found.text("json")) == found.data()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: compare(target=3), r"target=3: expected str \| Sequence\[str\] \| None"),
        (lambda: compare("blobs", None), r"targets=None: expected str \| Path"),
        (lambda: Runs(["blobs"]), r"targets=\['blobs'\]: expected str \| Path"),
        (lambda: Runs(runs=None), r"runs=None: expected str \| Path"),
    ],
)
def test_an_argument_of_a_wrong_type_is_told_with_the_right_one(call: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        call()
    with pytest.raises(TypeError, match="unexpected keyword argument 'targt'"):
        compare(targt="test/loss=1")  # type: ignore[call-arg]


def test_a_comparison_shows_itself_and_refuses_what_it_does_not_know() -> None:
    found = compare("blobs", runs=RUNS, metric="test/loss")
    assert "adam" in repr(found) and "test/loss" in repr(found)
    page = found._repr_html_()
    assert page.count("<table>") == len(found.tables()) and "<b>" in page
    with pytest.raises(UsageError, match="mode='up': expected"):
        compare("blobs", runs=RUNS, mode="up")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"ddof=7: expected Literal\[0, 1\]"):
        compare("blobs", runs=RUNS, ddof=7)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--at 3: say last"):
        compare("blobs", runs=RUNS, at="3")
    with pytest.raises(UsageError, match="no form 'html'"):
        found.text("html")
