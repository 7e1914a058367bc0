"""Threads of the trials of a sweep: the same for all, beside any number of others, and kept."""

from __future__ import annotations

import json
import signal

import pytest
from sweep_cases import LONG, TWO, Place

FEW = [*TWO, "--set", "epochs=2"]


def threads(place: Place) -> set[int]:
    """Of all starts of all trials."""
    return {
        start["threads"]
        for folder in place.folders().values()
        for start in json.loads(folder.environment_file.read_text())
    }


@pytest.mark.slow
@pytest.mark.parametrize(("words", "expected"), [((), 1), (("--threads", 3), 3)])
@pytest.mark.parametrize("jobs", [1, 3])
def test_a_trial_has_the_same_threads_beside_any_number_of_others(
    place: Place, jobs: int, words: tuple[object, ...], expected: int
) -> None:
    assert place.sweep(*FEW, "--jobs", jobs, *words).code == 0
    assert threads(place) == {expected}


@pytest.mark.slow
def test_a_sweep_that_was_killed_goes_on_with_the_threads_that_it_had(place: Place) -> None:
    sweep = place.start(*TWO, "--threads", 3)  # two would wait for each other on busy cores
    place.wait_until_under_way(*LONG[:2])
    sweep.send(signal.SIGKILL)
    place.wait_until_left()
    done = place.sweep(*TWO)
    assert done.code == 0
    assert threads(place) == {3}
