"""The records of a trial that is running, as they come."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deltagclip_cli.runs import growing
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.growing import GrowingRecords


def line(epoch: int, name: str = "train/loss") -> str:
    return json.dumps({"epoch": epoch, "step": epoch, "time": 1.0, name: 0.5}) + "\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return RunFolder(tmp_path).metrics_file


def epochs(records: GrowingRecords) -> list[int]:
    return [each["epoch"] for each in records.look()]


def test_each_look_finds_what_is_new_and_whole(file: Path, tmp_path: Path) -> None:
    records = GrowingRecords(RunFolder(tmp_path))
    assert epochs(records) == [], "there is no file yet"
    file.write_text(line(1) + line(2, "step/train/loss") + line(2)[:20])
    assert epochs(records) == [1]
    file.write_text(line(1) + line(2, "step/train/loss") + line(2) + line(3))
    assert epochs(records) == [2, 3]
    assert epochs(records) == []
    assert len(records.epochs) == 3


def test_a_file_that_a_start_wrote_anew_is_read_from_its_beginning(
    file: Path, tmp_path: Path
) -> None:
    records = GrowingRecords(RunFolder(tmp_path))
    file.write_text(line(1) + line(2) + line(3))
    records.look()
    (tmp_path / "new").write_text("".join(map(line, range(1, 5))))
    (tmp_path / "new").replace(file)
    assert epochs(records) == [1, 2, 3, 4]
    assert len(records.epochs) == 4


def test_a_long_file_is_read_in_several_looks(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing, "_MOST_BYTES", 2 * len(line(1)))
    file.write_text(line(1) + line(2) + line(3))
    records = GrowingRecords(RunFolder(tmp_path))
    assert [epochs(records), epochs(records)] == [[1, 2], [3]]
