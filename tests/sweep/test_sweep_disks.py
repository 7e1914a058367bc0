"""Disks that are full, and data that cannot be written."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from halting import proceed
from sweep_cases import (
    LONG,
    SHORT,
    SPEC,
    Place,
    assert_completes,
    assert_kept,
    assert_same_numbers,
    assert_tells_people,
    draw_pictures,
    shows_summary,
)

PAGE = 4096

Mount = Callable[[Path, str], None]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a small file system, or changes the one there: ``mount(folder, "size=8k")``."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    mounted: set[Path] = set()

    def mount(place: Path, options: str) -> None:
        place.mkdir(exist_ok=True)
        kind = "remount," if place in mounted else ""
        command = ["mount", "-t", "tmpfs", "-o", kind + options, "tmpfs", str(place)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
        mounted.add(place)

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, left: int) -> None:
    """Leave so many bytes on a disk, or fewer, for others write there too."""
    room = os.statvfs(place)
    with (place / "rest").open("ab", buffering=0) as file, suppress(OSError):
        for _ in range((room.f_bavail * room.f_frsize - left) // PAGE):
            file.write(bytes(PAGE))


@pytest.mark.slow
@pytest.mark.parametrize("left", [0, PAGE], ids=["none", "a page"])
def test_a_disk_that_is_full_ends_a_sweep_until_there_is_space(
    left: int, place: Place, undisturbed: Place, mount: Mount
) -> None:
    mount(place.runs, "size=3m")
    sweep = place.start()
    halted = place.halt_all("long/sgd", "long/delta-gclip")
    before = place.results()
    fill(place.runs, left)
    for pid in halted:
        proceed(pid)
    done = sweep.finish()
    assert done.code == 75, done.out
    assert_tells_people(done)
    assert "The disk is full: no more trials are started." in done.out
    assert "the disk is full" in done.out
    assert shows_summary(done)
    assert_kept(place, before)
    started = set(place.folders()) - set(before)
    assert len(started) == 2, "no more trials were started"
    place.wait_until_left()

    mount(place.runs, "size=100m")
    assert_completes(place, undisturbed, count=6)
    assert [place.starts(name) for name in [*SHORT, *LONG]] == [1, 1, 2, 2, 1, 1]


# Too small for trial.yaml, environment.json, ...; and without inodes for the lock, log.txt, ...
NO_ROOM = ["size=4k", "size=12k", *(f"size=1m,nr_inodes={count}" for count in (5, 6, 7, 8, 10))]


@pytest.mark.slow
@pytest.mark.parametrize("options", NO_ROOM)
def test_a_disk_without_room_for_the_start_of_a_trial_only_interrupts_it(
    options: str, make_place: Callable[..., Place], mount: Mount
) -> None:
    place = make_place(SPEC[: SPEC.index("  long:")])
    mount(place.runs, options)
    done = place.sweep("--jobs", 1)
    assert done.code == 75, done.out
    assert_tells_people(done)
    assert "The disk is full: no more trials are started." in done.out
    assert "failed" not in done.out
    assert {str(each.state) for each in place.folders().values()} <= {"new", "interrupted"}
    mount(place.runs, "size=20m,nr_inodes=1000" if "inodes" in options else "size=20m")
    done = place.sweep()
    assert done.code == 0, done.out
    assert {str(each.state) for each in place.folders().values()} == {"finished"}


PICTURES = """\
experiments:
  pictures:
    model: {name: mlp, hidden: [4]}
    data: {name: image_folder, path: pictures, batch_size: 4}
    epochs: 2
    optimizers:
      sgd: {name: sgd, lr: 0.1}
      adam: {name: adam, lr: 1e-3}
"""


@pytest.mark.slow
def test_data_that_are_read_only_are_decoded_by_each_worker(
    make_place: Callable[..., Place], mount: Mount
) -> None:
    place, expected = make_place(PICTURES), make_place(PICTURES)
    data = place.path / "data"
    mount(data, "size=1m")
    draw_pictures(data)
    mount(data, "ro")
    done = place.sweep("--data", data)
    assert done.code == 0, done.out
    assert_tells_people(done)
    assert "cannot keep the decoded images in" in done.out
    assert "Read-only file system" in done.out

    mount(data, "rw")
    done = expected.sweep("--data", data)
    assert done.code == 0, done.out
    assert "cannot keep" not in done.out
    assert_same_numbers(place, expected, count=2)
    assert len(list((data / ".decoded").iterdir())) == 1


@pytest.mark.slow
def test_data_that_are_broken_are_named_before_anything_is_run(
    make_place: Callable[..., Place],
) -> None:
    place = make_place(PICTURES)
    data = place.path / "data"
    draw_pictures(data)
    broken = data / "pictures" / "train" / "red" / "2.png"
    broken.write_bytes(broken.read_bytes()[:40])
    done = place.sweep("--data", data)
    assert done.code == 2, done.out
    assert_tells_people(done)
    assert f"{broken}: is not an image that can be read" in done.out
    assert not place.runs.exists()
    broken.unlink()
    done = place.sweep("--data", data)
    assert done.code == 0, done.out
    assert [place.starts(f"pictures/{label}") for label in ("sgd", "adam")] == [1, 1]
