"""The heartbeat of a running trial: what it says, and that it ends with the trial."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from run_cases import beating
from tiny_spec import trials_of

from deltagclip_cli.plan.planned import find_status, look_up
from deltagclip_cli.runs.folder import RunFolder, State, read_heartbeat
from deltagclip_cli.runs.hold import HeldFolder, create, hold
from deltagclip_cli.training.sinks import HeartbeatWriter


@pytest.fixture
def held(tmp_path: Path) -> Iterator[HeldFolder]:
    """A run folder that is claimed, as that of a running trial is."""
    with hold(RunFolder(tmp_path)) as held:
        yield held


@pytest.fixture
def folder(held: HeldFolder) -> RunFolder:
    return held.folder


PAUSE = "deltagclip_cli.training.sinks.SECONDS_BETWEEN_BEATS"


def begun(held: HeldFolder, device: str = "cpu") -> HeartbeatWriter:
    """The heartbeat of a trial that goes on in the middle of its second epoch of five."""
    return beating(held, epoch=1, batch=2, epochs=5, steps=4, device=device)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PAUSE, 1e-9)


def test_it_beats_before_the_first_step(held: HeldFolder, folder: RunFolder) -> None:
    begun(held)
    beat = read_heartbeat(folder)
    assert beat is not None
    assert (beat.epoch, beat.epochs, beat.done) == (2, 5, 6 / 20)
    assert (beat.device, beat.seconds_left, beat.samples_per_second) == ("cpu", None, None)
    assert 0 <= beat.age_seconds < 60


def test_it_says_how_far_the_training_is_and_how_long_it_will_take(
    held: HeldFolder, folder: RunFolder
) -> None:
    heartbeat = begun(held)
    heartbeat.batch(7, samples=32)
    heartbeat.batch(8, samples=32)
    heartbeat.epoch({"epoch": 2, "step": 8, "train/loss": 0.5, "test/loss": None})
    heartbeat.batch(9, samples=32)
    beat = read_heartbeat(folder)
    assert beat is not None
    assert (beat.epoch, beat.done) == (3, 9 / 20)
    assert beat.metrics["train/loss"] == 0.5
    assert beat.samples_per_second is not None and beat.samples_per_second > 0
    assert beat.seconds_left is not None and beat.seconds_left > 0


def test_after_a_restart_the_time_that_is_left_follows_from_the_steps_of_this_start(
    held: HeldFolder, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    heartbeat = begun(held)
    now += 8.0
    heartbeat.batch(10, samples=32)  # four of the fourteen steps that were left
    beat = read_heartbeat(folder)
    assert beat is not None and beat.seconds_left == pytest.approx(20.0)


def test_it_beats_at_most_so_often(
    held: HeldFolder, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PAUSE, 3600.0)
    heartbeat = begun(held)
    heartbeat.batch(7, samples=32)
    beat = read_heartbeat(folder)
    assert beat is not None and beat.done == 6 / 20


def test_it_ends_with_the_training(held: HeldFolder, folder: RunFolder) -> None:
    heartbeat = begun(held)
    heartbeat.end(None)
    assert read_heartbeat(folder) is None
    assert [path.name for path in folder.path.iterdir()] == [".lock"]
    heartbeat.end(None)


def test_a_heartbeat_that_a_killed_process_left_behind_does_not_count(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with hold(folder) as held:
        begun(held)
        assert read_heartbeat(folder) is not None
    assert folder.progress_file.exists()
    assert read_heartbeat(folder) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"epoch": 1}', "[" * 100_000])
def test_a_heartbeat_that_cannot_be_read_is_none(
    held: HeldFolder, folder: RunFolder, content: str
) -> None:
    folder.progress_file.write_text(content)
    assert read_heartbeat(folder) is None


@pytest.mark.parametrize("value", ["null", '"1"', "1e999", "NaN", "[]", "true"])
@pytest.mark.parametrize("name", ["time", "done", "epoch", "pid", "metrics"])
def test_a_heartbeat_of_another_shape_is_none(
    held: HeldFolder, folder: RunFolder, name: str, value: str
) -> None:
    begun(held)
    said = json.loads(folder.progress_file.read_text())
    text = json.dumps({**said, name: "VALUE"}).replace('"VALUE"', value)
    folder.progress_file.write_text(text)
    assert read_heartbeat(folder) is None


def test_a_heartbeat_that_cannot_be_written_stops_nothing(
    held: HeldFolder, folder: RunFolder
) -> None:
    folder.progress_file.mkdir()
    heartbeat = begun(held)
    heartbeat.batch(7, samples=1)
    heartbeat.end(None)
    assert not list(folder.path.glob(".progress*"))


def test_it_is_plain_json(held: HeldFolder, folder: RunFolder) -> None:
    begun(held, "cuda:1")
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
    with hold(folder) as held:
        begun(held)
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
