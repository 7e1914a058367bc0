"""MLflow's runs, in its file store and its database: as it writes them, cut and damaged."""

from __future__ import annotations

import math
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from run_cases import make_events

from deltagclip_cli.results.read import mlflow_logs
from deltagclip_cli.results.read.grouping import Naming
from deltagclip_cli.results.read.run import Outcome, Reading, Run
from deltagclip_cli.results.read.tree import read_tree

FINISHED = 3
BEGIN = 1_700_000_000_000  # in milliseconds since 1970


def make_run(
    store: Path,
    number: int,
    metrics: Mapping[str, str],
    params: Mapping[str, object] = {},
    **meta: Any,
) -> Path:
    """Write a run as MLflow's file store does."""
    run = store / "42" / f"{number:032x}"
    written = {"run_name": "", "status": FINISHED, "start_time": BEGIN, **meta}
    for path, text in {
        store / "42" / "meta.yaml": yaml.safe_dump({"name": "cifar", "experiment_id": "42"}),
        run / "meta.yaml": yaml.safe_dump(written),
        **{run / "metrics" / name: text for name, text in metrics.items()},
        **{run / "params" / name: str(value) for name, value in params.items()},
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return run


def points(*values: float, begin: int = 0) -> str:
    return "".join(f"{BEGIN + 1000 * n} {v!r} {n}\n" for n, v in enumerate(values, begin))


def read(root: Path) -> Reading:
    return read_tree([root], Naming())


def only(root: Path) -> Run:
    reading = read(root)
    assert list(reading.problems) == []
    (run,) = reading.runs
    return run


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["file", "sqlite"])
@pytest.mark.filterwarnings("ignore")
def test_what_the_library_writes_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    mlflow = pytest.importorskip("mlflow")
    place = tmp_path / ("mlruns" if scheme == "file" else "mlflow.db")
    client = mlflow.MlflowClient(f"{scheme}:///{place}")
    experiment = client.create_experiment("cifar")
    for optimizer, seed in (("adam", 0), ("adam", 1), ("sgd", 0), ("sgd", 1)):
        run = client.create_run(experiment).info.run_id  # it draws a name
        client.log_param(run, "optimizer", optimizer)
        client.log_param(run, "seed", seed)
        for step in range(3):
            client.log_metric(run, "train/loss", 1 / (step + 1), step=step)
        client.log_metric(run, "val_acc", math.nan, step=2)
        client.set_terminated(run, "FINISHED" if seed else "FAILED")
    reading = read(tmp_path)
    assert list(reading.problems) == []
    found = {(run.group.experiment, run.group.name, run.seed, run.outcome) for run in reading.runs}
    assert found == {
        ("cifar", optimizer, str(seed), outcome)
        for optimizer in ("adam", "sgd")
        for seed, outcome in enumerate((Outcome.FAILED, Outcome.FINISHED))
    }
    for run in reading.runs:
        assert run.curves["train/loss"].values.tolist() == [1, 1 / 2, 1 / 3]
        assert math.isnan(run.curves["val/accuracy"].values[-1])


def test_curves_have_steps_and_times_and_the_machine_is_left_out(tmp_path: Path) -> None:
    metrics = {"train/loss": points(0.5, 0.25, begin=3), "system/cpu": points(99.0)}
    make_run(tmp_path / "mlruns", 1, metrics, run_name="adam")
    run = only(tmp_path)
    assert list(run.curves) == ["train/loss"]
    assert run.curves["train/loss"].steps.tolist() == [3, 4]
    assert run.curves["train/loss"].seconds.tolist() == [3, 4]
    assert (run.group.experiment, run.group.optimizer) == ("cifar", "adam")


def test_points_that_came_out_of_order_are_told_of(tmp_path: Path) -> None:
    run = make_run(tmp_path, 1, {"loss": points(4, 3) + points(1, begin=4) + points(2, begin=3)})
    reading = read(tmp_path)
    assert reading.runs[0].curves["loss"].steps.tolist() == [0, 1, 3]
    (said,) = reading.problems
    assert said.startswith(f"{run}: a restart went back") and "from 4 to 4 are left out" in said


def test_metrics_for_which_nobody_counted_have_the_numbers_of_their_points(tmp_path: Path) -> None:
    make_run(tmp_path, 1, {"loss": f"{BEGIN} 0.5 0\n{BEGIN} 0.25 0\n", "last": f"{BEGIN} 1.0 0\n"})
    run = only(tmp_path)
    assert run.curves["loss"].steps.tolist() == [0, 1]
    assert run.curves["last"].steps.tolist() == [0]


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (("adam", "adam", "sgd", "sgd"), ("adam", "sgd")),
        # two words and a number, which MLflow draws
        (("bold-lynx-25", "able-hog-1", "shy-cub-777", "red-ox-10"), ("adam", "sgd")),
        (
            ("big-adam-1", "big-adam-2", "big-sgd-1", "big-sgd-2"),
            ("big-adam-1", "big-adam-2", "big-sgd-1", "big-sgd-2"),
        ),
    ],
)
def test_names_that_mlflow_draws_say_nothing_and_params_do(
    tmp_path: Path, names: tuple[str, ...], groups: tuple[str, ...]
) -> None:
    for number, name in enumerate(names):
        params = {"optimizer": "adam" if number < 2 else "sgd", "seed": number % 2}
        make_run(tmp_path, number, {"loss": points(0.5)}, params, run_name=name)
    runs = read(tmp_path).runs
    assert tuple(dict.fromkeys(run.group.name for run in runs)) == groups
    assert [run.seed for run in runs] == ["0", "1", "0", "1"]


@pytest.mark.parametrize(
    ("status", "outcome", "reason"),
    [
        (1, Outcome.UNFINISHED, "MLflow says that it is running"),
        (4, Outcome.FAILED, "MLflow says that it failed"),
        (5, Outcome.UNFINISHED, "MLflow says that it is killed"),
    ],
)
def test_how_a_run_ended_is_what_mlflow_says(
    tmp_path: Path, status: int, outcome: Outcome, reason: str
) -> None:
    folder = make_run(tmp_path, 1, {"loss": points(0.5)}, status=status)
    reading = read(tmp_path)
    (run,) = reading.runs
    told = [f"{folder}: {reason}."] if outcome is Outcome.UNFINISHED else []
    assert list(reading.problems) == told
    assert (run.outcome, run.reason) == (outcome, reason)


def test_a_deleted_run_is_left_out(tmp_path: Path) -> None:
    folder = make_run(tmp_path, 1, {"loss": points(0.5)}, lifecycle_stage="deleted")
    reading = read(tmp_path)
    assert reading.runs == []
    assert list(reading.problems) == [f"{folder}: was deleted in MLflow, so it is left out."]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (points(0.5)[:-1], "its last line has no end; it is cut off, or still being written"),
        ("what?\n", "damaged in line 1; what follows was not read"),
        ("\0\0\0\0\n", "damaged in line 1; what follows was not read"),
    ],
)
def test_of_a_metric_that_is_not_whole_what_comes_before_is_read(
    tmp_path: Path, text: str, problem: str
) -> None:
    folder = make_run(tmp_path, 1, {"acc": points(0.5), "loss": text})
    reading = read(tmp_path)
    (run,) = reading.runs
    assert list(run.curves) == ["acc"]
    assert list(reading.problems) == [f"{folder / 'metrics' / 'loss'}: {problem}."]
    assert run.outcome is Outcome.UNFINISHED


def test_a_run_whose_meta_yaml_is_damaged_is_told_of(tmp_path: Path) -> None:
    folder = make_run(tmp_path, 1, {"loss": points(0.5)})
    (folder / "meta.yaml").write_text("a: [")
    assert list(read(tmp_path).problems) == [f"{folder / 'meta.yaml'}: cannot be read."]


def test_artifacts_of_a_run_are_no_runs(tmp_path: Path) -> None:
    folder = make_run(tmp_path, 1, {"loss": points(0.5)})
    make_events(folder / "artifacts" / "tensorboard", {"loss": [1]})
    (folder / "artifacts" / "log.csv").write_text("step,loss\n1,0.5\n")
    assert only(tmp_path).curves["loss"].values.tolist() == [0.5]


# -------------------------------------------------------------- the database


def make_database(folder: Path, *, values: int = 2) -> Path:
    """Write the tables of MLflow's database that matter, as its version 3 has them."""
    path = folder / "mlflow.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(
            """
            create table experiments (experiment_id integer primary key, name text);
            create table runs (run_uuid text primary key, name text, status text,
                start_time integer, lifecycle_stage text, experiment_id integer);
            create table params (key text, value text, run_uuid text);
            create table metrics (key text, value real, timestamp integer, run_uuid text,
                step integer, is_nan integer);
            insert into experiments values (0, 'Default');
            insert into runs values ('aa', 'adam', 'FINISHED', 1700000000000, 'active', 0);
            insert into runs values ('bb', 'sgd', 'FINISHED', 1700000000001, 'deleted', 0);
            insert into params values ('seed', '7', 'aa');
            """
        )
        rows = [("loss", 0.5, BEGIN + n, run, n, 0) for run in ("aa", "bb") for n in range(values)]
        rows.append(("loss", 0.0, BEGIN, "aa", values, 1))
        database.executemany("insert into metrics values (?, ?, ?, ?, ?, ?)", rows)
        database.commit()
    return path


def test_a_database_has_the_runs_that_were_not_deleted(tmp_path: Path) -> None:
    path = make_database(tmp_path)
    before = path.read_bytes()
    run = only(tmp_path)
    assert (run.group.experiment, run.group.name, run.seed) == (tmp_path.name, "adam", "7")
    assert run.curves["loss"].values.tolist()[:-1] == [0.5, 0.5]
    assert run.folder == path / "aa"
    assert run.outcome is Outcome.DIVERGED
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["mlflow.db"]


def test_of_a_database_that_is_cut_off_what_comes_before_is_read(tmp_path: Path) -> None:
    path = make_database(tmp_path, values=2000)
    path.write_bytes(path.read_bytes()[: -8 * 4096])
    reading = read(tmp_path)
    (problem,) = reading.problems
    assert problem.startswith(f"{path}: not read to its end, or no database of MLflow: ")
    assert {run.outcome for run in reading.runs} <= {Outcome.UNFINISHED}


@pytest.mark.parametrize("content", [b"", b"what?", b"SQLite format 3\0" + bytes(100)])
def test_a_file_of_something_else_is_told_of(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mlflow.db").write_bytes(content)
    (problem,) = read(tmp_path).problems
    assert problem.startswith(f"{tmp_path / 'mlflow.db'}: not read to its end, or no database")


@pytest.mark.parametrize(("mode", "expected"), [("wal", 3000), ("delete", 2000)])
def test_what_a_killed_server_has_left_beside_its_database_is_taken_up(
    tmp_path: Path, mode: str, expected: int
) -> None:
    path, killed = make_database(tmp_path, values=2000), tmp_path / "killed"
    killed.mkdir()
    with closing(sqlite3.connect(path)) as database:
        database.execute("delete from metrics where is_nan or run_uuid = 'bb'")
        database.commit()
        for setting in (f"journal_mode = {mode}", "cache_size = 2", "wal_autocheckpoint = 0"):
            database.execute(f"pragma {setting}").fetchall()
        rows = [("loss", 0.25, BEGIN + n, "aa", n, 0) for n in range(2000, 3000)]
        database.executemany("insert into metrics values (?, ?, ?, ?, ?, ?)", rows)
        if mode == "wal":
            database.commit()  # into the log; otherwise a part is in the database, to be undone
        for each in tmp_path.glob("mlflow.db*"):
            shutil.copy(each, killed)
    before = {each.name: each.read_bytes() for each in killed.iterdir()}
    assert len(only(killed).curves["loss"].values) == expected
    assert {each.name: each.read_bytes() for each in killed.iterdir()} == before


def test_a_database_that_is_written_to_all_the_time_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, copy = make_database(tmp_path), shutil.copyfileobj

    def copying(*files: Any) -> None:
        copy(*files)
        with path.open("ab") as growing:
            growing.write(b"more")

    monkeypatch.setattr(mlflow_logs, "_PAUSES", (0.0, 0.01))
    monkeypatch.setattr(shutil, "copyfileobj", copying)
    (problem,) = read(tmp_path).problems
    assert problem.endswith("it is written to all the time; read it again when that is over.")
