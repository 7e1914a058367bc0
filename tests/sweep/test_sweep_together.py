"""Several sweeps on one runs folder: each trial is run by one of them."""

from __future__ import annotations

import signal

import pytest
from sweep_cases import (
    LONG,
    SHORT,
    Done,
    Place,
    assert_completes,
    assert_same_numbers,
    assert_tells_people,
    shows_summary,
)


def check(place: Place, undisturbed: Place, done: list[Done], count: int) -> None:
    for each in done:
        assert each.code == 0, each.out
        assert_tells_people(each)
        assert shows_summary(each)
        assert "not finished" not in each.out
    assert_same_numbers(place, undisturbed, count)
    assert {name: place.starts(name) for name in [*SHORT, *LONG]} == dict.fromkeys(
        [*SHORT, *LONG], 1
    )


@pytest.mark.slow
def test_two_sweeps_at_once_share_the_trials(place: Place, undisturbed: Place) -> None:
    sweeps = [place.start() for _ in range(2)]
    done = [sweep.finish() for sweep in sweeps]
    check(place, undisturbed, done, count=6)


@pytest.mark.slow
def test_three_sweeps_one_after_the_other_share_the_trials(
    place: Place, undisturbed: Place
) -> None:
    sweeps = [place.start()]
    place.wait_until_under_way("long/sgd", epochs=1)
    sweeps.append(place.start())
    place.wait_until_under_way("long/sgd", epochs=100)
    sweeps.append(place.start())
    check(place, undisturbed, [sweep.finish() for sweep in sweeps], count=6)


@pytest.mark.slow
def test_of_two_sweeps_the_other_goes_on_when_one_is_killed(
    place: Place, undisturbed: Place
) -> None:
    sweeps = [place.start() for _ in range(2)]
    place.wait_until_under_way("long/sgd", "long/delta-gclip")
    before = place.results()
    sweeps[0].send(signal.SIGKILL)
    sweeps[0].finish()
    done = sweeps[1].finish()
    assert done.code == 0, done.out
    assert_tells_people(done)
    assert {name: place.results()[name] for name in before} == before
    assert_same_numbers(place, undisturbed, count=6)
    assert all(place.starts(name) <= 2 for name in LONG)
    assert_completes(place, undisturbed, count=6)
