"""The cache of event files: never anything else than what the files hold."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from event_files import (
    LATER,
    NAME,
    points,
    run_of,
    scalar,
    session,
    steps,
    version,
    write,
)
from obstacles import OBSTACLES

from deltagclip_cli.results.read import events as cache
from deltagclip_cli.results.read.events import EventCache, Events, default_cache_folder, read_events


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of three points."""
    write(tmp_path / "run" / NAME, version(), *run_of("loss", [1, 2, 3], 0.5))
    return tmp_path / "run"


@pytest.fixture
def events_cache(tmp_path: Path) -> EventCache:
    return EventCache(tmp_path / "cache" / "events")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were read from their own files."""
    folders = []

    def counted(folder: Path) -> Events:
        folders.append(folder)
        return read_events(folder)

    monkeypatch.setattr(cache, "read_events", counted)
    return folders


def cache_files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "events").iterdir())


def assert_equal(found: Events, expected: Events) -> None:
    """Bit for bit, and in the same order."""
    assert list(found.scalars) == list(expected.scalars)
    assert list(found.problems) == list(expected.problems)
    assert (found.begin, found.options, found.whole) == (
        expected.begin,
        expected.options,
        expected.whole,
    )
    for tag, scalars in expected.scalars.items():
        for name in ("steps", "wall_times", "values"):
            numbers = getattr(found.scalars[tag], name)
            assert numbers.dtype == np.float64
            assert not numbers.flags.writeable
            assert numbers.tobytes() == getattr(scalars, name).tobytes()


def test_the_second_look_reads_no_event_file(
    run: Path, events_cache: EventCache, reads: list[Path]
) -> None:
    first, second = events_cache.read(run), events_cache.read(run)
    assert reads == [run]
    assert points(second) == [(1, 0.5), (2, 0.5), (3, 0.5)]
    assert_equal(second, first)


def test_another_process_finds_what_was_remembered(
    run: Path, tmp_path: Path, reads: list[Path]
) -> None:
    EventCache(tmp_path / "cache").read(run)
    EventCache(tmp_path / "cache").read(run)
    assert reads == [run]


def test_runs_do_not_get_each_others_events(
    run: Path, tmp_path: Path, events_cache: EventCache
) -> None:
    other = tmp_path / "other"
    write(other / NAME, version(), *run_of("loss", [7, 8, 9], 0.5))
    for _ in range(2):
        assert steps(events_cache.read(run)) == [1, 2, 3]
        assert steps(events_cache.read(other)) == [7, 8, 9]
    assert len(cache_files(tmp_path)) == 2


def test_everything_comes_back_bit_for_bit(tmp_path: Path, events_cache: EventCache) -> None:
    values = [math.nan, math.inf, -math.inf, -0.0, 0.1]
    write(
        tmp_path / "run" / NAME,
        version(),
        *(scalar("δ/loss \n", i, v, wall_time=0.1 + i) for i, v in enumerate(values)),
        scalar("", 1, 2.0),
        session({"lr": 0.1, "decay": True, "name": "a"}),
    )

    events = read_events(tmp_path / "run")
    assert len(events.options) == 3
    for _ in range(2):
        assert_equal(events_cache.read(tmp_path / "run"), events)
    assert len(cache_files(tmp_path)) == 1


def test_a_run_without_scalars_is_remembered(
    tmp_path: Path, events_cache: EventCache, reads: list[Path]
) -> None:
    write(tmp_path / "run" / NAME, version())
    for _ in range(2):
        assert dict(events_cache.read(tmp_path / "run").scalars) == {}
    assert len(reads) == 1


def test_a_name_that_is_not_utf8_is_remembered(
    tmp_path: Path, events_cache: EventCache, reads: list[Path]
) -> None:
    name = os.fsdecode(b"run-\xff")
    write(tmp_path / name / f"{NAME}.{name}", version(), scalar("loss", 1))
    for _ in range(2):
        assert steps(events_cache.read(tmp_path / name)) == [1]
    assert len(reads) == 1


# Changes


def appended(run: Path) -> None:
    write(run / NAME, scalar("loss", 4, 0.5))


def continued(run: Path) -> None:
    write(run / LATER, version(), *run_of("loss", [2], 0.25))


def removed(run: Path) -> None:
    (run / NAME).unlink()


def replaced(run: Path) -> None:
    removed(run)
    write(run / LATER, version(), *run_of("loss", [1, 2, 3], 0.25))


@pytest.mark.parametrize("change", [appended, continued, removed, replaced])
def test_a_run_that_changed_is_read_anew(run: Path, events_cache: EventCache, change: Any) -> None:
    before = events_cache.read(run)
    change(run)
    after = events_cache.read(run)
    assert ("loss" not in after.scalars) or points(after) != points(before)
    assert_equal(after, read_events(run))


def test_a_change_of_time_alone_is_a_change(
    run: Path, events_cache: EventCache, reads: list[Path]
) -> None:
    events_cache.read(run)
    os.utime(run / NAME, (1_500_000_000, 1_500_000_000))
    events_cache.read(run)
    assert len(reads) == 2


@pytest.mark.parametrize("why", OBSTACLES)
def test_what_is_no_file_in_the_cache_counts_as_absent(
    run: Path, tmp_path: Path, events_cache: EventCache, why: str
) -> None:
    before = points(events_cache.read(run))
    (file,) = cache_files(tmp_path)
    file.unlink()
    OBSTACLES[why](file)
    assert points(events_cache.read(run)) == before


def test_a_file_that_grows_while_it_is_read_is_read_anew(
    run: Path, events_cache: EventCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(folder: Path) -> Events:
        events = read_events(folder)
        write(run / NAME, scalar("loss", 4))
        return events

    with monkeypatch.context() as patch:
        patch.setattr(cache, "read_events", meanwhile)
        assert steps(events_cache.read(run)) == [1, 2, 3]
    assert steps(events_cache.read(run)) == [1, 2, 3, 4]


def test_what_has_problems_is_read_again(
    run: Path, events_cache: EventCache, reads: list[Path]
) -> None:
    (run / NAME).write_bytes((run / NAME).read_bytes()[:-1])
    for _ in range(2):
        assert len(events_cache.read(run).problems) == 1
    assert len(reads) == 2


def test_folders_without_event_files_leave_nothing_in_the_cache(
    tmp_path: Path, events_cache: EventCache
) -> None:
    (tmp_path / "empty").mkdir()
    assert list(events_cache.read(tmp_path / "empty").problems) == []
    assert "cannot be listed" in events_cache.read(tmp_path / "missing").problems[0]
    assert not (tmp_path / "cache").exists()


# Damage


def test_a_cache_that_is_damaged_anywhere_is_made_anew(
    run: Path, tmp_path: Path, events_cache: EventCache
) -> None:
    expected = events_cache.read(run)
    (path,) = cache_files(tmp_path)
    content = path.read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 0x81
        for damaged in (bytes(changed), content[:place]):
            path.write_bytes(damaged)
            assert_equal(events_cache.read(run), expected)
            assert path.read_bytes() == content


def test_a_cache_of_another_version_is_made_anew(
    run: Path, tmp_path: Path, events_cache: EventCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_FORMAT", "deltagclip events 0")
    events_cache.read(run)
    monkeypatch.undo()
    old = cache_files(tmp_path)[0].read_bytes()
    assert steps(events_cache.read(run)) == [1, 2, 3]
    assert cache_files(tmp_path)[0].read_bytes() != old


def test_a_cache_that_cannot_be_made_is_done_without(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for _ in range(2):
        assert steps(EventCache(tmp_path / "file" / "events").read(run)) == [1, 2, 3]


def test_a_full_disk_leaves_no_half_of_a_file(
    run: Path, tmp_path: Path, events_cache: EventCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, content: bytes) -> None:
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert steps(events_cache.read(run)) == [1, 2, 3]
    assert cache_files(tmp_path) == []


def test_a_folder_in_the_place_of_a_file_of_the_cache_is_left_alone(
    run: Path, tmp_path: Path, events_cache: EventCache
) -> None:
    events_cache.read(run)
    (path,) = cache_files(tmp_path)
    path.unlink()
    path.mkdir()
    assert steps(events_cache.read(run)) == [1, 2, 3]
    assert cache_files(tmp_path) == [path]


# Where it lies, and what it costs


def test_the_cache_lies_where_the_standard_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/homes/me")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert default_cache_folder() == Path("/caches/deltagclip/events")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_folder() == Path("/homes/me/.cache/deltagclip/events")


def test_a_look_into_the_cache_loads_neither_tensorboard_nor_protobuf(
    run: Path, tmp_path: Path, events_cache: EventCache
) -> None:
    events_cache.read(run)
    code = """if True:
        import pathlib, sys
        from deltagclip_cli.results.read.events import EventCache
        events = EventCache(pathlib.Path("cache/events")).read(pathlib.Path("run"))
        assert events.scalars["loss"].steps.tolist() == [1, 2, 3]
        roots = {name.partition(".")[0] for name in sys.modules}
        assert not {"tensorboard", "google", "torch", "tensorflow"} & roots
    """
    package = Path(sys.modules["deltagclip_cli"].__file__ or "").parents[1]
    environment = {**os.environ, "PYTHONPATH": str(package)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
