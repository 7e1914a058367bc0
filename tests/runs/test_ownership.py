"""Whose a run folder is, and what is written by a process that it was taken from: nothing."""

from __future__ import annotations

import ast
import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_cases import beating

from deltagclip_cli import training
from deltagclip_cli.core import ClaimedError, ExitCode, TakenOverError, write_text
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import HeldFolder, Owner, read_owner
from deltagclip_cli.training import sinks
from deltagclip_cli.training.process import EPOCHS, left_to_others, logged_in

SLURM = ["SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_JOB_ID", "SLURM_RESTART_COUNT"]


@pytest.fixture(autouse=True)
def outside_of_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "seed-0-00000000")
    made.path.mkdir()
    return made


def taken(folder: RunFolder) -> HeldFolder:
    """The folder as a process holds it that has not noticed that others hold it, too."""
    held = HeldFolder(folder)
    held.take()
    return held


def contents(folder: RunFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.path.iterdir()}


def test_the_owner_is_this_process_with_a_token_of_its_own(folder: RunFolder) -> None:
    assert read_owner(folder) is None
    taken(folder)
    first = read_owner(folder)
    assert first is not None
    assert (first.host, first.pid) == (socket.gethostname(), os.getpid())
    assert (first.job, first.restart) == ("", 0)
    assert abs(first.since - time.time()) < 60
    taken(folder)
    second = read_owner(folder)
    assert second is not None
    assert second.token != first.token
    assert list(contents(folder)) == ["owner.json"]


@pytest.mark.parametrize(
    ("values", "job", "restart"),
    [
        (["71", "4", "75", "2"], "71_4", 2),
        (["71", "0", "71", ""], "71_0", 0),
        (["", "", "75", "0"], "75", 0),
        (["", "", "", ""], "", 0),
    ],
)
def test_the_owner_names_its_job(
    values: list[str], job: str, restart: int, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in zip(SLURM, values, strict=True):
        if value:
            monkeypatch.setenv(name, value)
    taken(folder)
    owner = read_owner(folder)
    assert owner is not None
    assert (owner.job, owner.restart) == (job, restart)


@pytest.mark.parametrize(
    ("content", "owner"),
    [
        ('{"token": "a", "host": "b", "pid": 3, "rank": 7}', Owner("a", "b", 3)),
        ('{"token": "a"}', Owner("a")),
        ('{"host": "b"}', None),
        ('{"token": "a', None),
        ("[]", None),
        ("3", None),
        ("null", None),
        ('"token"', None),
        ("", None),
        ("\0" * 40, None),
    ],
)
def test_what_other_versions_or_disks_made_of_it_is_no_error(
    content: str, owner: Owner | None, folder: RunFolder
) -> None:
    folder.owner_file.write_text(content)
    assert read_owner(folder) == owner
    folder.owner_file.write_bytes(b"\xff\xfe")
    assert read_owner(folder) is None


def test_an_owner_may_write_until_another_process_takes_over(folder: RunFolder) -> None:
    old = taken(folder)
    old.check()
    new = taken(folder)
    new.check()
    with pytest.raises(TakenOverError):
        old.check()
    new.release()
    with pytest.raises(TakenOverError, match=r"owner\.json is gone"):
        old.check()


@pytest.mark.parametrize(
    ("owner", "words"),
    [
        ('{"token": "x", "host": "node7", "pid": 99, "job": "123_4"}', "job 123_4 on node7 (pr"),
        ('{"token": "x", "host": "node7", "pid": 99}', "process 99 on node7 has taken over"),
        ("torn", "another process has taken over"),
    ],
)
def test_it_is_said_who_has_taken_over(owner: str, words: str, folder: RunFolder) -> None:
    held = taken(folder)
    folder.owner_file.write_text(owner)
    with pytest.raises(ClaimedError) as caught:
        held.check()
    assert str(caught.value).startswith(f"{folder.path}: {words}")
    assert str(caught.value).endswith("this run folder; this process stops writing.")
    assert caught.value.exit_code == ExitCode.USAGE


def test_only_who_owns_a_folder_releases_it(folder: RunFolder) -> None:
    old, new = taken(folder), taken(folder)
    old.release()
    assert read_owner(folder) is not None
    HeldFolder(folder).release()  # never taken
    assert read_owner(folder) is not None
    new.release()
    assert not folder.owner_file.exists()
    new.release()


def test_what_a_killed_process_left_is_replaced_and_until_then_stops_nobody(
    folder: RunFolder,
) -> None:
    folder.owner_file.write_text('{"token": "of one that was killed"}')
    held = HeldFolder(folder)
    held.check()
    held.take()
    held.check()
    late = HeldFolder(folder)
    taken(folder)
    with pytest.raises(TakenOverError):
        late.check()


def test_a_folder_that_is_removed_is_not_taken_over_but_one_made_anew_is(
    folder: RunFolder,
) -> None:
    held = taken(folder)
    shutil.rmtree(folder.path)
    held.check()
    held.release()
    folder.path.mkdir()
    with pytest.raises(TakenOverError):
        held.check()
    taken(folder)
    with pytest.raises(TakenOverError):
        held.check()


def test_an_owner_that_cannot_be_read_is_the_error_that_it_is(folder: RunFolder) -> None:
    held = taken(folder)
    folder.owner_file.unlink()
    folder.owner_file.mkdir()
    with pytest.raises(IsADirectoryError):
        held.check()
    held.release()
    assert read_owner(folder) is None


# ---------------------------------------------------------------- those who write


def write(held: HeldFolder) -> None:
    held.write(held.folder.result_file, "{}")


def append(held: HeldFolder) -> None:
    held.append(held.folder.metrics_file)


def rename(held: HeldFolder) -> None:
    held.rename(held.folder.checkpoint_file, held.folder.previous_checkpoint_file)


def remove(held: HeldFolder) -> None:
    held.remove(held.folder.checkpoint_file)


def fail(held: HeldFolder) -> None:
    held.record_failure(ValueError("why"), "why")


WRITERS = [
    write,
    append,
    rename,
    remove,
    fail,
    lambda held: held.record_stop("why"),
    lambda held: held.record_pruning("why"),
    lambda held: held.forget_reasons(),
    lambda held: held.remove_unfinished(),
    lambda held: held.remove_leftovers(),
    lambda held: held.take(),
    lambda held: beating(held, epochs=3, steps=4),
]


@pytest.mark.parametrize("writer", WRITERS)
def test_nothing_is_written_where_it_is_not_allowed(
    writer: Callable[[HeldFolder], object], folder: RunFolder
) -> None:
    (folder.path / ".checkpoint.next.pt.1.part").touch()
    folder.checkpoint_file.touch()
    folder.stopped_file.touch()
    old = taken(folder)
    taken(folder)
    before = contents(folder)
    with pytest.raises(TakenOverError):
        writer(old)
    assert contents(folder) == before


def test_a_file_that_grows_takes_nothing_more(folder: RunFolder) -> None:
    old = taken(folder)
    file = old.append(folder.metrics_file)
    file.write(b"mine\n")
    taken(folder)
    with pytest.raises(TakenOverError):
        file.write(b"another's\n")
    file.close()
    assert folder.metrics_file.read_bytes() == b"mine\n"


def test_a_file_that_is_complete_too_late_does_not_appear(folder: RunFolder) -> None:
    write_text(folder.checkpoint_file, "of the new one")
    old = taken(folder)
    with pytest.raises(TakenOverError), old.whole(folder.checkpoint_file) as file:
        file.write(b"of the old one")
        taken(folder)
    assert sorted(contents(folder)) == ["checkpoint.pt", "owner.json"]
    assert folder.checkpoint_file.read_text() == "of the new one"


def test_a_heartbeat_leaves_the_progress_of_another(folder: RunFolder) -> None:
    old = beating(taken(folder), epochs=3, steps=4)
    assert folder.progress_file.exists()
    new = beating(taken(folder), epochs=3, steps=4)
    old.end(None)
    assert folder.progress_file.exists()
    new.end(None)
    assert not folder.progress_file.exists()


def test_a_heartbeat_that_is_complete_too_late_does_not_appear(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = beating(taken(folder), epochs=3, steps=4)
    opens, left = Path.open, {}

    def open_and_be_taken_over(path: Path, *args: Any, **options: Any) -> Any:
        file = opens(path, *args, **options)
        if path.name.startswith(".progress"):
            monkeypatch.undo()
            taken(folder)
            left.update(contents(folder))
        return file

    monkeypatch.setattr(Path, "open", open_and_be_taken_over)
    monkeypatch.setattr(sinks, "SECONDS_BETWEEN_BEATS", 0.0)
    with pytest.raises(TakenOverError):
        writer.batch(1, 32)
    assert left, "it was about to beat"
    assert contents(folder) == {k: v for k, v in left.items() if not k.endswith(".part")}


def test_what_is_written_in_a_run_folder_is_written_by_its_holder() -> None:
    """In a room that trains, nothing but a held folder writes: so that no check is forgotten."""
    forbidden = {"write_text", "written_whole", "write_bytes", "unlink", "rename", "touch", "mkdir"}
    room = Path(training.__file__).parent
    used = {
        f"{path.name}:{node.lineno}"
        for path in room.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.Attribute, ast.Name))
        and (node.attr if isinstance(node, ast.Attribute) else node.id) in forbidden
        and ast.unparse(node) not in ("mine.rename", "self._held.rename")
    }
    assert used == set()


def test_a_log_takes_no_line_of_a_process_that_was_taken_over(folder: RunFolder) -> None:
    logger = logging.getLogger(EPOCHS)
    old = taken(folder)
    with logged_in(old):
        logger.warning("mine")
        taken(folder)
        logger.warning("another's")
    assert folder.log_file.read_text().splitlines()[-1].endswith(" mine")


def test_what_is_said_when_a_log_is_closed_already_stops_nothing(folder: RunFolder) -> None:
    """By a thread that tells of a signal, and is late."""
    logger = logging.getLogger(EPOCHS)
    with logged_in(taken(folder)):
        (late,) = logging.getLogger("deltagclip_cli").handlers
    late.handle(logger.makeRecord(EPOCHS, logging.WARNING, __file__, 1, "late", (), None))
    assert folder.log_file.read_bytes() == b""


@pytest.mark.parametrize("error", [TakenOverError, ClaimedError, ValueError])
def test_errors_go_into_a_log_until_it_belongs_to_another(
    folder: RunFolder, error: type[Exception]
) -> None:
    before = os.dup(2)
    try:
        with folder.log_file.open("ab") as log:
            os.dup2(log.fileno(), 2)
        with pytest.raises(error), left_to_others(folder.log_file):
            raise error("why")
        os.write(2, b"error: why\n")
    finally:
        os.dup2(before, 2)
        os.close(before)
    assert folder.log_file.read_text() == ("error: why\n" if error is ValueError else "")


def test_owners_are_written_as_flat_json(folder: RunFolder) -> None:
    taken(folder)
    written = json.loads(folder.owner_file.read_text())
    assert list(written) == ["token", "host", "pid", "job", "restart", "since"]
