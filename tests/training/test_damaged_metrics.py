"""A training goes on only from metrics that are what they were when its checkpoint was written."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from obstacles import OBSTACLES
from training_cases import StopAt, assert_same_numbers, train, trial_of

from deltagclip_cli.core import RunFolderError
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import create
from deltagclip_cli.training.trainer import Ending


def changed(pattern: str, new: str) -> Callable[[list[str]], str]:
    """What makes of the first record another one that is still a line."""

    def change(lines: list[str]) -> str:
        first = re.sub(pattern, new, lines[0], count=1)
        assert first != lines[0]
        return "".join([first, *lines[1:]])

    return change


def double_the_first(lines: list[str]) -> str:
    return "".join([lines[0], *lines])


def put_the_first_for_the_second(lines: list[str]) -> str:
    return "".join([lines[0], lines[0], *lines[2:]])


def turn_the_first_two(lines: list[str]) -> str:
    return "".join([lines[1], lines[0], *lines[2:]])


DAMAGE = {
    "a word": changed(r'(train/loss": )[^,]+', r'\1"low"'),
    "infinity": changed(r'(train/loss": )[^,]+', r"\1Infinity"),
    "a number too large": changed(r'(train/loss": )[^,]+', r"\1 1e999"),
    "another number": changed(r'(train/loss": )[^,]+', r"\1 0.5"),
    "a list": changed(r'(train/loss": )[^,]+', r"\1[0.5]"),
    "no loss": changed(r'"[a-z/]*train/loss": [^,]+, ', ""),
    "no epoch": changed(r'"epoch": [^,]+, ', ""),
    "no step": changed(r'"step": [^,]+, ', ""),
    "an epoch that is a word": changed(r'("epoch": )[^,]+', r'\1"1"'),
    "another epoch": changed(r'("epoch": )[^,]+', r"\1 0"),
    "doubled": double_the_first,
    "one for another": put_the_first_for_the_second,
    "turned": turn_the_first_two,
}


TRIAL = trial_of(log_every=2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The trial as it is when nothing happens to it."""
    runs = tmp_path_factory.mktemp("whole")
    train(TRIAL, runs)
    return RunFolder.of(runs, TRIAL)


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of which the trial was stopped in its last epoch."""
    runs = tmp_path_factory.mktemp("half")
    train(TRIAL, runs, stop=StopAt(10))
    return runs


@pytest.fixture
def stopped(half: Path, runs: Path) -> RunFolder:
    """The same, to be damaged."""
    shutil.copytree(half, runs, dirs_exist_ok=True)
    return RunFolder.of(runs, TRIAL)


@pytest.mark.parametrize("damage", DAMAGE)
def test_metrics_that_are_not_what_they_were_are_made_again_and_kept(
    damage: str, whole: RunFolder, stopped: RunFolder, runs: Path
) -> None:
    folder = stopped
    text = DAMAGE[damage](folder.metrics_file.read_text().splitlines(keepends=True))
    folder.metrics_file.write_text(text)
    assert train(TRIAL, runs) is Ending.FINISHED
    assert_same_numbers(folder, whole)
    log = folder.log_file.read_text()
    assert f"cannot be used: {folder.metrics_file} " in log
    assert "kept as metrics.damaged.jsonl" in log
    assert "starting again at epoch 1" in log
    assert folder.damaged_metrics_file.read_text() == text


def test_what_follows_the_checkpoint_is_cut_off_whatever_it_is(
    whole: RunFolder, stopped: RunFolder, runs: Path
) -> None:
    with stopped.metrics_file.open("a") as file:
        file.write('{"epoch": 3, "step": 12, "time": 0, "train/loss": 1e999}\nword\n')
    assert train(TRIAL, runs) is Ending.FINISHED
    assert_same_numbers(stopped, whole)
    assert "cannot be used" not in stopped.log_file.read_text()
    assert not stopped.damaged_metrics_file.exists()


def test_a_checkpoint_of_an_earlier_version_goes_by_the_number_of_records(
    whole: RunFolder, stopped: RunFolder, runs: Path
) -> None:
    state = torch.load(stopped.checkpoint_file, weights_only=True)
    del state["checksum"]
    torch.save(state, stopped.checkpoint_file)
    assert train(TRIAL, runs) is Ending.FINISHED
    assert_same_numbers(stopped, whole)
    assert "cannot be used" not in stopped.log_file.read_text()


@pytest.mark.parametrize("name", ["checkpoint.next.pt", "log.txt", "events.out.tfevents.1.a.2"])
@pytest.mark.parametrize("why", OBSTACLES)
def test_what_is_no_file_ends_a_trial_before_it_begins(runs: Path, name: str, why: str) -> None:
    trial = trial_of()
    folder = RunFolder.of(runs, trial)
    create(folder, trial)
    OBSTACLES[why](folder.path / name)
    with pytest.raises(RunFolderError, match=re.escape(f"{name} cannot be read: {why}.")):
        train(trial, runs)
    assert not folder.environment_file.exists()


def test_a_trial_begins_afresh_where_no_file_is_what_it_should_be(runs: Path) -> None:
    trial = trial_of()
    folder = RunFolder.of(runs, trial)
    create(folder, trial)
    for make, name in zip(
        OBSTACLES.values(),
        ("log.txt", "error.txt", "checkpoint.pt", "result.json", "owner.json", "metrics.jsonl"),
        strict=True,
    ):
        make(folder.path / name)
    assert train(trial, runs, force=True) is Ending.FINISHED


def test_nothing_is_deleted_through_a_run_folder_that_is_a_link(runs: Path, tmp_path: Path) -> None:
    trial = trial_of()
    folder = RunFolder.of(runs, trial)
    folder.path.parent.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    folder.path.symlink_to(tmp_path / "elsewhere")
    assert train(trial, runs) is Ending.FINISHED
    before = sorted(path.name for path in (tmp_path / "elsewhere").iterdir())
    with pytest.raises(RunFolderError, match="a link, through which nothing is deleted"):
        train(trial, runs, force=True)
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == before
