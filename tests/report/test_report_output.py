"""What is written, under which names, and what is never replaced."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from deltagclip_cli.errors import UsageError
from deltagclip_cli.report import output
from deltagclip_cli.report.names import FileNames, plain_name
from deltagclip_cli.report.output import MANIFEST, report_folder


def write(folder: Path, **files: str) -> None:
    with report_folder(folder) as draft:
        for name, text in files.items():
            path = draft / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()} - {MANIFEST}


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
    write(tmp_path / "report", page="new")
    assert (tmp_path / "report/page").read_text() == "new"
    assert (tmp_path / "report/tables/one").read_text() == "old"
    write(tmp_path / "report", page="newer", tables__one="newer")
    assert (tmp_path / "report/tables/one").read_text() == "newer"


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


def test_other_files_of_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("theirs")
    write(tmp_path, page="ours")
    assert names_in(tmp_path) == {"notes.txt", "page"}


def test_nothing_is_left_of_a_report_that_was_not_finished(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), report_folder(tmp_path / "report") as draft:
        (draft / "page").write_text("half")
        raise ZeroDivisionError
    assert list((tmp_path / "report").iterdir()) == []


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
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output, "write_text", full)
    with pytest.raises(UsageError, match="No space left on device"):
        write(tmp_path, page="ours")


def test_the_manifest_knows_every_file(tmp_path: Path) -> None:
    write(tmp_path, page="ours", tables__one="ours")
    assert set(json.loads((tmp_path / MANIFEST).read_text())) == {"page", "tables/one"}
