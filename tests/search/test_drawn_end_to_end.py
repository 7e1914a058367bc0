"""Real searches by draws, by several processes at once that are killed again and again."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
from search_places import SETTINGS, Place

from deltagclip_cli.runs.folder import RunFolder

KILLS = 2


def found_in(place: Place) -> dict[str, tuple[str, str, list[dict[str, Any]], Any]]:
    """Of every run folder how it ended, and its metrics, without what a clock says."""
    found = {}
    for path in place.runs.glob("tiny/dgc/seed-*"):
        folder = RunFolder(path)
        records = [
            {key: value for key, value in record.items() if not key.startswith(("time", "perf"))}
            for record in folder.metrics()
        ]
        result = folder.result()
        found[path.name] = (folder.state, folder.reason, records, result and result["best"])
    return found


@pytest.mark.slow
@pytest.mark.long
def test_a_halving_by_two_processes_that_are_killed_is_the_one_that_was_not(
    tmp_path: Path,
) -> None:
    undisturbed, killed = (
        Place(tmp_path / name, "sobol", "halving", epochs=9) for name in ("one", "other")
    )
    undisturbed.search("--jobs", "1")
    random = Random(0)
    for _ in range(KILLS):
        processes = [killed.start("--jobs", jobs) for jobs in ("1", "2")]
        begun = _lines(killed)
        end = time.monotonic() + 60
        while _lines(killed) == begun and time.monotonic() < end:
            if all(process.poll() is not None for process in processes):
                break
            time.sleep(0.01)
        time.sleep(random.random() / 5)
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    out, _ = killed.search("--jobs", "2", "--json")
    assert found_in(killed) == found_in(undisturbed)
    (searched,) = json.loads(out)["searches"]
    assert searched["counts"]["finished"] + searched["counts"]["pruned"] == SETTINGS
    states = {state for state, *_ in found_in(killed).values()}
    assert states == {"finished", "pruned"}


def _lines(place: Place) -> int:
    return sum(
        file.read_bytes().count(b"\n") for file in place.runs.glob("tiny/dgc/*/metrics.jsonl")
    )
