"""Files that appear whole or not at all, and whatever else may lie in their place."""

from __future__ import annotations

from pathlib import Path

import pytest
from obstacles import OBSTACLES

from deltagclip_cli.core import open_file, read_file, subfolders, write_text, written_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    with written_whole(path) as file:
        file.write(b"half")
        assert not path.exists()
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert names(tmp_path) == ["result.json"]


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_text(path, "old")
    with written_whole(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "a"
    write_text(path, "old")
    with pytest.raises(error), written_whole(path) as file:
        file.write(b"half of the n")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_a_failure_leaves_no_file_where_there_was_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="torn"), written_whole(tmp_path / "a") as file:
        file.write(b"half")
        raise ValueError("torn")
    assert names(tmp_path) == []


def test_what_cannot_be_renamed_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError):
        write_text(tmp_path / "a", "text")
    assert names(tmp_path) == ["a"]


def test_a_folder_that_is_missing_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "missing" / "a", "text")


def test_text_is_written_as_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "δ ‖g‖\n")
    assert (tmp_path / "a").read_bytes() == "δ ‖g‖\n".encode()


@pytest.mark.parametrize("why", OBSTACLES)
def test_what_is_no_file_is_not_opened(tmp_path: Path, why: str) -> None:
    OBSTACLES[why](tmp_path / "a")
    for read in (open_file, read_file):
        with pytest.raises(OSError) as caught:
            read(tmp_path / "a")
        assert caught.value.strerror == why


def test_a_link_to_a_file_is_read_and_a_file_that_is_too_large_is_not(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "text")
    (tmp_path / "link").symlink_to("a")
    assert read_file(tmp_path / "link", most_bytes=4) == b"text"
    with pytest.raises(OSError, match="it is larger than"):
        read_file(tmp_path / "link", most_bytes=3)


def test_folders_are_listed_whatever_else_is_there(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "a").symlink_to("b")
    write_text(tmp_path / "file", "")
    for number, make in enumerate(OBSTACLES.values()):
        if make is not Path.mkdir:
            make(tmp_path / f"{number}")
    assert subfolders(tmp_path) == ["a", "b"]
