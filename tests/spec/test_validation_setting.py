"""A validation split, and what looks at it, as a spec says it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_spec import TINY, faults_of_text, trial_of, trials_of

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import create
from deltagclip_cli.spec.trial import differing_settings

VALIDATION = "data.validation=0.5"
EARLY = "early_stopping={metric: validation/loss, patience: 2}"


def test_what_nobody_says_stands_nowhere(tmp_path: Path) -> None:
    for trial in (trial_of(tmp_path), trial_of(tmp_path, "data.validation=null")):
        assert "validation" not in trial.canonical["data"]
        assert "early_stopping" not in trial.settings
    assert "validation" not in trial_of(tmp_path).model_dump(mode="json")["data"]


def test_what_is_said_is_read_again_from_the_run_folder(tmp_path: Path) -> None:
    trial = trial_of(tmp_path, VALIDATION, EARLY)
    folder = RunFolder.of(tmp_path / "runs", trial)
    create(folder, trial)
    for read in (folder.trial(), folder.trial_to_run()):
        assert (read.early_stopping, read.identity) == (trial.early_stopping, trial.identity)
    assert trial.early_stopping is not None
    assert trial.early_stopping.direction == "minimize"
    assert trial.data.validation == 0.5


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_a_search_may_judge_by_it_only_where_it_is(tmp_path: Path, metric: str) -> None:
    space = "{sgd: {lr: {log_uniform: [1e-2, 10]}}}"
    text = f"{TINY}    search: {{metric: validation/{metric}, space: {space}}}\n"
    assert trials_of(tmp_path, VALIDATION, text=text)
    (fault,) = faults_of_text(tmp_path, text)
    assert f"there is no validation/{metric}: these data have no validation split" in fault
    assert "write data: {validation: 0.1}" in fault
    averaged = text.replace("validation/", "validation_ema/")
    assert trials_of(tmp_path, VALIDATION, "ema=0.9", text=averaged)


@pytest.mark.parametrize(
    ("sets", "fault"),
    [
        ([EARLY], "there is no validation/loss"),
        (
            [VALIDATION, "early_stopping={metric: validation/f1, patience: 2}"],
            "'metric' must be 'train/loss'",
        ),
        ([VALIDATION, EARLY.replace("2", "0")], "'patience' must be greater than 0"),
        ([VALIDATION, "early_stopping={patience: 2}"], "'metric' is missing"),
        ([VALIDATION, EARLY, "grid={early_stopping.patience: [1, 2]}"], "by the same rule"),
        (["early_stoping={metric: train/loss, patience: 2}"], "did you mean 'early_stopping'?"),
    ],
)
def test_a_wrong_end_is_a_fault(tmp_path: Path, sets: list[str], fault: str) -> None:
    assert any(fault in each for each in faults_of_text(tmp_path, TINY, *sets))


def test_a_split_that_is_said_twice_is_a_fault(tmp_path: Path) -> None:
    data = "data={name: npz, path: a.npz, batch_size: 4, splits: {validation: 0.1, test: 0.2}"
    (fault,) = faults_of_text(tmp_path, TINY, f"{data}, validation: 0.1}}")
    assert "validation and splits.validation both say what choices look at" in fault
    assert trials_of(tmp_path, f"{data}}}")


def test_settings_that_end_otherwise_are_told_apart(tmp_path: Path) -> None:
    sets = [[VALIDATION], [VALIDATION, EARLY], [VALIDATION, EARLY.replace("2", "5")]]
    found = {str(number): trial_of(tmp_path, *each) for number, each in enumerate(sets)}
    words = differing_settings(found)
    assert words["1"]["early_stopping.patience"] == "2"
    assert words["2"]["early_stopping.patience"] == "5"
    assert words["0"]["early_stopping.patience"] == "off"
