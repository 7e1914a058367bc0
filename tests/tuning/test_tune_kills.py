"""A protocol whose processes are killed at any moment comes to the same end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sweep_cases import Place, assert_same_numbers

from deltagclip_cli.tuning.lock import read_lock

SPEC = """\
experiments:
  tiny:
    model: {name: mlp, hidden: [8]}
    data: {name: synthetic, batch_size: 8, size: 4, train: 48, test: 16, validation: 0.25}
    epochs: 30
    checkpoint: {epochs: 5}
    optimizers:
      sgd: {name: sgd, lr: 0.1}
      adam: {name: adam}
    protocol: {draws: 2, seeds: [0], fresh_seeds: 2, metric: validation/loss}
    search:
      space:
        sgd: {lr: {log_uniform: [0.01, 1]}}
        adam: {lr: {log_uniform: [1e-4, 1e-1]}}
"""
TRIALS = 2 * (2 + 2)
KILLS = 3


@pytest.fixture
def places(tmp_path: Path) -> Iterator[tuple[Place, Place]]:
    made = []
    for name in ("disturbed", "undisturbed"):
        (tmp_path / name).mkdir()
        made.append(Place(tmp_path / name, SPEC))
    yield made[0], made[1]
    for each in made:
        each.clean_up()


def start(place: Place, *words: str) -> subprocess.Popen[bytes]:
    """Start ``deltagclip tune`` in a place, as a terminal would."""
    return subprocess.Popen(
        [sys.executable, "-m", "deltagclip_cli", "tune", "tiny", "--jobs", "2", *words],
        cwd=place.path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def answer(place: Place) -> dict[str, Any]:
    """Go on to the end; what it comes to."""
    tuning = start(place, "--json")
    out, _ = tuning.communicate()
    assert tuning.returncode == 0, place.report()
    read: dict[str, Any] = json.loads(out)
    return {**read, "lock": read["lock"]["hash"]}


def kill_at_a_moment(place: Place, random: Random) -> None:
    """Kill it, alone or with all its workers, when some more trials are finished, or begun."""
    tuning = start(place, "--quiet")
    aim = len(place.results()) + random.randrange(4)
    place.wait_for(lambda: len(place.results()) >= aim or tuning.poll() is not None, "results")
    time.sleep(random.random())
    victims = [tuning.pid] if random.random() < 0.5 else [tuning.pid, *place.processes()]
    for pid in victims:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    tuning.communicate()
    place.wait_until_left()


@pytest.mark.slow
def test_whatever_is_killed_nothing_is_lost_doubled_or_drawn_otherwise(
    places: tuple[Place, Place],
) -> None:
    disturbed, undisturbed = places
    random = Random(19)
    for _ in range(KILLS):
        kill_at_a_moment(disturbed, random)
    assert answer(disturbed) == answer(undisturbed)
    assert_same_numbers(disturbed, undisturbed, TRIALS)
    assert len(disturbed.folders()) == TRIALS
    assert read_lock(disturbed.runs, "tiny") is not None
