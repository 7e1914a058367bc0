"""Exports that are killed in the middle: each run is there once, with the values of ``compare``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from export_cases import (
    History,
    MlflowServer,
    compared,
    export,
    go_on,
    grow,
    in_csv,
    in_mlflow,
    in_parquet,
    in_trackio,
    in_wandb,
    killed_export,
    measured,
    train_again,
)

from deltagclip_cli.runs.folder import RunFolder

Reads = Callable[[str], dict[str, History]]


def stop(folder: RunFolder) -> None:
    """Change nothing but how a run stands."""
    folder.stopped_file.write_text("it was told to\n")


def train(folders: list[RunFolder]) -> None:
    """Let one run go on to its end, and train another one again."""
    go_on(folders[5])
    train_again(folders[0])


def interrupted(
    folders: list[RunFolder], words: list[str], kills: list[tuple[str, int]], read: Reads
) -> None:
    """Kill exports, each before some call of a function, and repeat them as the runs change."""
    for at, call in kills:
        assert killed_export(*words, at=at, call=call), (at, call)
    for change in (lambda: None, lambda: stop(folders[5]), lambda: train(folders)):
        change()
        assert killed_export(*words, at=kills[-1][0], call=1)
        assert export(*words)[0] == 0
        there = read(words[-1])
        assert there == measured(folders)
        values = compared()
        assert len(values) >= 4
        assert values == {identity: there[identity][-1][1] for identity in values}


@pytest.mark.parametrize(
    ("to", "read"), [("csv", in_csv), pytest.param("parquet", in_parquet, marks=pytest.mark.slow)]
)
def test_files_are_those_of_the_last_export(to: str, read: Reads, folders: list[RunFolder]) -> None:
    words = ["--to", to, "--into", "there"]
    assert killed_export(*words, at="os:fsync", call=1)
    assert not list(Path("there").glob(f"*.{to}"))
    kills = [("os:fsync", 2), ("pathlib:Path.replace", 1), ("pathlib:Path.replace", 2)]
    interrupted(folders, words, kills, read)


@pytest.mark.slow
def test_a_run_has_one_folder_of_wandb(folders: list[RunFolder]) -> None:
    log, rename = "wandb.sdk.wandb_run:Run.log", "pathlib:Path.rename"
    words = ["--to", "wandb", "--into", "."]
    interrupted(folders, words, [(log, 2), (log, 9), (rename, 1)], in_wandb)
    train_again(folders[1], 1)
    assert killed_export(*words, at=rename, call=2)  # between the old one and the new one
    assert len(in_wandb(".")) == len(folders) - 1
    assert export(*words)[0] == 0
    assert in_wandb(".") == measured(folders)


@pytest.mark.slow
def test_a_run_is_in_one_project_of_trackio_once(
    folders: list[RunFolder], tmp_path: Path, trackio_folder: Path
) -> None:
    words = ["--to", "trackio", "--into", str(trackio_folder)]
    log = "trackio.sqlite_storage:SQLiteStorage.bulk_log"
    serialize = "trackio.sqlite_storage:serialize_values"
    interrupted(folders, words, [(serialize, 3), (log, 3), (serialize, 9), (log, 1)], in_trackio)
    grow(folders[4])
    assert "8 runs: 1 grown, 7 unchanged" in export(*words)[1]
    assert in_trackio("") == measured(folders)


@pytest.mark.slow
def test_a_server_of_mlflow_has_a_run_once(
    folders: list[RunFolder], mlflow_server: MlflowServer
) -> None:
    words = ["--to", "mlflow", "--into", mlflow_server.address]
    send = "mlflow.tracking.client:MlflowClient.log_batch"
    create = "mlflow.tracking.client:MlflowClient.create_run"
    interrupted(folders, words, [(create, 2), (send, 2), (send, 5), (send, 1)], in_mlflow)
    grow(folders[4])
    assert "8 runs: 1 grown, 7 unchanged" in export(*words)[1]
    train_again(folders[1], 1)
    with pytest.MonkeyPatch.context() as patch:
        mlflow_server.die_in_the_middle(patch)
        code, said = export(*words)
    assert code == 75
    assert f"error: {mlflow_server.address}: no server answers there." in said
    assert "The same command goes on where it stopped." in said
    mlflow_server.start()
    assert export(*words)[0] == 0
    assert in_mlflow(mlflow_server.address) == measured(folders)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_database_of_mlflow_is_there_whole_or_not_at_all(folders: list[RunFolder]) -> None:
    words = ["--to", "mlflow", "--into", "sqlite:///there.db"]
    upgrade = "alembic.operations.base:AbstractOperations.invoke"
    assert killed_export(*words, at=upgrade, call=20)
    assert not Path("there.db").exists()
    assert killed_export(*words, at="mlflow.tracking.client:MlflowClient.log_batch", call=2)
    assert export(*words)[0] == 0
    assert in_mlflow("sqlite:///there.db") == measured(folders)
    assert not list(Path().glob(".there*unready*"))
