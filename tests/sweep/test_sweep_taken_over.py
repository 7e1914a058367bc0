"""A worker whose run folder another process takes over, as Slurm's restarts do: it gives way."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

import pytest
from halting import halt, proceed
from sweep_cases import (
    NICENESS,
    TWO,
    Place,
    assert_same_numbers,
    assert_tells_people,
    wait_for,
)

NAME = "long/delta-gclip"


def take_over(place: Place) -> subprocess.Popen[bytes]:
    """Start a worker in a folder whose lock is broken, for its file is deleted."""
    folder = place.folder(NAME)
    folder.lock_file.unlink()
    return subprocess.Popen(
        [sys.executable, "-m", "deltagclip_cli", "worker", str(folder.path), "--device", "cpu"],
        cwd=place.path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=partial(os.nice, NICENESS),
    )


def contents(place: Place) -> dict[str, bytes]:
    """Every file but the log, of which the old process may be about to write a line."""
    folder = place.folder(NAME)
    return {
        path.name: path.read_bytes() for path in folder.path.iterdir() if path != folder.log_file
    }


def wait_for_the_end_of(pid: int) -> None:
    def has_ended() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_for(has_ended, "the end of a worker")


def check(place: Place, undisturbed: Place) -> None:
    done = place.sweeps[0].finish()
    assert done.code == 0, done.out
    assert_tells_people(done)
    assert "interrupted" not in done.out
    assert "failed" not in done.out
    assert_same_numbers(place, undisturbed, count=4)
    assert not {"owner.json", "stopped.txt", "error.txt"} & set(contents(place))
    assert "error" not in place.folder(NAME).log_file.read_text()
    assert place.starts(NAME) == 2


@pytest.mark.slow
def test_a_sweep_leaves_a_trial_to_the_process_that_took_it_over(
    place: Place, undisturbed: Place
) -> None:
    place.start(*TWO)
    old = place.halt(NAME)
    new = take_over(place)
    wait_for(lambda: place.starts(NAME) == 2, "the second start")
    place.wait_until_under_way(NAME, epochs=100)
    halt(new.pid)
    before = contents(place)
    proceed(old)
    wait_for_the_end_of(old)
    place.sweeps[0].wait_for("long · sgd · seed 0: finished")
    assert contents(place) == before
    assert "long · delta-gclip · seed 0: " not in place.sweeps[0].output
    proceed(new.pid)
    assert new.wait() == 0
    check(place, undisturbed)


@pytest.mark.slow
def test_a_sweep_takes_the_result_of_the_process_that_took_a_trial_over(
    place: Place, undisturbed: Place
) -> None:
    place.start(*TWO)
    old = place.halt(NAME)
    assert take_over(place).wait() == 0
    before = contents(place)
    proceed(old)
    wait_for_the_end_of(old)
    check(place, undisturbed)
    assert contents(place) == before
