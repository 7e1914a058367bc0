"""What an export says, and what it does about runs and places that are not as they should be."""

from __future__ import annotations

import csv
import errno
import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest
from export_cases import METRIC, export, go_on, in_csv, measured, records
from run_cases import lines, make_events

from deltagclip_cli.core import claimed
from deltagclip_cli.export import following
from deltagclip_cli.export.destination import DESTINATIONS
from deltagclip_cli.export.exported import ExportedRun, id_of
from deltagclip_cli.export.mlflow_runs import stored_metrics
from deltagclip_cli.export.wandb_folders import OfflineFolders
from deltagclip_cli.results.read.tree import Place
from deltagclip_cli.runs.folder import RunFolder

CSV = ["--to", "csv", "--into", "there"]


def exported() -> dict[str, ExportedRun]:
    """Every run of the runs folder, by the name of its folder."""
    runs = Place((), Path("runs")).read().runs
    return {run.folder.name: ExportedRun.of(run) for run in runs}


def test_an_export_says_how_many_runs_are_where(folders: list[RunFolder]) -> None:
    code, said = export(*CSV)
    assert code == 0
    assert said == "8 runs: 8 written\nThey are in there/runs.csv and there/metrics.csv.\n"
    assert export(*CSV, "--quiet") == (0, "")


def test_a_run_is_known_by_the_identity_of_its_trial(folders: list[RunFolder]) -> None:
    first = exported()[folders[0].path.name]
    assert first.id == folders[0].trial().identity
    assert (first.group, first.name) == ("sgd", "sgd · seed 0")
    assert first.config["optimizer.lr"] == 0.1
    assert METRIC not in first.config
    assert first.standing["state"] == "finished"
    assert first.points[0].metrics["epoch"] == 1


def test_a_run_has_the_same_fingerprint_until_it_changes(folders: list[RunFolder]) -> None:
    before, again = exported(), exported()
    name = folders[5].path.name
    assert {n: each.fingerprint for n, each in again.items()} == {
        n: each.fingerprint for n, each in before.items()
    }
    go_on(folders[5])
    after = exported()
    assert after[name].fingerprint != before[name].fingerprint
    assert after[name].id == before[name].id


def test_numbers_that_are_not_finite_are_left_out(folders: list[RunFolder]) -> None:
    odd = records(0)
    odd[1]["test/loss"] = None
    folders[5].metrics_file.write_bytes(lines(*odd))
    points = exported()[folders[5].path.name].points
    assert ["test/loss" in point.metrics for point in points] == [True, False, True, True]
    assert all(METRIC in point.metrics for point in points)


def test_a_copy_of_a_run_is_named_and_not_exported_again(folders: list[RunFolder]) -> None:
    copy = folders[0].path.with_name("seed-0-copy")
    shutil.copytree(folders[0].path, copy)
    code, said = export(*CSV)
    assert code == 0
    assert f"{Path('runs', copy.relative_to(Path('runs').resolve()))}: the same trial as" in said
    assert in_csv("there") == measured(folders)


@pytest.mark.parametrize("to", sorted(set(DESTINATIONS) - {"csv"}))
def test_a_library_that_is_missing_is_named_with_its_extra(
    to: str, folders: list[RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deltagclip_cli.export.destination.find_spec", lambda name: None)
    code, said = export("--to", to)
    assert code == 2
    assert f"error: --to {to}: the library {DESTINATIONS[to][1]} is not installed." in said
    assert f"pip install 'deltagclip_cli[{to}]'" in said


def test_a_file_in_the_place_of_the_folder_is_named(folders: list[RunFolder]) -> None:
    code, said = export("--to", "csv", "--into", "spec.yaml")
    assert code == 2
    assert "error: spec.yaml: cannot be written: a file has that name." in said


@pytest.mark.parametrize("to", ["csv", "parquet", "wandb"])
def test_a_place_that_is_no_folder_is_refused(to: str, folders: list[RunFolder]) -> None:
    code, said = export("--to", to, "--into", "spec.yaml/there")
    assert code == 2
    assert "error: spec.yaml/there" in said
    assert "cannot be written: Not a directory." in said
    assert "Name another place with --into" in said


def test_the_next_command_can_be_pasted_whatever_the_folder_is_called() -> None:
    written = OfflineFolders(Path("my runs/wandb"), Path())
    assert written.next_step == "wandb sync 'my runs/wandb'/offline-run-*"


def test_two_exports_do_not_write_in_one_folder_at_once(folders: list[RunFolder]) -> None:
    Path("there").mkdir()
    with claimed(Path("there/.deltagclip.lock"), ""):
        code, said = export(*CSV)
    assert code == 2
    assert "there: another export writes there." in said


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what MLflow calls
def test_two_exports_do_not_make_one_database_of_mlflow_at_once(folders: list[RunFolder]) -> None:
    """One would write into a file that the other then replaces."""
    pytest.importorskip("mlflow")
    with claimed(Path(".there.db.deltagclip.lock"), ""):
        code, said = export("--to", "mlflow", "--into", "sqlite:///there.db")
    assert code == 2
    assert "there.db: another export writes there." in said
    assert not Path("there.db").exists()


def test_a_full_disk_leaves_the_files_as_they_were(
    folders: list[RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    export(*CSV)
    before = in_csv("there")
    go_on(folders[5])

    def fail(file: int) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        code, said = export(*CSV)
    assert code == 75
    assert (
        "there/metrics.csv: cannot be written: No space left on device; free space there." in said
    )
    assert "The same command goes on where it stopped." in said
    assert in_csv("there") == before
    assert export(*CSV)[0] == 0
    assert in_csv("there") == measured(folders) != before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what MLflow calls
def test_a_store_that_mlflow_cannot_have_is_refused(
    folders: list[RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    code, said = export("--to", "mlflow", "--into", "mlruns")
    assert code == 2
    assert "Say --into sqlite:///mlruns.db for a file" in said
    code, said = export("--to", "mlflow", "--into", "sqlite:///spec.yaml/there.db")
    assert code == 2
    assert "error: sqlite:///spec.yaml/there.db: cannot be written: " in said
    code, said = export("--to", "mlflow", "--into", "nowhere://there")
    assert code == 2
    assert "error: nowhere://there: MLflow refuses it: " in said


def test_runs_are_followed_until_all_have_ended(
    folders: list[RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        assert len(in_csv("there")[folders[5].trial().identity]) == 1
        go_on(folders[5])

    monkeypatch.setattr(following.time, "sleep", sleep)
    code, said = export(*CSV, "--follow")
    assert code == 0
    assert len(pauses) == 1
    assert "Ctrl-C ends it earlier." in said
    assert said.count("8 runs: 8 written") == 2
    assert in_csv("there") == measured(folders)


def test_runs_are_followed_until_those_of_the_spec_have_ended(
    folders: list[RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on(folders[5])
    Path("spec.yaml").rename("experiments.yaml")  # which has seeds that have not begun

    def sleep(seconds: float) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(following.time, "sleep", sleep)
    code, said = export(*CSV, "--follow")
    assert code == 130
    assert "Interrupted." in said


def test_runs_are_waited_for_of_which_none_has_begun(
    folders: list[RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("spec.yaml").rename("experiments.yaml")
    Path("runs", "tiny").rename("begun")
    Path("runs", "tiny").mkdir()

    def sleep(seconds: float) -> None:
        if Path("there", "runs.csv").exists():
            raise KeyboardInterrupt
        shutil.rmtree("runs/tiny")
        Path("begun").rename("runs/tiny")

    monkeypatch.setattr(following.time, "sleep", sleep)
    code, said = export("tiny", *CSV, "--follow")
    assert code == 130
    assert "8 runs: 8 written\n" in said


def test_a_stop_while_runs_are_followed_is_told_and_tried_again(
    folders: list[RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync
    failures = iter([False, False, True])  # two files, and the first one of the next round

    def failing(file: int) -> None:
        if next(failures, False):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(file)

    monkeypatch.setattr(os, "fsync", failing)
    monkeypatch.setattr(following.time, "sleep", lambda seconds: go_on(folders[5]))
    code, said = export(*CSV, "--follow")
    assert code == 0
    assert said.count("No space left on device") == 1
    assert said.count("8 runs: 8 written") == 2
    assert in_csv("there") == measured(folders)


def test_runs_of_other_programs_are_exported_as_well(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_events(tmp_path / "logs" / f"adam_seed{seed}", {"test/accuracy": [0.5, 0.25 + seed]})
    code, said = export(str(tmp_path / "logs"), "--to", "csv", "--into", str(tmp_path / "there"))
    assert code == 0, said
    with open(tmp_path / "there" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["seed"], row["step"], row[METRIC]) for row in rows] == [
        ("0", "0", "0.5"),
        ("0", "1", "0.25"),
        ("1", "0", "0.5"),
        ("1", "1", "1.25"),
    ]
    runs = Place([str(tmp_path / "logs")], Path("runs")).read().runs
    assert len({id_of(run) for run in runs}) == 2
    assert {id_of(run) for run in runs} == {
        id_of(run) for run in Place([str(tmp_path / "logs")], Path("runs")).read().runs
    }


@pytest.mark.parametrize("steps", [(0.25, 0.5, 1), (-1, 0, 1), (0, 0, 1)])
def test_points_are_numbered_where_trackers_have_no_such_step(
    steps: tuple[float, ...], tmp_path: Path
) -> None:
    rows = "".join(f"{step},{value}\n" for value, step in enumerate(steps))
    (tmp_path / "adam.csv").write_text(f"step,loss\n{rows}")
    (run,) = Place([str(tmp_path)], Path("runs")).read().runs
    points = ExportedRun.of(run).points
    assert [(each.step, each.metrics["loss"]) for each in points] == [(0, 0), (1, 1), (2, 2)]


def test_metrics_that_mlflow_would_call_the_same_are_told_apart(tmp_path: Path) -> None:
    values = {"loss (train)@1": [0.5], "loss (train)_1": [0.25], "test/accuracy": [1.0]}
    make_events(tmp_path / "logs" / "adam_seed0", values)
    (run,) = Place([str(tmp_path / "logs")], Path("runs")).read().runs
    stored = stored_metrics(ExportedRun.of(run))
    assert {name: value for (name, _), (_, value) in stored.items()} == {
        "loss _train__1": 0.5,
        "loss _train__1_": 0.25,
        "test/accuracy": 1.0,
    }
