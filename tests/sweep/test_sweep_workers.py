"""What befalls single workers, or their folders, is said and stops nothing else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time

import pytest
from halting import proceed
from sweep_cases import (
    LONG,
    SHORT,
    TWO,
    Place,
    assert_completes,
    assert_kept,
    assert_same_numbers,
    assert_tells_people,
    shows_summary,
)


@pytest.mark.slow
def test_what_befalls_one_worker_stops_no_other(place: Place, undisturbed: Place) -> None:
    """One is killed, one halted for a while, one asked to stop, one loses its folder."""
    sweep = place.start()
    halted, killed = place.halt_all("long/delta-gclip", "long/sgd")
    os.kill(killed, signal.SIGKILL)
    before = place.results()
    assert len(before) == len(SHORT)

    stopped = place.halt("long/adam")
    os.kill(stopped, signal.SIGTERM)
    proceed(stopped)

    removed = place.halt("long/gclip")
    shutil.rmtree(place.folder("long/gclip").path)
    proceed(removed)
    sweep.wait_for("long · gclip · seed 0: new")
    proceed(halted)

    done = sweep.finish()
    assert done.code == 75, done.out
    assert_tells_people(done)
    assert "long · sgd · seed 0: interrupted: killed by SIGKILL" in done.out
    assert "long · adam · seed 0: interrupted: stopped with a checkpoint" in done.out
    assert "gclip · seed 0: new: the run folder was removed while the trial ran" in done.out
    assert "long · delta-gclip · seed 0: finished" in done.out
    assert shows_summary(done)
    assert place.states("long/sgd", "long/adam") == ["interrupted", "interrupted"]
    assert place.folder("long/sgd").reason.startswith("killed by SIGKILL")
    assert_kept(place, before)
    place.wait_until_left()

    assert_completes(place, undisturbed, count=6)
    assert [place.starts(name) for name in [*SHORT, *LONG]] == [1, 1, 2, 1, 2, 1]


@pytest.mark.slow
def test_workers_that_are_halted_are_waited_for_however_long_ago_they_gave_a_sign(
    place: Place, undisturbed: Place
) -> None:
    names = ("long/sgd", "long/delta-gclip")
    sweep = place.start(*TWO)
    halted = place.halt_all(*names)
    for name in names:  # as after an hour
        file = place.folder(name).progress_file
        beat = json.loads(file.read_text())
        file.write_text(json.dumps({**beat, "time": beat["time"] - 3600}))
    time.sleep(3)  # the sweep looks five times a second
    assert sweep.process.poll() is None
    assert sorted(place.workers().values()) == sorted([pid] for pid in halted)
    for pid in halted:
        proceed(pid)
    done = sweep.finish()
    assert done.code == 0, done.out
    assert_same_numbers(place, undisturbed, count=4)
    assert [place.starts(name) for name in ("long/sgd", "long/delta-gclip")] == [1, 1]


@pytest.mark.slow
def test_an_experiment_that_is_removed_is_run_again_by_the_next_sweep(
    place: Place, undisturbed: Place
) -> None:
    sweep = place.start()
    halted = place.halt_all("long/sgd", "long/delta-gclip")
    before = place.results()
    shutil.rmtree(place.runs / "long")
    for pid in halted:
        proceed(pid)
    done = sweep.finish()
    assert done.code == 75, done.out
    assert_tells_people(done)
    assert done.out.count("the run folder was removed while the trial ran") == 2
    assert place.states("long/adam", "long/gclip") == ["finished", "finished"]
    assert_kept(place, before)
    assert_completes(place, undisturbed, count=6)
    assert [place.starts(name) for name in [*SHORT, *LONG]] == [1] * 6


@pytest.mark.slow
def test_a_worker_is_killed_by_a_signal_without_a_name(place: Place, undisturbed: Place) -> None:
    sweep = place.start(*TWO)
    halted = place.halt("long/sgd")
    os.kill(halted, signal.SIGRTMIN + 6)
    proceed(halted)  # until then, a signal other than SIGKILL has to wait
    done = sweep.finish()
    assert done.code == 75, done.out
    assert_tells_people(done)
    assert "long · sgd · seed 0: interrupted: killed by " in done.out
    assert "long · delta-gclip · seed 0: finished" in done.out
    assert_completes(place, undisturbed, *TWO, count=4)


# ---------------------------------------------------------------- the fork server


@pytest.mark.slow
def test_the_fork_server_is_killed_among_trials(place: Place, undisturbed: Place) -> None:
    """Its workers save, and the next one is a fork of another."""
    sweep = place.start()
    place.wait_until_under_way("long/sgd", "long/delta-gclip")
    (server,) = place.fork_servers()
    os.kill(server, signal.SIGKILL)
    while sweep.process.poll() is None:
        for name, pids in place.workers().items():
            assert len(pids) == 1, f"{name} has two workers"
    done = sweep.finish()
    assert done.code in (0, 75), done.out
    assert_tells_people(done)
    assert_completes(place, undisturbed, count=6)


@pytest.mark.slow
def test_a_worker_is_killed_after_the_fork_server(place: Place, undisturbed: Place) -> None:
    sweep = place.start(*TWO)
    halted = place.halt("long/sgd")
    (server,) = place.fork_servers()
    os.kill(server, signal.SIGKILL)
    os.kill(halted, signal.SIGKILL)
    done = sweep.finish()
    assert done.code in (0, 75), done.out
    assert_tells_people(done)
    assert_completes(place, undisturbed, *TWO, count=4)


@pytest.mark.slow
def test_the_fork_server_is_killed_while_torch_is_loaded(place: Place, undisturbed: Place) -> None:
    sweep = place.start(*TWO)
    os.kill(place.loading_server(), signal.SIGKILL)
    done = sweep.finish()
    assert done.code == 0, done.out
    assert_tells_people(done)
    assert_same_numbers(place, undisturbed, count=4)
