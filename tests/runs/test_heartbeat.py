"""The heartbeat of a running trial: what it says, and that it ends with the trial."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_spec import trials_of

from deltagclip_cli.plan.planned import find_status, look_up
from deltagclip_cli.runs import heartbeat
from deltagclip_cli.runs.folder import RunFolder, State
from deltagclip_cli.runs.heartbeat import Pulse, Start, read_heartbeat
from deltagclip_cli.runs.hold import create, hold

START = Start(epoch=1, batch=2, epochs=5, steps=4)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    """A run folder that is claimed, as that of a running trial is."""
    folder = RunFolder(tmp_path)
    with hold(folder):
        yield folder


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SECONDS_BETWEEN_BEATS", 1e-9)


def test_it_beats_before_the_first_step(folder: RunFolder) -> None:
    Pulse(folder, "cpu", START)
    beat = read_heartbeat(folder)
    assert beat is not None
    assert (beat.epoch, beat.epochs, beat.done) == (2, 5, 6 / 20)
    assert (beat.device, beat.seconds_left, beat.samples_per_second) == ("cpu", None, None)
    assert 0 <= beat.age_seconds < 60


def test_it_says_how_far_the_training_is_and_how_long_it_will_take(folder: RunFolder) -> None:
    pulse = Pulse(folder, "cpu", START)
    pulse.advanced(2, 3, samples=32)
    pulse.advanced(2, 4, samples=32)
    pulse.finished_epoch(2, {"train/loss": 0.5, "test/loss": float("nan")})
    pulse.advanced(3, 1, samples=32)
    beat = read_heartbeat(folder)
    assert beat is not None
    assert (beat.epoch, beat.done) == (3, 9 / 20)
    assert beat.metrics["train/loss"] == 0.5
    assert beat.samples_per_second is not None and beat.samples_per_second > 0
    assert beat.seconds_left is not None and beat.seconds_left > 0


def test_it_beats_at_most_so_often(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SECONDS_BETWEEN_BEATS", 3600.0)
    pulse = Pulse(folder, "cpu", START)
    pulse.advanced(2, 3, samples=32)
    beat = read_heartbeat(folder)
    assert beat is not None and beat.done == 6 / 20


def test_it_ends_with_the_training(folder: RunFolder) -> None:
    pulse = Pulse(folder, "cpu", START)
    pulse.close()
    assert read_heartbeat(folder) is None
    assert [path.name for path in folder.path.iterdir()] == [".lock"]
    pulse.close()


def test_a_heartbeat_that_a_killed_process_left_behind_does_not_count(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with hold(folder):
        Pulse(folder, "cpu", START)
        assert read_heartbeat(folder) is not None
    assert folder.progress_file.exists()
    assert read_heartbeat(folder) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"epoch": 1}', "[" * 100_000])
def test_a_heartbeat_that_cannot_be_read_is_none(folder: RunFolder, content: str) -> None:
    folder.progress_file.write_text(content)
    assert read_heartbeat(folder) is None


@pytest.mark.parametrize("value", ["null", '"1"', "1e999", "NaN", "[]", "true"])
@pytest.mark.parametrize("name", ["time", "done", "epoch", "pid", "metrics"])
def test_a_heartbeat_of_another_shape_is_none(folder: RunFolder, name: str, value: str) -> None:
    Pulse(folder, "cpu", START)
    said = json.loads(folder.progress_file.read_text())
    text = json.dumps({**said, name: "VALUE"}).replace('"VALUE"', value)
    folder.progress_file.write_text(text)
    assert read_heartbeat(folder) is None


def test_a_heartbeat_that_cannot_be_written_stops_nothing(folder: RunFolder) -> None:
    folder.progress_file.mkdir()
    pulse = Pulse(folder, "cpu", START)
    pulse.advanced(2, 3, samples=1)
    pulse.close()
    assert not list(folder.path.glob(".progress*"))


def test_it_is_plain_json(folder: RunFolder) -> None:
    Pulse(folder, "cuda:1", START)
    plain = json.loads(folder.progress_file.read_text())
    assert plain["device"] == "cuda:1"
    assert plain["pid"] > 0


@pytest.mark.parametrize(
    ("host", "age", "is_seen"),
    [
        ("another-node", 1.0, True),
        ("another-node", 3600.0, False),
        ("another-node", -3600.0, False),
        ("", 1.0, False),
    ],
)
def test_a_process_on_another_machine_is_seen_by_what_it_said_lately(
    tmp_path: Path, host: str, age: float, is_seen: bool
) -> None:
    (trial,) = trials_of(tmp_path)[:1]
    folder = RunFolder.of(tmp_path / "runs", trial)
    create(folder, trial)
    with hold(folder):
        Pulse(folder, "cpu", START)
    said = json.loads(folder.progress_file.read_text())
    said |= {"host": host or said["host"], "time": time.time() - age}
    folder.progress_file.write_text(json.dumps(said))
    assert (read_heartbeat(folder) is not None) is is_seen
    (planned,) = look_up([trial], tmp_path / "runs")
    assert (planned.state is State.RUNNING) is is_seen
    ((planned_status,), (stranger,)) = (
        find_status(tmp_path / "runs", known, ["tiny"]).trials for known in ([planned], [])
    )
    assert (planned_status.beat is not None) is (stranger.beat is not None) is is_seen
    assert (stranger.state is State.RUNNING) is is_seen
