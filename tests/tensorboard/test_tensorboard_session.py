"""TensorBoard's folder while runs go on: reread when something changed, and only then."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NoReturn

import pytest
from event_files import NAME, scalar, write
from run_cases import make_events

from deltagclip_cli.core import UsageError
from deltagclip_cli.results.read.tree import Place
from deltagclip_cli.tensorboard import server
from deltagclip_cli.tensorboard import session as tensorboard_session
from deltagclip_cli.tensorboard.session import Board


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two seeds of an optimizer that is going on."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for seed in range(2):
        make_events(tmp_path / "logs" / f"adam_seed{seed}", {"test/loss": [2.0, 1.0]})
    return tmp_path / "logs"


def board_of(logs: Path) -> Board:
    """What is shown of some runs for the first time."""
    board = Board(Place([str(logs)], logs), logs.parent / "board", quiet=True)
    board.write(board.read())
    return board


def refuse(*args: object, **kwargs: object) -> NoReturn:
    raise AssertionError("the runs were read although nothing had changed")


def test_nothing_is_read_while_nothing_changes(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = board_of(logs)
    monkeypatch.setattr(Place, "read", refuse)
    assert board.refresh() == 0
    assert board.pause == 30.0


def test_a_new_point_changes_the_means_and_nothing_else(logs: Path) -> None:
    board = board_of(logs)
    before = {path: files.written for path, files in board.plan.runs.items()}
    write(logs / "adam_seed1" / NAME, scalar("test/loss", 2, 0.5, wall_time=1e9 + 20))
    assert board.refresh() == 2
    changed = {path for path, files in board.plan.runs.items() if files.written != before[path]}
    assert changed == {"logs/adam", "logs/adam/mean"}, "one seed has no standard error there"
    assert board.refresh() == 0


def test_a_new_run_is_added_with_its_charts(logs: Path) -> None:
    board = board_of(logs)
    make_events(logs / "sgd_seed0", {"test/loss": [3.0]})
    assert board.refresh() > 0
    assert {"logs/sgd", "logs/sgd/seed-0", "logs/adam"} <= set(board.plan.runs)


def test_runs_that_are_moved_away_stay_as_they_were(logs: Path) -> None:
    board = board_of(logs)
    shown = dict(board.plan.runs)
    shutil.rmtree(logs)
    assert board.refresh() == 0
    assert board.plan.runs == shown


def test_reading_that_takes_long_is_done_less_often(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = board_of(logs)
    clock = iter([0.0, 10.0])
    monkeypatch.setattr(tensorboard_session.time, "monotonic", lambda: next(clock))
    board.refresh()
    assert board.pause == pytest.approx(200.0)


def test_without_runs_there_is_nothing_to_show(logs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    board = Board(Place([str(tmp_path / "empty")], logs), tmp_path / "board", quiet=True)
    with pytest.raises(UsageError, match="there are no runs"):
        board.read()


def test_too_many_files_are_left_out_and_that_is_said(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "most_open_files", lambda: 250 + 6)
    board = Board(Place([str(logs)], logs), logs.parent / "board", quiet=True)
    reading = board.read()
    board.write(reading)
    assert board.plan.count <= 6
    assert "may open 6 event files here, so 6 are left out" in board.problems(reading)[-1]
