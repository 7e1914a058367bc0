"""Every run below some folders is found, once, in order, whoever made it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from event_files import NAME
from run_cases import lines, make_events, make_run, record
from tiny_spec import trial_of, trials_of

from deltagclip_cli.results.read.grouping import Naming
from deltagclip_cli.results.read.run import Outcome, Reading
from deltagclip_cli.results.read.tree import read_tree


def read(*roots: Path) -> Reading:
    return read_tree(roots, Naming())


def folders(reading: Reading, root: Path) -> list[str]:
    return [run.folder.relative_to(root).as_posix() for run in reading.runs]


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    return folder


def test_our_runs_and_those_of_others_are_found_side_by_side(tmp_path: Path, logs: Path) -> None:
    ours = make_run(logs / "mixed", trial_of(tmp_path), status="finished")
    # Our runs have event files too, which are not read.
    make_events(ours.path, {"test/loss": [9]})
    make_events(logs / "mixed" / "tiny" / "adam_seed1", {"test_loss": [1]})
    make_events(logs / "alone", {"test_loss": [1]})
    reading = read(logs)
    names = ["mixed/" + ours.path.relative_to(logs / "mixed").as_posix(), "alone"]
    assert folders(reading, logs) == [*names, "mixed/tiny/adam_seed1"]
    group = reading.runs[2].group
    assert (group.experiment, group.optimizer) == ("logs", "mixed/tiny/adam")
    assert [run.curves["test/loss"].values.tolist() for run in reading.runs] == [
        [0.5, 0.5],
        [1],
        [1],
    ]
    assert list(reading.problems) == []


def test_runs_come_in_order_of_their_names_at_every_depth(logs: Path) -> None:
    names = ["b/z", "b", "a/y/x", "a/y", "c", "a/b", "B", "a-b"]
    for name in names:
        make_events(logs / name, {"loss": [1]})
    assert folders(read(logs), logs) == ["B", "a/b", "a/y", "a/y/x", "a-b", "b", "b/z", "c"]


def test_roots_are_read_in_the_order_in_which_they_are_given(logs: Path) -> None:
    for name in ("a/x", "b/x"):
        make_events(logs / name, {"loss": [1]})
    assert folders(read(logs / "b", logs / "a"), logs) == ["b/x", "a/x"]


def test_what_lies_below_two_roots_is_read_once(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/x", "b"):
        make_events(logs / name, {"loss": [1]})
    monkeypatch.chdir(logs)
    assert folders(read(logs, logs), logs) == ["a/x", "b"]
    assert folders(read(logs, logs / "a"), logs) == ["a/x", "b"]
    assert folders(read(logs / "a", logs), logs) == ["a/x", "b"]
    assert [run.folder for run in read(Path("a"), logs).runs] == [Path("a/x"), logs / "b"]


def test_one_run_may_be_named_alone(tmp_path: Path, logs: Path) -> None:
    ours = make_run(logs, trial_of(tmp_path), status="finished")
    others = make_events(logs / "adam_seed3", {"loss": [1]})
    one, other = read(ours.path, others).runs
    assert (one.folder, one.group.experiment, one.group.optimizer) == (ours.path, "tiny", "sgd")
    assert (other.folder, other.group.experiment) == (others, "logs")
    assert (other.group.optimizer, other.seed) == ("adam", "3")


def test_an_empty_folder_has_no_runs_and_no_problems(logs: Path) -> None:
    (logs / "deep" / "down").mkdir(parents=True)
    (logs / "notes.txt").touch()
    assert read(logs) == Reading([], [])
    assert read() == Reading([], [])


def test_hidden_folders_are_passed_over_unless_they_are_named(logs: Path) -> None:
    make_events(logs / ".old" / "run", {"loss": [1]})
    make_events(logs / "new" / ".trash", {"loss": [1]})
    make_events(logs / "new" / "run", {"loss": [1]})
    assert folders(read(logs), logs) == ["new/run"]
    assert folders(read(logs / ".old"), logs) == [".old/run"]


def test_hidden_folders_are_read_where_there_is_nothing_else(logs: Path) -> None:
    make_events(logs / ".guild" / "runs" / "b", {"loss": [1]})
    make_events(logs / "other" / ".git", {"loss": [1]})
    (logs / "docs").mkdir()
    assert folders(read(logs), logs) == [".guild/runs/b", "other/.git"]


def test_folders_are_searched_below_runs_of_others_but_not_below_ours(
    tmp_path: Path, logs: Path
) -> None:
    """Some writers put a run of their own below that of the whole."""
    ours = make_run(logs, trial_of(tmp_path))
    make_events(ours.path / "below", {"loss": [1]})
    make_events(logs / "theirs", {"loss": [1]})
    make_events(logs / "theirs" / "below", {"loss": [1]})
    found = folders(read(logs), logs)
    assert found[1:] == ["theirs", "theirs/below"]
    assert found[0] == ours.path.relative_to(logs).as_posix()


def test_links_are_followed_and_may_go_in_circles(tmp_path: Path, logs: Path) -> None:
    make_events(tmp_path / "elsewhere" / "run", {"loss": [1]})
    (tmp_path / "elsewhere" / "run" / "up").symlink_to(logs)
    (logs / "b").symlink_to(tmp_path / "elsewhere")
    (logs / "c").symlink_to(tmp_path / "elsewhere")
    (logs / "d").symlink_to(logs)
    assert folders(read(logs), logs) == ["b/run"]


def test_a_link_to_itself_does_not_hide_what_lies_beside_it(logs: Path) -> None:
    for number in range(20):  # before and behind it, in whatever order the disk has
        make_events(logs / f"run{'x' * number}", {"loss": [1]})
    (logs / "loop").symlink_to(logs / "loop")
    (logs / "nowhere").symlink_to(logs / "gone")
    reading = read(logs)
    assert len(reading.runs) == 20
    assert list(reading.problems) == []


def test_a_folder_that_cannot_be_listed_is_a_problem(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        make_events(logs / name, {"loss": [1]})
    scandir = os.scandir

    def guarded(path: Any) -> Any:
        if Path(path) == logs / "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    reading = read(logs)
    assert folders(reading, logs) == ["a", "c"]
    assert list(reading.problems) == [f"{logs / 'b'}: cannot be listed: Permission denied."]


def test_problems_come_together_so_that_a_terminal_does_not_obey_them(
    tmp_path: Path, logs: Path
) -> None:
    strange = logs / "a\x1b[31m\nb\udcff"
    torn = make_run(strange, trial_of(tmp_path), lines(record(1)) + b"\n", status="finished")
    unreadable = make_run(strange, trials_of(tmp_path)[1])
    unreadable.trial_file.write_text("what?")
    (make_events(strange / "theirs", {"loss": [1]}) / NAME).write_bytes(b"what?")
    reading = read(logs)
    shown = f"{logs}/a\\x1b[31m\\nb\\udcff"
    assert [run.outcome for run in reading.runs] == [Outcome.UNFINISHED]
    assert all(problem.isprintable() for problem in reading.problems)
    assert sorted(problem.split(": ")[0] for problem in reading.problems) == sorted(
        [
            f"{shown}{str(unreadable.trial_file).removeprefix(str(strange))}",
            f"{shown}{str(torn.metrics_file).removeprefix(str(strange))}",
            f"{shown}/theirs/{NAME}",
        ]
    )


def test_two_folders_of_runs_with_one_name_are_one_experiment(tmp_path: Path) -> None:
    """Their specs differ, which shows as the conditions of their groups."""
    for name, epochs in (("old", "epochs=1"), ("new", "epochs=2")):
        make_run(tmp_path / name, trial_of(tmp_path, epochs), status="finished")
    reading = read(tmp_path / "old", tmp_path / "new")
    assert [(run.group.experiment, dict(run.group.conditions)) for run in reading.runs] == [
        ("tiny", {"epochs": "1"}),
        ("tiny", {"epochs": "2"}),
    ]
