"""Sweeps of stacks: each member ends and goes on for itself, whatever befalls its worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from sweep_cases import Place, assert_completes, assert_same_numbers

pytestmark = pytest.mark.slow

# A stack of four, and one of what is left.
SPEC = """\
experiments:
  stacked:
    model: {name: mlp, hidden: [16]}
    data: {name: synthetic, batch_size: 8, size: 4, train: 32, test: 16}
    epochs: 80
    checkpoint: {epochs: 5}
    stack: 4
    seeds: [0, 1, 2]
    optimizers:
      sgd: {name: sgd, lr: 0.1, momentum: 0.9}
      delta-gclip: {name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}
"""
FIRST = ["stacked/sgd/0", "stacked/sgd/1", "stacked/sgd/2", "stacked/delta-gclip/0"]
SECOND = ["stacked/delta-gclip/1", "stacked/delta-gclip/2"]
KILLED = "killed by SIGKILL, by hand or by the system for want of memory"


@pytest.fixture
def place(make_place: Callable[..., Place]) -> Place:
    return make_place(SPEC)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """All trials of ``SPEC``, from a sweep that nothing befell."""
    place = Place(tmp_path_factory.mktemp("undisturbed"), SPEC)
    done = place.sweep()
    assert done.code == 0, done.out
    place.wait_until_left()
    return place


def test_a_killed_worker_interrupts_its_members_and_they_go_on_in_the_next_sweep(
    place: Place, undisturbed: Place
) -> None:
    sweep = place.start()
    pid = place.halt(FIRST[0])  # so it is not over before the second has begun
    place.wait_until_under_way(*SECOND)
    workers = place.workers()
    assert [workers[name] for name in FIRST] == [[pid]] * 4
    assert {workers[name][0] for name in SECOND} != {pid}
    os.kill(pid, signal.SIGKILL)
    done = sweep.finish()
    assert (done.code, done.out.count(KILLED)) == (75, 4)
    assert place.states(*FIRST, *SECOND) == ["interrupted"] * 4 + ["finished"] * 2
    assert {place.folder(name).reason for name in FIRST} == {KILLED}
    assert_completes(place, undisturbed, count=6)
    assert [place.starts(name) for name in (FIRST[0], SECOND[0])] == [2, 1]


def test_what_an_interrupt_left_goes_on_in_other_company(place: Place, undisturbed: Place) -> None:
    sweep = place.start()
    place.wait_until_under_way(*FIRST)
    sweep.press()
    done = sweep.finish()
    assert done.code == 130
    assert "sgd · seed 1: interrupted: stopped with a checkpoint" in done.out
    some = place.sweep("--seed", "1", "--jobs", "1")
    assert some.out.count("one of 2 in a stack") == 2, some.out
    assert_same_numbers(place, undisturbed, count=2)
    assert_completes(place, undisturbed, count=6)
