"""What is noted of where and with what a trial ran."""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from training_cases import StopAt, train, trial_of

from deltagclip_cli.runs.environment import describe, record_start
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import hold

CPU = torch.device("cpu")


def git(*words: str) -> str:
    identity = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]
    done = subprocess.run(["git", *identity, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_versions_and_the_device_are_noted() -> None:
    noted = describe(CPU)
    assert noted["packages"]["torch"] == version("torch")
    assert noted["packages"].keys() > {"torchvision", "numpy", "tensorboard", "transformers"}
    assert noted["device"].startswith("cpu ")
    assert noted["threads"] == torch.get_num_threads()
    assert json.loads(json.dumps(noted)) == noted


def test_the_commit_is_noted_and_whether_something_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert describe(CPU)["git"] is None
    git("init", "-q")
    assert describe(CPU)["git"] is None, "there is no commit yet"
    git("commit", "-q", "--allow-empty", "-m", "Begin")
    commit = git("rev-parse", "HEAD")
    assert describe(CPU)["git"] == {"commit": commit, "dirty": False}
    git("config", "core.quotePath", "false")
    (tmp_path / "n\udcfc.txt").touch()  # a name that is not UTF-8
    assert describe(CPU)["git"] == {"commit": commit, "dirty": True}


def test_a_machine_without_git_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe(CPU)["git"] is None


def test_a_working_folder_that_is_gone_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    assert describe(CPU)["folder"] is None
    monkeypatch.undo()


def test_of_the_environment_only_ids_of_slurm_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("SLURM_JWT", "a secret")
    monkeypatch.setenv("MY_TOKEN", "another secret")
    noted = describe(CPU)
    assert noted["slurm"]["SLURM_JOB_ID"] == "17"
    assert noted["slurm"]["SLURM_ARRAY_TASK_ID"] == "3"
    assert "secret" not in json.dumps(noted)


def test_a_start_on_several_devices_says_how_many(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ranks = {"ranks": {"count": 2, "parallel": "ddp"}}
    with caplog.at_level("INFO"), hold(RunFolder(tmp_path)) as held:
        record_start(held, torch.device("cpu"), "eager", conditions=ranks)
    assert "Trains on 2 devices (ddp)." in caplog.text
    assert "takes more of the" not in caplog.text  # of cores that the other one has


def test_every_start_adds_an_entry(runs: Path) -> None:
    trial = trial_of()
    train(trial, runs, stop=StopAt(3))
    train(trial, runs, stop=StopAt(3))
    train(trial, runs)
    starts = json.loads(RunFolder.of(runs, trial).environment_file.read_text())
    assert len(starts) == 3
    assert [start["started"] for start in starts] == sorted(start["started"] for start in starts)
