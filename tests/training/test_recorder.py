"""``metrics.jsonl`` and the events beside it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from training_cases import trial_of

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import create
from deltagclip_cli.training.recorder import Recorder, is_step_record


@pytest.fixture
def folder(runs: Path) -> RunFolder:
    made = RunFolder.of(runs, trial_of())
    create(made, trial_of())
    return made


def recorded(folder: RunFolder, kept: list[dict[str, Any]], *values: dict[str, float]) -> None:
    recorder = Recorder(folder, trial_of(), kept)
    for number, each in enumerate(values, len(kept) + 1):
        recorder.record(number, 4 * number, each)
    recorder.close()


def test_a_record_is_a_line_of_flat_json(folder: RunFolder) -> None:
    recorded(folder, [], {"train/loss": 0.5, "test/loss": 0.25})
    (line,) = folder.metrics_file.read_text().splitlines()
    record = json.loads(line)
    assert record.pop("time") > 1.7e9
    assert record == {"epoch": 1, "step": 4, "train/loss": 0.5, "test/loss": 0.25}
    assert list(record)[:2] == ["epoch", "step"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_becomes_null(value: float, folder: RunFolder) -> None:
    recorded(folder, [], {"train/loss": value, "optim/lr": 0.1})
    (record,) = folder.metrics()
    assert record["train/loss"] is None
    assert record["optim/lr"] == 0.1


def test_a_number_survives_to_its_last_digit(folder: RunFolder) -> None:
    recorded(folder, [], {"train/loss": 0.1 + 0.2})
    assert next(folder.metrics())["train/loss"] == 0.1 + 0.2


def test_a_record_can_be_read_as_soon_as_it_is_made(folder: RunFolder) -> None:
    recorder = Recorder(folder, trial_of(), [])
    recorder.record(1, 4, {"train/loss": 0.5})
    assert len(list(folder.metrics())) == 1
    recorder.close()


def test_a_restart_keeps_what_it_is_told_to_keep(folder: RunFolder) -> None:
    recorded(folder, [], *({"train/loss": 1 / n} for n in (1, 2, 3)))
    kept = list(folder.metrics())[:2]
    recorded(folder, kept, {"train/loss": 0.25})
    assert list(folder.metrics())[:2] == kept
    assert [record["epoch"] for record in folder.metrics()] == [1, 2, 3]
    assert [record["train/loss"] for record in folder.metrics()] == [1, 0.5, 0.25]
    assert len(folder.event_files()) == 1


def test_a_recorder_counts_the_records_of_all_starts(folder: RunFolder) -> None:
    recorder = Recorder(
        folder, trial_of(), [{"epoch": 1, "step": 4, "time": 0.0, "train/loss": 1.0}]
    )
    assert recorder.records == 1
    recorder.record(2, 8, {"train/loss": 0.5})
    assert recorder.records == 2
    recorder.close()


def test_records_between_epochs_are_told_by_their_names() -> None:
    assert is_step_record({"epoch": 1, "step": 1, "step/train/loss": 1.0})
    assert not is_step_record({"epoch": 1, "step": 1, "train/loss": 1.0})
