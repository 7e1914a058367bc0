"""A sweep that is stopped or killed itself: nothing is lost, and the next one goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from halting import proceed
from sweep_cases import (
    SHORT,
    SPEC,
    TWO,
    Done,
    Place,
    assert_completes,
    assert_kept,
    assert_same_numbers,
    assert_tells_people,
    shows_summary,
    wait_for,
)

PAIR = ("long/sgd", "long/delta-gclip")


@pytest.mark.slow
def test_interrupts_and_kills_in_a_row_lose_nothing(place: Place, undisturbed: Place) -> None:
    """Ctrl-C once, Ctrl-C twice, a kill with another start at once: four sweeps in all."""
    sweep = place.start(*TWO)
    place.wait_until_under_way(*PAIR)
    before = place.results()
    sweep.press()
    done = sweep.finish()
    assert done.code == 130, done.out
    assert_tells_people(done)
    assert "Stopping after this step; Ctrl-C again stops at once." in done.out
    for label in ("sgd", "delta-gclip"):
        assert f"long · {label} · seed 0: interrupted: stopped with a checkpoint" in done.out
    assert shows_summary(done)
    assert place.states(*PAIR) == ["interrupted"] * 2
    assert all(place.folder(name).checkpoint_file.exists() for name in PAIR)
    assert place.workers() == {}

    sweep = place.start(*TWO)
    epochs = 10 + max(len(list(place.folder(name).metrics())) for name in PAIR)
    for name in PAIR:  # so that the first Ctrl-C cannot end it
        place.halt(name, epochs=epochs)
    sweep.press()
    sweep.wait_for("Ctrl-C again stops at once.")
    sweep.press()
    done = sweep.finish()
    assert done.code == 130, done.out
    assert_tells_people(done)
    assert "The workers were killed." in done.out
    assert shows_summary(done)
    assert place.workers() == {}
    assert place.states(*PAIR) == ["interrupted"] * 2

    sweep = place.start(*TWO)
    epochs = 10 + max(len(list(place.folder(name).metrics())) for name in PAIR)
    place.wait_until_under_way(*PAIR, epochs=epochs)
    sweep.send(signal.SIGKILL)
    sweep.finish()
    wait_for(lambda: place.workers() == {}, "the end of the workers")
    assert place.states(*PAIR) == ["interrupted"] * 2
    assert_kept(place, before)

    assert_completes(place, undisturbed, *TWO, count=4)
    assert [place.starts(name) for name in SHORT] == [1, 1]
    assert [place.starts(name) for name in PAIR] == [4, 4]


@pytest.mark.slow
def test_a_sweep_is_started_while_the_workers_of_a_killed_one_end(
    place: Place, undisturbed: Place
) -> None:
    """One of them is halted, and so holds its trial until the new sweep waits for it."""
    sweep = place.start(*TWO)
    halted = place.halt("long/sgd")
    place.wait_until_under_way("long/delta-gclip")
    sweep.send(signal.SIGKILL)
    again = place.start(*TWO)
    place.wait_until_under_way("long/delta-gclip", epochs=20)
    again.wait_for("long · delta-gclip · seed 0: finished")
    assert again.process.poll() is None
    assert "started long · sgd" not in again.output
    assert place.folder("long/sgd").result() is None
    assert place.workers() == {"long/sgd/0": [halted]}, "no other worker took its trial"
    proceed(halted)
    done = again.finish()
    assert done.code == 0, done.out
    assert_tells_people(done)
    assert_same_numbers(place, undisturbed, count=4)
    assert [place.starts(name) for name in [*SHORT, *PAIR]] == [1, 1, 2, 2]
    log = place.folder("long/sgd").log_file.read_text()
    assert [line for line in log.splitlines() if "Traceback" in line] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_a_sweep_is_stopped_while_torch_is_loaded(number: signal.Signals, place: Place) -> None:
    sweep = place.start()
    place.loading_server()
    sweep.press(number)
    done = sweep.finish()
    assert done.code == {signal.SIGINT: 130, signal.SIGTERM: 75}[number], done.out
    assert_tells_people(done)
    assert not place.runs.exists()


@pytest.mark.slow
def test_two_interrupts_while_torch_is_loaded_end_at_once(place: Place) -> None:
    sweep = place.start()
    place.loading_server()
    sweep.press()
    sweep.wait_for("Ctrl-C again")
    sweep.press()
    done = sweep.finish()
    assert done.code == 130, done.out
    place.wait_until_left()
    assert_tells_people(sweep.finish())
    assert not place.runs.exists()


@pytest.mark.slow
def test_an_interrupt_at_any_moment_shows_no_traceback(make_place: Callable[..., Place]) -> None:
    """From the moment that Python has read the first lines of the program; sometimes a second."""
    chance = random.Random(0)
    for latest in [0.8] * 5 + [5.0] * 4:
        place = make_place(SPEC[: SPEC.index("  long:")])
        sweep = place.start()
        with suppress(subprocess.TimeoutExpired):
            sweep.finish(chance.uniform(0.15, latest))
        wait_for(lambda sweep=sweep: sweep.runs_for(0.15), "the first lines")  # a busy machine
        for _ in range(chance.choice([1, 1, 2])):
            with suppress(ProcessLookupError):  # it is over
                sweep.press()
            time.sleep(chance.uniform(0, 0.2))
        done = sweep.finish()
        place.wait_until_left()
        assert_tells_people(Done(done.code, sweep.output))
        assert done.code in (0, 130, -signal.SIGINT), done.out  # for a shell, the last two are one
        for folder in place.folders().values():
            assert not folder.log_file.exists() or "Traceback" not in folder.log_file.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "whole_group"),
    [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGHUP, True)],
    ids=["terminated", "group terminated", "hung up"],
)
def test_other_signals_stop_with_checkpoints(
    number: signal.Signals, whole_group: bool, place: Place, undisturbed: Place
) -> None:
    """A terminal that closes and a batch system send them to the fork server too."""
    sweep = place.start(*TWO)
    place.wait_until_under_way(*PAIR)
    (sweep.press if whole_group else sweep.send)(number)
    done = sweep.finish()
    assert place.workers() == {}, "it waited for them"
    assert done.code == 75, done.out
    assert_tells_people(done)
    for label in ("sgd", "delta-gclip"):
        assert f"long · {label} · seed 0: interrupted: stopped with a checkpoint" in done.out
    assert shows_summary(done)
    assert_completes(place, undisturbed, *TWO, count=4)
    assert [place.starts(name) for name in [*SHORT, *PAIR]] == [1, 1, 2, 2]


@pytest.mark.slow
def test_every_process_is_told_to_end_at_once(place: Place, undisturbed: Place) -> None:
    """As a machine does that is shut down, and a batch job whose time is over."""
    sweep = place.start(*TWO)
    place.wait_until_under_way(*PAIR)
    for pid in place.processes():
        with suppress(ProcessLookupError):  # such as a git, which has ended since
            os.kill(pid, signal.SIGTERM)
    done = sweep.finish()
    assert place.workers() == {}, "it waited for them"
    assert done.code == 75, done.out
    assert_tells_people(done)
    assert_completes(place, undisturbed, *TWO, count=4)
    assert [place.starts(name) for name in [*SHORT, *PAIR]] == [1, 1, 2, 2]


@pytest.mark.slow
def test_a_forced_sweep_that_is_killed_is_completed_by_a_plain_one(
    place: Place, undisturbed: Place
) -> None:
    assert place.sweep(*TWO).code == 0
    before = place.results()
    sweep = place.start(*TWO, "--force", "--yes")  # the longest come first
    wait_for(lambda: len(place.results()) == len(SHORT), "two trials begun again")
    place.wait_until_under_way(*PAIR)
    sweep.send(signal.SIGKILL)
    sweep.finish()
    assert_completes(place, undisturbed, *TWO, count=4)
    assert [place.starts(name) for name in [*SHORT, *PAIR]] == [1, 1, 2, 2]
    now = place.results()
    assert [name for name in now if now[name] == before[name]] == [
        name for name in now if name.startswith("short/")
    ]

    done = place.sweep(*TWO, "--force", "--yes")
    assert done.code == 0, done.out
    assert all(now[name] != result for name, result in place.results().items())
    assert_same_numbers(place, undisturbed, count=4)
    assert [place.starts(name) for name in [*SHORT, *PAIR]] == [1] * 4


MANY = """\
experiments:
  many:
    model: {name: mlp, hidden: [16]}
    data: {name: synthetic, batch_size: 8, size: 4, train: 32, test: 16}
    epochs: 300
    log_every: 3
    checkpoint: {epochs: 5}
    seeds: [0, 1, 2, 3]
    optimizers:
      sgd: {name: sgd, lr: 0.1, momentum: 0.9}
      adam: {name: adam, lr: 1e-3}
      delta-gclip: {name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}
"""


@pytest.mark.slow
@pytest.mark.long
def test_twenty_kills_at_random_moments_change_no_number(make_place: Callable[..., Place]) -> None:
    """Four of single workers and then one of the sweep, which is started again each time."""
    expected, place = make_place(MANY), make_place(MANY)
    assert expected.sweep().code == 0
    chance = random.Random(0)
    for _ in range(4):
        sweep = place.start()
        before = place.results()
        for _ in range(4):
            _train(place, chance.randint(1, 300))
            _kill_one(place, chance)
        _train(place, chance.randint(1, 300))
        sweep.send(signal.SIGKILL)
        assert sweep.finish().code == -signal.SIGKILL
        assert_tells_people(Done(0, sweep.output))
        assert_kept(place, before)
    assert_completes(place, expected, count=12)


def _train(place: Place, records: int) -> None:
    """Wait until so many more records are written by all workers together."""
    goal = records + _records(place)
    place.wait_for(lambda: _records(place) >= goal, f"{goal} records")


def _records(place: Place) -> int:
    return sum(len(list(folder.metrics())) for folder in place.folders().values())


def _kill_one(place: Place, chance: random.Random) -> None:
    workers = place.wait_for(place.workers, "a worker")
    with suppress(ProcessLookupError):  # it has finished since
        os.kill(chance.choice(sorted(workers.items()))[1][0], signal.SIGKILL)
