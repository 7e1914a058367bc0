"""What is written, under which names, and what is never replaced."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from obstacles import OBSTACLES

from deltagclip_cli.core import UsageError
from deltagclip_cli.report.output import MANIFEST, FileNames, plain_name, report_folder


def write(folder: Path, **files: str) -> None:
    with report_folder(folder) as draft:
        for name, text in files.items():
            path = draft / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)


def names_in(folder: Path) -> set[str]:
    """The files that can be seen, by their paths."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["quickstart", "values"], "quickstart-values"),
        (["<script>alert(1)</script>", "curves"], "script-alert-1-script-curves"),
        (["../../x"], "x"),
        (["a&b $x_1$ 100%"], "a-b-x_1-100"),
        (["δ-GClip lr=0.1"], "delta-GClip-lr=0-1"),
        (["実験"], "unnamed"),
        ([""], "unnamed"),
        (["x" * 300], "x" * 80),
    ],
)
def test_a_name_of_a_file_is_plain(words: list[str], name: str) -> None:
    assert plain_name(*words) == name


def test_names_that_would_be_the_same_get_numbers() -> None:
    names = FileNames()
    given = [names.name(each) for each in ("a b", "a&b", "A-B", "a-b-2", "c")]
    assert given == ["a-b", "a-b-2", "A-B-3", "a-b-2-2", "c"]


def test_a_report_replaces_the_one_before(tmp_path: Path) -> None:
    write(tmp_path / "report", page="old", tables__one="old")
    write(tmp_path / "report", page="new", tables__two="new")
    assert (tmp_path / "report/page").read_text() == "new"
    assert names_in(tmp_path / "report") == {"page", "tables/two"}


def test_what_the_new_report_lacks_is_removed_unless_somebody_changed_it(tmp_path: Path) -> None:
    write(tmp_path, page="old", tables__one="old", tables__two="old", figures__one="old")
    (tmp_path / "tables/two").write_text("with a footnote")
    write(tmp_path, page="new")
    assert names_in(tmp_path) == {"page", "tables/two"}
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("away")])
def test_a_folder_of_the_report_that_is_somebody_elses_is_not_written_into(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    (tmp_path / "away").mkdir()
    make(tmp_path / "tables")
    with pytest.raises(UsageError, match=r"tables/one: it is no report's|File exists"):
        write(tmp_path, page="ours", tables__one="ours")
    assert names_in(tmp_path) <= {"tables"}
    assert list((tmp_path / "away").iterdir()) == []


def test_a_file_of_somebody_else_is_not_replaced_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("theirs")
    with pytest.raises(UsageError, match=r"page: it is no report's.*\n.*--output"):
        write(tmp_path, apage="ours", page="ours")
    assert (tmp_path / "page").read_text() == "theirs"
    assert names_in(tmp_path) == {"page"}


def test_a_file_that_was_changed_by_hand_is_not_replaced(tmp_path: Path) -> None:
    write(tmp_path, table="ours", page="old")
    (tmp_path / "table").write_text("ours, with a footnote")
    with pytest.raises(UsageError, match="table: it was changed since it was written"):
        write(tmp_path, table="new", page="new")
    assert (tmp_path / "table").read_text() == "ours, with a footnote"
    assert (tmp_path / "page").read_text() == "old"


def test_a_link_and_a_folder_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "away").write_text("ours")
    write(tmp_path / "report", one="ours")
    (tmp_path / "report/one").unlink()
    (tmp_path / "report/one").symlink_to(tmp_path / "away")
    (tmp_path / "report/two").mkdir()
    for name in ("one", "two"):
        with pytest.raises(UsageError, match="so nothing was written"):
            write(tmp_path / "report", **{name: "new"})
    assert (tmp_path / "away").read_text() == "ours"


@pytest.mark.parametrize("name", ["old/profile", "old/deep/profile", "link", "../theirs/profile"])
def test_nothing_is_removed_through_a_link(tmp_path: Path, name: str) -> None:
    theirs = tmp_path / "theirs"
    (theirs / "deep").mkdir(parents=True)
    for path in (theirs / "profile", theirs / "deep/profile"):
        path.write_text("theirs")
    report = tmp_path / "report"
    write(report, page="old")
    (report / "old").symlink_to(theirs)
    (report / "link").symlink_to(theirs / "profile")
    digest = hashlib.sha256(b"theirs").hexdigest()
    known = json.loads((report / MANIFEST).read_text())
    (report / MANIFEST).write_text(json.dumps({**known, name: [digest]}))
    write(report, page="new")
    assert (report / "page").read_text() == "new"
    assert (report / "old").is_symlink() and (report / "link").is_symlink()
    assert [path.read_text() for path in theirs.rglob("profile")] == ["theirs", "theirs"]


def test_a_report_does_not_write_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "report").mkdir()
    (tmp_path / "report/tables").symlink_to(tmp_path / "theirs")
    with pytest.raises(UsageError, match="tables/one: it is no report's"):
        write(tmp_path / "report", tables__one="new")
    assert not list((tmp_path / "theirs").iterdir())


@pytest.mark.parametrize("why", OBSTACLES)
def test_a_manifest_that_is_no_file_claims_nothing(tmp_path: Path, why: str) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report/page").write_text("theirs")
    OBSTACLES[why](tmp_path / "report" / MANIFEST)
    with pytest.raises(UsageError, match="page: it is no report's"):
        write(tmp_path / "report", page="new")


def test_other_files_of_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("theirs")
    write(tmp_path, page="ours")
    assert names_in(tmp_path) == {"notes.txt", "page"}


def test_nothing_is_left_of_a_report_that_was_not_finished(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), report_folder(tmp_path / "report") as draft:
        (draft / "page").write_text("half")
        raise ZeroDivisionError
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("moved", [0, 1])
def test_a_report_that_was_killed_in_between_is_ours_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    write(tmp_path, a="old", b="old")
    replace, left = Path.replace, iter([*[False] * moved, True])

    def killed(path: Path, target: Path) -> Path:
        if target.name in "ab" and next(left):
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, a="new", b="new")
    monkeypatch.undo()
    assert (tmp_path / "a").read_text() == ("new" if moved else "old")
    write(tmp_path, a="newer", b="newer")
    assert (tmp_path / "b").read_text() == "newer"


def test_a_manifest_that_is_none_claims_no_files(tmp_path: Path) -> None:
    for content in ("{", "[]", '{"page": "theirs"}'):
        (tmp_path / MANIFEST).write_text(content)
        (tmp_path / "page").write_text("theirs")
        with pytest.raises(UsageError, match="no report's"):
            write(tmp_path, page="ours")


def test_a_fault_of_ours_is_not_told_as_one_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ours"), report_folder(tmp_path / "report"):
        raise ValueError("ours")


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("theirs")
    with pytest.raises(UsageError, match=r"file/report: .*: Not a directory\.\n.*--output DIR"):
        write(tmp_path / "file/report", page="ours")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_is_read_only_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="Permission denied"):
        write(tmp_path, page="ours")


def test_a_disk_that_is_full_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UsageError, match="No space left on device"):
        write(tmp_path, page="ours")


def test_the_manifest_knows_every_file(tmp_path: Path) -> None:
    write(tmp_path, page="ours", tables__one="ours")
    assert set(json.loads((tmp_path / MANIFEST).read_text())) == {"page", "tables/one"}
