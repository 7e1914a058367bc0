"""TensorBoard's view of a runs folder, from the real server and from its reader."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_cases import (
    ADAM,
    DELTA_GCLIP,
    ENVIRONMENT,
    StopAt,
    checkpoint,
    records,
    train,
    train_in_pieces,
    trial_of,
)

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import HeldFolder, create
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training.sinks import Beginning, make_recording

Curve = list[tuple[int, float]]


def single(value: float) -> float:
    """The value as TensorBoard keeps it, in float32."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def curves(folder: RunFolder) -> dict[str, Curve]:
    """What ``metrics.jsonl`` says: over epochs, or over steps where a name begins so."""
    found: dict[str, Curve] = {}
    for record in records(folder):
        for name, value in record.items():
            if "/" in name and value is not None:
                axis = "step" if name.startswith("step/") else "epoch"
                found.setdefault(name, []).append((record[axis], single(value)))
    return found


def events(folder: RunFolder) -> dict[str, Curve]:
    """What the event file says, read without leaving anything out."""
    accumulator = EventAccumulator(str(folder.path), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
    }


def test_events_are_the_metrics(runs: Path) -> None:
    trial = trial_of(log_every=1)
    train(trial, runs)
    folder = RunFolder.of(runs, trial)
    assert events(folder) == curves(folder)
    assert {"train/loss", "test/accuracy", "optim/lr", "step/train/loss"} <= set(events(folder))
    assert [step for step, _ in events(folder)["step/train/loss"]] == list(range(1, 13))


def test_every_point_has_the_time_of_its_record(runs: Path) -> None:
    trial = trial_of()
    train(trial, runs, stop=StopAt(6))
    time.sleep(0.01)
    train(trial, runs)
    folder = RunFolder.of(runs, trial)
    accumulator = EventAccumulator(str(folder.path))
    accumulator.Reload()
    shown = [event.wall_time for event in accumulator.Scalars("train/loss")]
    assert shown == [record["time"] for record in records(folder)]


def test_after_every_restart_there_is_one_file_without_doubled_steps(runs: Path) -> None:
    trial = trial_of(log_every=2)
    folder = RunFolder.of(runs, trial)
    train(trial, runs, stop=StopAt(6))
    (first,) = folder.event_files()
    first.replace(folder.path / "events.out.tfevents.1700000000.elsewhere.1.0")  # as of another day
    assert train_in_pieces(trial, runs) == 6
    assert len(folder.event_files()) == 1
    assert events(folder) == curves(folder)
    assert [step for step, _ in events(folder)["train/loss"]] == [1, 2, 3]


def test_of_a_training_in_steps_these_are_the_axis(runs: Path) -> None:
    trial = trial_of(epochs=None, steps=10, evaluate_every=3, log_every=3)
    train(trial, runs)
    read = events(RunFolder.of(runs, trial))
    assert [step for step, _ in read["test/loss"]] == [3, 6, 9, 10]
    assert [step for step, _ in read["step/train/loss"]] == [3, 6, 9]


def test_more_points_than_tensorboard_samples_are_all_there(runs: Path) -> None:
    """It keeps 10,000 of a curve unless it is told otherwise."""
    folder = RunFolder.of(runs, trial_of())
    create(folder, trial_of())
    made = [{"epoch": 1, "step": n, "time": 0.0, "step/train/loss": 1.0} for n in range(12_000)]
    recording = make_recording(HeldFolder(folder), (), lambda state: None)
    recording.begin(Beginning(trial_of(), "cpu", trial_of().course(4), records=made))
    recording.end(None)
    assert [step for step, _ in events(folder)["step/train/loss"]] == list(range(12_000))


def test_a_value_that_is_not_finite_is_left_out(runs: Path) -> None:
    trial = trial_of({"name": "sgd", "lr": 1e30})
    train(trial, runs)
    assert "train/loss" not in events(RunFolder.of(runs, trial))
    assert "optim/lr" in events(RunFolder.of(runs, trial))


# ---------------------------------------------------------------- the real server


class Server:
    """A TensorBoard that looks at a folder."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self.address = address

    def get(self, path: str, **query: str) -> Any:
        query_text = f"?{urllib.parse.urlencode(query)}" if query else ""
        with urllib.request.urlopen(
            f"{self.address}/data/{path}{query_text}", timeout=300
        ) as answer:
            return json.load(answer)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"{self.address}/data/{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.load(answer)

    def curve(self, run: str, tag: str) -> Curve:
        points = self.get("plugin/scalars/scalars", run=run, tag=tag)
        return [(int(step), float(value)) for _, step, value in points]

    def wait_for(self, runs: int) -> dict[str, Any]:
        """The tags of every run, as soon as so many are loaded."""
        for _ in range(1200):
            try:
                tags: dict[str, Any] = self.get("plugin/scalars/tags")
                if len(tags) >= runs:
                    return tags
            except urllib.error.URLError:
                pass
            time.sleep(0.1)
        raise AssertionError("TensorBoard has not loaded all runs")


@pytest.fixture
def tensorboard(runs: Path) -> Iterator[Server]:
    """The real TensorBoard over the runs folder, on a free port of this machine."""
    words = ["--logdir", str(runs), "--host", "127.0.0.1", "--port", "0", "--load_fast=auto"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", *words, "--reload_interval", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            if found:
                break
        else:
            pytest.fail("TensorBoard did not start")
        yield Server(process, found[0])
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture
def three_runs(runs: Path) -> list[Trial]:
    """A whole run, one that was interrupted after every fifth step, and one that goes on."""
    trials = [
        trial_of(DELTA_GCLIP, label="delta-gclip", log_every=2),
        trial_of(DELTA_GCLIP, label="delta-gclip", seed=1, log_every=2),
        trial_of(ADAM, label="adam"),
    ]
    train(trials[0], runs)
    train_in_pieces(trials[1], runs, 5)
    train(trials[2], runs, stop=StopAt(9))
    return trials


def test_tensorboard_shows_one_run_a_trial_with_its_curves_and_hyper_parameters(
    three_runs: list[Trial], runs: Path, tensorboard: Server
) -> None:
    tags = tensorboard.wait_for(len(three_runs))
    assert set(tags) == {trial.folder for trial in three_runs}
    for trial in three_runs:
        expected = curves(RunFolder.of(runs, trial))
        assert set(tags[trial.folder]) == set(expected)
        for tag in ("train/loss", "test/accuracy", "optim/lr", "step/train/loss"):
            if tag in expected:
                assert tensorboard.curve(trial.folder, tag) == expected[tag]

    experiment = tensorboard.post("plugin/hparams/experiment", {"hparamsLimit": 100})
    names = {info["name"] for info in experiment["hparamInfos"]}
    assert {"optimizer.name", "optimizer.lr", "seed", "label"} <= names
    assert {"optimizer.gamma", "optimizer.betas"} <= names, "each optimizer's own options"
    metrics = {info["name"]["tag"] for info in experiment["metricInfos"]}
    assert {"test/accuracy", "test/loss"} <= metrics

    asked = {
        "startIndex": 0,
        "sliceSize": 10,
        "allowedStatuses": [
            "STATUS_UNKNOWN",
            "STATUS_SUCCESS",
            "STATUS_FAILURE",
            "STATUS_RUNNING",
        ],
        "colParams": [{"metric": {"tag": "test/loss", "group": ""}}],
    }
    groups = tensorboard.post("plugin/hparams/session_groups", asked)["sessionGroups"]
    assert len(groups) == len(three_runs)
    by_run = {group["name"]: group for group in groups}
    for trial in three_runs:
        group = by_run[trial.folder]
        shown = group["hparams"]
        assert shown["optimizer.name"] == trial.optimizer.name
        assert shown["optimizer.lr"] == trial.optimizer.options["lr"]
        assert shown["seed"] == trial.seed
        assert shown["label"] == trial.label
        values = {value["name"]["tag"]: value["value"] for value in group["metricValues"]}
        last = records(RunFolder.of(runs, trial))[-1]
        if "test/loss" in last:
            assert values["test/loss"] == pytest.approx(last["test/loss"], rel=1e-6)


def test_tensorboard_that_is_open_sees_a_run_go_on_without_doubled_steps(
    three_runs: list[Trial], runs: Path, tensorboard: Server
) -> None:
    trial = three_runs[2]
    tensorboard.wait_for(len(three_runs))
    assert len(tensorboard.curve(trial.folder, "train/loss")) == 2
    assert checkpoint(RunFolder.of(runs, trial))["step"] == 9
    train(trial, runs)
    expected = curves(RunFolder.of(runs, trial))["train/loss"]
    for _ in range(1200):
        if len(tensorboard.curve(trial.folder, "train/loss")) >= 3:
            break
        time.sleep(0.1)
    assert tensorboard.curve(trial.folder, "train/loss") == expected
