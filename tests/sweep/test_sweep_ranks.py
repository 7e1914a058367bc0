"""Sweeps of trials on several devices, of which processes are killed at random.

A handful of kills by default; for more of them, and how many hit which rank::

    DELTAGCLIP_KILLS=50 pytest -m slow -s tests/sweep/test_sweep_ranks.py
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import torch
from sweep_cases import Place, Sweep, assert_same_numbers, assert_tells_people
from torch import Tensor

from deltagclip_cli.runs.hold import WitnessedFolder
from deltagclip_cli.training.checkpoints import Checkpoints
from deltagclip_cli.training.ranks import Ranks

KILLS = int(os.environ.get("DELTAGCLIP_KILLS", "4"))
SEED = int(os.environ.get("DELTAGCLIP_KILLS_SEED", "0"))
FEWEST = 3  # kills; so many hit, however soon the trials are over
SECONDS_TO_TELL = 120.0  # that a rank is lost, and to end; some may have to load torch first
EPOCHS = 60 + 8 * KILLS

SPEC = f"""\
defaults:
  model: {{name: mlp, hidden: [16]}}
  data: {{name: synthetic, batch_size: 10, size: 4, train: 33, test: 16}}
  epochs: {EPOCHS}
  log_every: 3
  checkpoint: {{epochs: 3, keep: last}}
experiments:
  replicas:
    devices: 2
    optimizers:
      adam: {{name: adam, lr: 1e-3}}
  shards:
    devices: 3
    parallel: fsdp
    optimizers:
      delta-gclip: {{name: delta_gclip, lr: 0.1, gamma: 1, delta: 1e-3}}
"""
TRIALS = 2
JOBS = ["--jobs", "5"]  # both at once


def ranks_of(place: Place) -> dict[str, list[tuple[int, str]]]:
    """The processes that train each trial, and which rank each is."""
    found: dict[str, list[tuple[int, str]]] = {}
    for pid in place.processes():
        command = ""
        with suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
        if trial := re.search(r" worker (\S+seed-\S+)", command):
            number = re.search(r"--rank (\d+)", command)
            found.setdefault(trial[1], []).append((pid, f"rank {number[1] if number else 0}"))
    return found


def size(place: Place) -> int:
    """Bytes of all records."""
    return sum(each.stat().st_size for each in place.runs.glob("*/*/*/metrics.jsonl"))


def is_under_way(sweep: Sweep, place: Place, before: int) -> bool:
    """Whether there are more records than before, or the sweep is over."""
    return size(place) > before or sweep.process.poll() is not None


def one_of_some(place: Place, chance: random.Random) -> list[tuple[int, str]]:
    """A random rank of one trial that is under way, or of more of them."""
    each = [chance.choice(ranks) for ranks in ranks_of(place).values()]
    return chance.sample(each, chance.randint(1, len(each))) if each else []


def seconds(place: Place) -> float:
    """How long the epochs of the shortest trial took."""
    results = (json.loads(content) for content, _ in place.results().values())
    return float(min(each["seconds"]["epochs"] for each in results))


def weights(place: Place, name: str) -> dict[str, Tensor]:
    """The weights in the last checkpoint of a trial, gathered from their parts."""
    folder = place.folders()[name]
    trial = folder.trial_to_run()
    state = next(Checkpoints(WitnessedFolder(folder), trial.identity).newest_first())
    model: dict[str, Tensor] = Ranks().loaded(state, folder)["model"]
    return model


def assert_same_weights(place: Place, expected: Place) -> None:
    for name in expected.folders():
        mine, other = weights(place, name), weights(expected, name)
        assert mine.keys() == other.keys()
        for key, value in other.items():
            assert torch.equal(mine[key], value), f"{name}: {key}"


@pytest.mark.slow
@pytest.mark.long
def test_trials_of_which_ranks_are_killed_come_to_the_same_bits(
    make_place: Callable[..., Place],
) -> None:
    expected = make_place(SPEC)
    done = expected.sweep(*JOBS)
    assert done.code == 0, done.out
    longest = seconds(expected) / 3  # between kills, on this machine as it is now
    place, chance = make_place(SPEC), random.Random(SEED)
    kills: Counter[str] = Counter()
    while kills.total() < KILLS and len(place.results()) < TRIALS:
        sweep = place.start(*JOBS)
        place.wait_for(lambda: ranks_of(place), "a rank")
        if chance.random() < 0.7:  # else while they start, or meet
            before = size(place)
            place.wait_for(partial(is_under_way, sweep, place, before), "a step")
        enough = min(KILLS, kills.total() + chance.randint(1, 3))  # for this sweep
        while sweep.process.poll() is None and kills.total() < enough:
            time.sleep(longest * chance.random() ** 2)
            for pid, rank in one_of_some(place, chance):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    kills[rank] += 1
        assert_tells_people(sweep.finish())
        place.wait_until_left(patience=SECONDS_TO_TELL)
        print(dict(kills), len(place.results()), flush=True)
    done = place.sweep(*JOBS)
    assert done.code == 0, done.out
    assert_same_numbers(place, expected, count=TRIALS)
    assert_same_weights(place, expected)
    assert kills.total() >= min(FEWEST, KILLS), f"the trials were over after {kills}"
