"""The journal file: mended after a kill, refused when it is something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("optuna")

from obstacles import OBSTACLES
from search_cases import optimizers_of
from tpe_cases import World, experiment_of, states, studied

from deltagclip_cli.core import RunFolderError
from deltagclip_cli.search.tpe_study import Study, read_tried

EXPERIMENT = experiment_of(pruner="none")
(SEARCHED,) = optimizers_of(EXPERIMENT)


@pytest.fixture
def searched(tmp_path: Path) -> World:
    world = World(tmp_path / "runs")
    world.search(EXPERIMENT, 2)
    return world


def journal_of(world: World) -> Path:
    return world.runs / "tiny" / "search.journal"


@pytest.mark.parametrize(
    "tail",
    [b'{"op_code": 6, "wor', b'{"op_code": 6}', b"\x00" * 500],
    ids=["torn", "whole without an end", "zeros"],
)
def test_what_a_kill_left_at_the_end_is_cut_off_and_the_search_goes_on(
    searched: World, tail: bytes
) -> None:
    journal = journal_of(searched)
    before, whole = studied(searched.runs), journal.read_bytes()
    journal.write_bytes(whole + tail)
    Study(SEARCHED, journal)
    assert journal.read_bytes() == whole
    journal.write_bytes(whole + tail)
    World(searched.runs).search(EXPERIMENT, 3)
    assert studied(searched.runs)[:2] == before
    assert states(searched.runs) == ["COMPLETE"] * 3


def test_a_journal_that_is_whole_is_left_as_it_is(searched: World) -> None:
    journal = journal_of(searched)
    before = journal.read_bytes(), journal.stat().st_mtime_ns
    Study(SEARCHED, journal)
    assert (journal.read_bytes(), journal.stat().st_mtime_ns) == before


def test_to_look_at_a_journal_changes_nothing_even_where_it_is_torn(searched: World) -> None:
    journal = journal_of(searched)
    torn = journal.read_bytes() + b'{"op_co'
    journal.write_bytes(torn)
    assert len(read_tried(SEARCHED, journal)) == 2
    assert journal.read_bytes() == torn
    assert read_tried(SEARCHED, journal.with_name("none")) == []
    assert not journal.with_name("none").exists()


def test_a_journal_that_is_broken_in_its_middle_is_refused(searched: World) -> None:
    journal = journal_of(searched)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([lines[0], b"garbage\n", *lines[1:]]))
    for opening in (Study, read_tried):
        with pytest.raises(RunFolderError, match="not a journal of a search"):
            opening(SEARCHED, journal)


@pytest.mark.parametrize("line", ["[" * 100_000, "{}", '{"op_code": 99}', '{"op_code": 0}', "3"])
def test_records_that_optuna_has_not_written_are_refused(searched: World, line: str) -> None:
    journal = journal_of(searched)
    first, *others = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([first, f"{line}\n", *others]))
    for opening in (Study, read_tried):
        with pytest.raises(RunFolderError, match="not a journal of a search"):
            opening(SEARCHED, journal)


@pytest.mark.parametrize("why", sorted(OBSTACLES.keys() - {"No such file or directory"}))
def test_a_journal_that_is_no_file_is_named(tmp_path: Path, why: str) -> None:
    journal = tmp_path / "search.journal"
    OBSTACLES[why](journal)
    for opening in (Study, read_tried):
        with pytest.raises(RunFolderError, match=f"search.journal: .*: {why}."):
            opening(SEARCHED, journal)


def test_a_journal_that_cannot_be_written_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="cannot be written: No such file"):
        Study(SEARCHED, tmp_path / "missing" / "search.journal")


def test_every_line_of_a_journal_is_json_that_others_can_read(searched: World) -> None:
    for line in journal_of(searched).read_text().splitlines():
        assert json.loads(line)["op_code"] in range(11)
