"""Sinks: what they are told of, and ``metrics.jsonl`` and the events beside it."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from training_cases import ADAM, StopAt, train, trial_of

from deltagclip_cli.core import TrialError
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import HeldFolder, create
from deltagclip_cli.training import sinks
from deltagclip_cli.training.sinks import (
    Beginning,
    Record,
    Recording,
    Sink,
    checksum,
    is_step_record,
    make_recording,
)


@pytest.fixture
def folder(runs: Path) -> RunFolder:
    made = RunFolder.of(runs, trial_of())
    create(made, trial_of())
    return made


def recording_of(folder: RunFolder, kept: Sequence[Record] = (), *more: Sink) -> Recording:
    made = make_recording(HeldFolder(folder), more, lambda state: None)
    made.begin(Beginning(trial_of(), "cpu", trial_of().course(4), records=kept))
    return made


def recorded(folder: RunFolder, kept: list[dict[str, Any]], *values: dict[str, float]) -> None:
    recording = recording_of(folder, kept)
    for number, each in enumerate(values, len(kept) + 1):
        recording.epoch(number, 4 * number, each)
    recording.end(None)


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
    recording = recording_of(folder)
    recording.epoch(1, 4, {"train/loss": 0.5})
    assert len(list(folder.metrics())) == 1
    recording.end(None)


def test_a_restart_keeps_what_it_is_told_to_keep(folder: RunFolder) -> None:
    recorded(folder, [], *({"train/loss": 1 / n} for n in (1, 2, 3)))
    kept = list(folder.metrics())[:2]
    recorded(folder, kept, {"train/loss": 0.25})
    assert list(folder.metrics())[:2] == kept
    assert [record["epoch"] for record in folder.metrics()] == [1, 2, 3]
    assert [record["train/loss"] for record in folder.metrics()] == [1, 0.5, 0.25]
    assert len(folder.event_files()) == 1


def test_a_checkpoint_counts_on_the_records_of_all_starts(folder: RunFolder) -> None:
    kept = [{"epoch": 1, "step": 4, "time": 0.0, "train/loss": 1.0}]
    states: list[dict[str, Any]] = []
    recording = make_recording(HeldFolder(folder), (), states.append)
    recording.begin(Beginning(trial_of(), "cpu", trial_of().course(4), step=4, records=kept))
    recording.save({"step": 4, **recording.count()})
    recording.epoch(2, 8, {"train/loss": 0.5})
    recording.save({"step": 8, **recording.count()})
    recording.end(None)
    records = list(folder.metrics())
    assert states == [
        {"step": 4, "records": 1, "checksum": checksum(kept)},
        {"step": 8, "records": 2, "checksum": checksum(records)},
    ]


class Witness(Sink):
    """Remembers what it is told of."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def begin(self, beginning: Beginning) -> None:
        self.told.append(beginning)

    def step(self, record: Record) -> None:
        self.told.append(("step", record["step"], sorted(set(record) - {"time"})))

    def epoch(self, record: Record) -> None:
        self.told.append(("epoch", record["epoch"], record["step"]))

    def end(self, result: Mapping[str, Any] | None) -> None:
        self.told.append(result and result["status"])


def test_a_sink_is_told_of_steps_epochs_hyper_parameters_and_the_end(runs: Path) -> None:
    trial, witness = trial_of(ADAM, epochs=2, log_every=3), Witness()
    train(trial, runs, sinks=[witness])
    beginning, *told = witness.told
    assert (beginning.step, beginning.course.in_pass) == (0, 4)
    assert beginning.records == []
    assert beginning.hyper_parameters["optimizer.lr"] == 0.01
    assert beginning.hyper_parameters["label"] == "tested"
    names = ["epoch", "step", *(f"step/{name}" for name in ("optim/lr", "train/accuracy"))]
    assert [each[:2] for each in told[:-1]] == [
        ("step", 3),
        ("epoch", 1),
        ("step", 7),
        ("epoch", 2),
    ]
    assert set(names) < set(told[0][2])
    assert told[-1] == "finished"


def test_a_sink_is_told_where_a_trial_goes_on(runs: Path) -> None:
    trial, first, second = trial_of(), Witness(), Witness()
    train(trial, runs, sinks=[first], stop=StopAt(6))
    assert first.told[-1] is None, "it was stopped"
    train(trial, runs, sinks=[second])
    beginning, *told = second.told
    assert beginning.step == 6
    assert [record["epoch"] for record in beginning.records] == [1]
    assert told == [("epoch", 2, 8), ("epoch", 3, 12), "finished"]


def test_every_sink_is_told_of_an_end_by_an_error(runs: Path) -> None:
    class Failing(Sink):
        def epoch(self, record: Record) -> None:
            raise ValueError("no network")

    witness = Witness()
    with pytest.raises(TrialError, match="no network"):
        train(trial_of(), runs, sinks=[Failing(), witness])
    assert witness.told[1:] == [None]
    assert not RunFolder.of(runs, trial_of()).progress_file.exists()


def test_one_more_sink_is_a_line_in_the_table(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    class Mine(Sink):
        def __init__(self, held: HeldFolder) -> None:
            self._file = held.append(held.folder.path / "mine.txt")

        def epoch(self, record: Record) -> None:
            self._file.write(f"{record['epoch']}\n".encode())

        def end(self, result: Mapping[str, Any] | None) -> None:
            self._file.close()
            told.append(result)

    monkeypatch.setitem(sinks.TABLE, "mine", f"{__name__}:Mine")
    monkeypatch.setattr(sys.modules[__name__], "Mine", Mine, raising=False)
    train(trial_of(), runs)
    folder = RunFolder.of(runs, trial_of())
    assert (folder.path / "mine.txt").read_text() == "1\n2\n3\n"
    assert told == [json.loads(folder.result_file.read_text())]


def test_of_several_processes_of_a_trial_the_first_records(folder: RunFolder) -> None:
    before = sorted(folder.path.iterdir())
    kept: list[dict[str, Any]] = []
    recording = make_recording(HeldFolder(folder), [Witness()], kept.append, rank=1)
    recording.begin(Beginning(trial_of(), "cpu", trial_of().course(4)))
    recording.epoch(1, 4, {"train/loss": 0.5})
    recording.save({"step": 4})
    recording.end(None)
    assert sorted(folder.path.iterdir()) == before
    assert len(kept) == 1, "each may have a part of a checkpoint to write"


def test_records_between_epochs_are_told_by_their_names() -> None:
    assert is_step_record({"epoch": 1, "step": 1, "step/train/loss": 1.0})
    assert not is_step_record({"epoch": 1, "step": 1, "train/loss": 1.0})


def test_the_line_of_a_diverged_epoch_says_that_its_loss_is_not_finite(
    folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        recorded(folder, [], {"train/loss": math.inf, "test/loss": 0.5})
    assert "train/loss not finite  test/loss 0.5" in caplog.text
