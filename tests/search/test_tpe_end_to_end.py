"""Real searches: real training in worker processes, killed on the way and continued."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from halting import halt, proceed

pytest.importorskip("optuna")

from search_places import PATIENCE_SECONDS, SETTINGS, Place
from tpe_cases import studied


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["none", "median", "halving"])
def test_a_search_killed_half_way_and_continued_is_the_one_that_was_not(
    tmp_path: Path, pruner: str
) -> None:
    undisturbed, killed = (
        Place(tmp_path / "one", "tpe", pruner),
        Place(tmp_path / "other", "tpe", pruner),
    )
    undisturbed.search("--jobs", "1")
    killed.kill_after(7, "--jobs", "1")
    assert len(studied(killed.runs)) < SETTINGS
    out, err = killed.search("--jobs", "1")
    assert err == ""

    found = studied(killed.runs)
    assert len(found) == SETTINGS
    assert all(each["state"] in ("COMPLETE", "PRUNED") for each in found)
    assert found == studied(undisturbed.runs)
    ours, theirs = killed.losses(), undisturbed.losses()
    common = ours.keys() & theirs.keys()
    assert len(common) >= 2
    assert {name: ours[name] for name in common} == {name: theirs[name] for name in common}

    best = min(each["values"][0] for each in found if each["state"] == "COMPLETE")
    shown, spread = re.findall(r"([\d.]+) ± ([\d.]+)", out)[0]
    assert float(shown) == pytest.approx(best, abs=float(spread))  # it has as many digits
    assert float(spread) > 0


@pytest.mark.slow
def test_a_search_on_two_slots_is_killed_twice_and_ends_with_all_settings(tmp_path: Path) -> None:
    place = Place(tmp_path / "here", "tpe", "median")
    place.kill_after(4, "--jobs", "2")
    place.kill_after(9, "--jobs", "2")
    out, _ = place.search("--jobs", "2", "--json")
    found = studied(place.runs)
    assert len(found) == SETTINGS
    assert all(each["state"] in ("COMPLETE", "PRUNED") for each in found)
    (searched,) = json.loads(out)["searches"]
    assert sum(searched["counts"].values()) == SETTINGS
    assert searched["best"]["n"] == 2


@pytest.mark.slow
def test_ctrl_c_leaves_a_search_that_goes_on(tmp_path: Path) -> None:
    place = Place(tmp_path / "here", "tpe", "none")
    process = place.start("--jobs", "1")
    end = time.monotonic() + PATIENCE_SECONDS
    while not list(place.runs.glob("tiny/dgc/*/metrics.jsonl")):
        assert time.monotonic() < end
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert "the same command goes on with them" in out
    place.search("--jobs", "1")
    assert [each["state"] for each in studied(place.runs)] == ["COMPLETE"] * SETTINGS


@pytest.mark.slow
def test_a_second_search_at_the_same_time_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    place = Place(tmp_path / "here", "tpe", "none")
    first = place.start("--jobs", "1")
    end = time.monotonic() + PATIENCE_SECONDS
    while not list(place.runs.glob("tiny/dgc/*/metrics.jsonl")):
        assert time.monotonic() < end
        time.sleep(0.005)
    halt(first.pid)  # so it is not over before the second begins
    second = place.start("--jobs", "1")
    _, err = second.communicate(timeout=PATIENCE_SECONDS)
    proceed(first.pid)
    assert second.returncode == 2
    assert "another process searches this experiment" in err
    _, err = first.communicate(timeout=PATIENCE_SECONDS)
    assert first.returncode == 0
    assert len(studied(place.runs)) == SETTINGS
