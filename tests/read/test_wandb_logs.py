"""W&B's files: as its library writes them offline, cut, damaged, and without the library."""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from run_cases import make_events

from deltagclip_cli.results.read.grouping import Naming
from deltagclip_cli.results.read.run import Outcome, Reading, Run
from deltagclip_cli.results.read.tree import read_tree

wandb_logs = pytest.importorskip("deltagclip_cli.results.read.wandb_logs")
records = pytest.importorskip("wandb.proto.wandb_internal_pb2")


def file_of(*contents: Any) -> bytes:
    """Write records as W&B does."""
    content = wandb_logs._BEGIN
    for record in contents:
        rest, kind = record.SerializeToString(), wandb_logs._FIRST
        while True:
            left = wandb_logs._BLOCK - len(content) % wandb_logs._BLOCK
            if left < wandb_logs._HEADER.size:
                content += bytes(left)
                continue
            piece, rest = rest[: left - 7], rest[left - 7 :]
            if not rest:
                kind = wandb_logs._FULL if kind == wandb_logs._FIRST else wandb_logs._LAST
            checksum = wandb_logs.zlib.crc32(bytes([kind]) + piece)
            content += wandb_logs._HEADER.pack(checksum, len(piece), kind) + piece
            if not rest:
                break
            kind = wandb_logs._MIDDLE
    return bytes(content)


def begun(name: str = "", **config: str) -> Any:
    """The record of a run's beginning; values as JSON."""
    record = records.Record()
    record.run.display_name = name
    record.run.start_time.FromSeconds(1_700_000_000)
    for key, value in config.items():
        record.run.config.update.add(key=key, value_json=value)
    return record


def logged(step: int, **values: str) -> Any:
    record = records.Record()
    record.history.step.num = step
    for key, value in {"_timestamp": str(1_700_000_000 + step), **values}.items():
        record.history.item.add(nested_key=key.split("__"), value_json=value)
    return record


def exited(code: int = 0) -> Any:
    record = records.Record()
    record.exit.SetInParent()
    record.exit.exit_code = code
    return record


def put(root: Path, number: int, content: bytes) -> Path:
    folder = root / "wandb" / f"offline-run-20240101_12000{number}-abcdefg{number}"
    folder.mkdir(parents=True)
    path = folder / f"run-abcdefg{number}.wandb"
    path.write_bytes(content)
    return path


def read(root: Path) -> Reading:
    return read_tree([root], Naming())


def only(root: Path) -> Run:
    (run,) = read(root).runs
    return run


@pytest.mark.slow
def test_what_the_library_writes_offline_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    monkeypatch.setenv("WANDB_SILENT", "true")
    for optimizer in ("adam", "sgd"):
        for seed in (0, 1):
            config = {"optim": {"name": optimizer}, "lr": 0.1, "seed": seed}
            run = wandb.init(mode="offline", project="p", config=config, dir=str(tmp_path))
            for step in range(3):
                run.log({"train/loss": 1 / (step + 1), "val": {"acc": step / 4}})
            run.log({"train/loss": math.inf})
            run.summary["best"] = 3.0
            run.finish()
    assert os.path.islink(tmp_path / "wandb" / "latest-run")
    reading, end = read(tmp_path), time.monotonic() + 300
    while reading.problems and time.monotonic() < end:  # its other process is still writing
        time.sleep(0.1)
        reading = read(tmp_path)
    assert list(reading.problems) == []
    groups = sorted((run.group.name, run.seed) for run in reading.runs)  # names are random
    assert groups == [("adam", "0"), ("adam", "1"), ("sgd", "0"), ("sgd", "1")]
    for run in reading.runs:
        assert run.curves["train/loss"].values.tolist() == [1, 1 / 2, 1 / 3, math.inf]
        assert run.curves["val/accuracy"].values.tolist() == [0, 1 / 4, 2 / 4]
        assert run.curves["best"].values.tolist() == [3.0]
        assert run.outcome is Outcome.DIVERGED


def test_steps_times_and_what_only_the_summary_has_are_read(tmp_path: Path) -> None:
    summary = records.Record()
    summary.summary.update.add(key="best", value_json="0.75")
    summary.summary.update.add(key="loss", value_json="0.25")
    put(tmp_path, 1, file_of(begun(), logged(0, loss="0.5"), logged(5, loss='"NaN"'), summary,
                             logged(6, loss="0.25"), exited()))  # fmt: skip
    run = only(tmp_path)
    assert run.curves["loss"].steps.tolist() == [0, 5, 6]
    assert run.curves["loss"].seconds.tolist() == [0, 5, 6]
    assert math.isnan(run.curves["loss"].values[1])
    assert (run.curves["best"].steps.tolist(), run.curves["best"].values.tolist()) == ([6], [0.75])
    assert run.outcome is Outcome.FINISHED


def test_a_count_of_ones_own_goes_before_that_of_the_calls(tmp_path: Path) -> None:
    defined = records.Record()
    defined.metric.glob_name, defined.metric.step_metric = "val.*", "epoch"
    put(tmp_path, 1, file_of(
        begun(), defined,
        logged(1, loss="0.5", **{"trainer/global_step": "49"}),
        logged(2, val__acc="0.5", epoch="1", **{"trainer/global_step": "99"}),
        exited(),
    ))  # fmt: skip
    run = only(tmp_path)
    assert list(run.curves) == ["loss", "val/accuracy"]
    assert [each.steps.tolist() for each in run.curves.values()] == [[49], [1]]


def test_a_count_that_goes_back_is_told_of(tmp_path: Path) -> None:
    counts = [logged(n, loss="0.5", global_step=str(count)) for n, count in enumerate([1, 2, 3, 1])]
    path = put(tmp_path, 1, file_of(begun(), *counts, exited()))
    reading = read(tmp_path)
    assert reading.runs[0].curves["loss"].steps.tolist() == [1]
    (said,) = reading.problems
    assert said.startswith(f"{path}: a restart went back") and "from 2 to 3 are left out" in said


def test_runs_are_named_as_they_were_called_or_by_their_config(tmp_path: Path) -> None:
    for number, (name, seed) in enumerate([("mine", 0), ("mine", 1), ("", 0), ("", 1)]):
        begin = begun(name, optimizer='"adam"', seed=str(seed), _wandb="{}")
        put(tmp_path, number, file_of(begin, logged(1, loss="0.5"), exited()))
    (tmp_path / "wandb" / "latest-run").symlink_to("offline-run-20240101_120003-abcdefg3")
    groups = [(run.group.name, run.seed) for run in read(tmp_path).runs]
    assert groups == [("mine", "0"), ("mine", "1"), ("adam", "0"), ("adam", "1")]


@pytest.mark.parametrize(
    ("end", "outcome", "reason"),
    [
        ([exited(1)], Outcome.FAILED, "exit code 1"),
        ([], Outcome.UNFINISHED, "W&B's file has no end: it was killed, or is still running"),
    ],
)
def test_how_a_run_ended_is_what_the_file_says(
    tmp_path: Path, end: list[Any], outcome: Outcome, reason: str
) -> None:
    put(tmp_path, 1, file_of(begun(), logged(1, loss="0.5"), *end))
    run = only(tmp_path)
    assert (run.outcome, run.reason) == (outcome, reason)


def test_a_record_longer_than_a_block_is_put_together(tmp_path: Path) -> None:
    long = f'"{"x" * 100_000}"'
    put(tmp_path, 1, file_of(begun(), *(logged(n, loss="0.5", note=long) for n in range(3)),
                             exited()))  # fmt: skip
    assert only(tmp_path).curves["loss"].steps.tolist() == [0, 1, 2]


CUT = "ends in the middle of a record, after 2 whole ones; it is cut off, or still being written"
DAMAGED = "damaged after record 2; what follows was not read"


@pytest.mark.parametrize("what", ["cut in a record", "cut in a header", "damaged", "no record"])
def test_of_a_file_that_is_not_whole_what_comes_before_is_read(tmp_path: Path, what: str) -> None:
    start = file_of(begun(), logged(1, loss="0.5"))
    whole = file_of(begun(), logged(1, loss="0.5"), logged(2, loss="0.25"))
    damaged = whole[: len(start) + 20] + b"\0" + whole[len(start) + 21 :]
    nonsense = wandb_logs._HEADER.pack(wandb_logs.zlib.crc32(b"\1what"), 4, 1) + b"what"
    content, problem = {
        "cut in a record": (whole[:-5], CUT),
        "cut in a header": (start + b"\0\0\0", CUT),
        "damaged": (damaged, DAMAGED),
        "no record": (start + nonsense, DAMAGED),
    }[what]
    path = put(tmp_path, 1, content)
    reading = read(tmp_path)
    (run,) = reading.runs
    assert run.curves["loss"].values.tolist() == [0.5]
    assert list(reading.problems) == [f"{path}: {problem}."]
    assert (run.outcome, run.reason) == (
        Outcome.UNFINISHED,
        "its log cannot be read to its end, from step 1 on",
    )


def test_a_file_of_something_else_is_told_of(tmp_path: Path) -> None:
    path = put(tmp_path, 1, b"what?")
    make_events(tmp_path / "adam", {"loss": [1]})
    words = "no file of W&B of the only version that is known"
    assert list(read(tmp_path).problems) == [f"{path}: {words}."]


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wandb", None)
    yield


def test_without_the_library_it_is_said_once_how_to_get_it(
    tmp_path: Path, no_library: None
) -> None:
    for number in range(3):
        put(tmp_path, number, file_of(begun(), logged(1, loss="0.5"), exited()))
    make_events(tmp_path / "adam", {"loss": [1]})
    reading = read(tmp_path)
    assert [run.group.name for run in reading.runs] == ["adam"]
    (problem,) = reading.problems
    assert problem == (
        f"{tmp_path / 'wandb'}: runs of W&B are read with its library;"
        " pip install 'deltagclip_cli[wandb]'"
    )


def test_event_files_among_those_of_a_run_are_read_only_where_its_own_tells_nothing(
    tmp_path: Path,
) -> None:
    path = put(tmp_path, 1, file_of(begun(), logged(1, loss="0.5"), exited()))
    make_events(path.parent / "files", {"loss": [0.25]})
    assert only(tmp_path).curves["loss"].values.tolist() == [0.5]
    path.write_bytes(file_of(begun(), exited()))
    assert only(tmp_path).curves["loss"].values.tolist() == [0.25]
    shutil.rmtree(path.parent / "files")
    assert read(tmp_path).runs == []
