"""``deltagclip clean``: what can go is removed, and nothing that is needed or in use."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from invocation import Invoke
from run_cases import result_text
from tiny_spec import trials_of

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import create, hold

LAST, PREVIOUS, NEXT = "checkpoint.pt", "checkpoint.previous.pt", "checkpoint.next.pt"
PART = ".checkpoint.next.pt.0a1b.part"


def folder_of(path: Path, number: int, *files: str, status: str = "finished") -> RunFolder:
    """The run folder of a trial of ``tiny`` with files of a thousand bytes."""
    trial = trials_of(path)[number]
    folder = RunFolder.of(path / "runs", trial)
    create(folder, trial)
    for name in files:
        (folder.path / name).write_bytes(bytes(1000))
    if status:
        folder.result_file.write_text(result_text(status, identity=trial.identity))
    return folder


def left(folder: RunFolder) -> set[str]:
    return {path.name for path in folder.path.iterdir()} & {LAST, PREVIOUS, NEXT, PART}


@pytest.mark.parametrize(
    ("status", "files", "words", "kept"),
    [
        ("finished", {LAST, PREVIOUS, PART}, [], {LAST}),
        ("diverged", {LAST, PREVIOUS, NEXT}, [], {NEXT}),
        ("finished", {NEXT, PREVIOUS}, [], {NEXT}),
        ("finished", {LAST, PREVIOUS, NEXT, PART}, ["--last"], set()),
        ("", {LAST, PREVIOUS, NEXT, PART}, [], {LAST, PREVIOUS, NEXT}),
        ("", {LAST, PREVIOUS, NEXT, PART}, ["--last"], {LAST, PREVIOUS, NEXT}),
    ],
)
def test_only_what_nobody_needs_is_removed(
    deltagclip: Invoke,
    tmp_path: Path,
    status: str,
    files: set[str],
    words: list[str],
    kept: set[str],
) -> None:
    folder = folder_of(tmp_path, 0, *files, status=status)
    plan = json.loads(deltagclip("clean", *words, "--dry-run", "--json").stdout)
    assert left(folder) == files
    done = deltagclip("clean", *words)
    assert done.exit_code == 0
    assert left(folder) == kept
    gone = files - kept
    assert f"Removed {len(gone)} file" in done.stdout
    assert {Path(each["file"]).name for each in plan["files"]} == gone
    assert plan["bytes"] == 1000 * len(gone)
    assert deltagclip("clean", *words).stdout == "There is nothing to remove.\n"


def test_a_dry_run_shows_files_and_bytes(deltagclip: Invoke, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 0, LAST, PREVIOUS)
    done = deltagclip("clean", "--dry-run")
    path = folder.path.relative_to(tmp_path)
    assert done.stdout == f"{path}: {PREVIOUS} (1 kB)\nWould remove 1 file, 1 kB.\n"


def test_nothing_is_touched_where_a_process_works(deltagclip: Invoke, tmp_path: Path) -> None:
    folders = [folder_of(tmp_path, number, LAST, PREVIOUS) for number in (0, 1)]
    with hold(folders[0]):
        assert deltagclip("clean", "--last").exit_code == 0
    assert [left(each) for each in folders] == [{LAST, PREVIOUS}, set()]


def test_nothing_is_touched_through_a_link(deltagclip: Invoke, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 0, LAST)
    elsewhere = tmp_path / "elsewhere.pt"
    elsewhere.write_bytes(bytes(9))
    (folder.path / PREVIOUS).symlink_to(elsewhere)
    other = folder_of(tmp_path, 1, LAST, PREVIOUS)
    moved = other.path.parent.rename(tmp_path / "moved")
    other.path.parent.symlink_to(moved)
    assert deltagclip("clean", "--last").exit_code == 0
    assert (left(folder), left(other)) == ({PREVIOUS}, {LAST, PREVIOUS})
    assert elsewhere.exists()


def test_only_the_experiments_that_are_named_are_cleaned(
    deltagclip: Invoke, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, 0, LAST, PREVIOUS)
    refused = deltagclip("clean", "tinny")
    assert refused.exit_code == 2
    assert "did you mean 'tiny'?" in refused.stderr
    assert left(folder) == {LAST, PREVIOUS}
    assert deltagclip("clean", "tiny", "--quiet").stdout == ""
    assert left(folder) == {LAST}


@pytest.mark.parametrize("answer", [True, False])
def test_on_a_terminal_it_asks(
    deltagclip: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bool
) -> None:
    folder = folder_of(tmp_path, 0, LAST, PREVIOUS)
    monkeypatch.setattr("typer.confirm", lambda *words, err: answer)
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("deltagclip_cli.commands.clean.sys", terminal)
    done = deltagclip("clean")
    assert done.exit_code == (0 if answer else 1)
    assert left(folder) == ({LAST} if answer else {LAST, PREVIOUS})
    assert "1 file, 1 kB can go." in done.stdout


@pytest.mark.skipif(os.geteuid() == 0, reason="root may delete everywhere")
def test_what_cannot_be_removed_is_named(deltagclip: Invoke, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 0, LAST, PREVIOUS)
    folder.path.chmod(0o555)
    try:
        done = deltagclip("clean")
    finally:
        folder.path.chmod(0o755)
    assert done.exit_code == 1
    assert "cannot be" in done.stdout
