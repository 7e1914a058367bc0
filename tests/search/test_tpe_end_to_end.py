"""Real searches: real training in worker processes, killed on the way and continued."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna")

from tpe_cases import studied

PATIENCE_SECONDS = 300
SETTINGS = 12
SPEC = """\
experiments:
  tiny:
    model: {name: mlp, hidden: [8]}
    data: {name: synthetic, batch_size: 8, size: 4, train: 32, test: 16}
    epochs: 8
    seeds: [0, 1]
    optimizers:
      dgc: {name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}
    search:
      metric: test/loss
      sampler: tpe
      pruner: PRUNER
      space:
        dgc:
          lr: {log_uniform: [1e-3, 10]}
          gamma: {log_uniform: [1e-2, 10]}
          delta: {log_uniform: [1e-4, 1]}
"""


def _hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # who started the tests may have it ignored


class Place:
    """A folder with the spec, where searches are started."""

    def __init__(self, path: Path, pruner: str) -> None:
        path.mkdir(parents=True)
        self.path, self.runs = path, path / "runs"
        (path / "experiments.yaml").write_text(SPEC.replace("PRUNER", pruner))

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = ["sweep", "tiny", "--search", str(SETTINGS), "--select-on-test", *words]
        return subprocess.Popen(
            [sys.executable, "-W", "error::UserWarning", "-m", "deltagclip_cli", *command],
            cwd=self.path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_hear_interrupts,
        )

    def search(self, *words: str) -> tuple[str, str]:
        """Search to the end; what was printed."""
        process = self.start(*words)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, out + err
        return out, err

    def kill_after(self, trials: int, *words: str) -> None:
        """Start a search, and kill it with everything it has started when so many have begun."""
        process = self.start(*words)
        end = time.monotonic() + PATIENCE_SECONDS
        while len(list(self.runs.glob("tiny/dgc/*/metrics.jsonl"))) < trials:
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < end
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    def losses(self) -> dict[str, Any]:
        """For each finished trial the loss after every epoch."""
        return {
            file.parent.name: [
                json.loads(line).get("test/loss")
                for line in (file.parent / "metrics.jsonl").read_text().splitlines()
            ]
            for file in self.runs.glob("tiny/dgc/*/result.json")
        }


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["none", "median", "halving"])
def test_a_search_killed_half_way_and_continued_is_the_one_that_was_not(
    tmp_path: Path, pruner: str
) -> None:
    undisturbed, killed = Place(tmp_path / "one", pruner), Place(tmp_path / "other", pruner)
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
    place = Place(tmp_path / "here", "median")
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
    place = Place(tmp_path / "here", "none")
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
    place = Place(tmp_path / "here", "none")
    first = place.start("--jobs", "1")
    end = time.monotonic() + PATIENCE_SECONDS
    while not list(place.runs.glob("tiny/dgc/*/metrics.jsonl")):
        assert time.monotonic() < end
        time.sleep(0.005)
    first.send_signal(signal.SIGSTOP)  # so it is not over before the second begins
    second = place.start("--jobs", "1")
    _, err = second.communicate(timeout=PATIENCE_SECONDS)
    first.send_signal(signal.SIGCONT)
    assert second.returncode == 2
    assert "another process searches this experiment" in err
    _, err = first.communicate(timeout=PATIENCE_SECONDS)
    assert first.returncode == 0
    assert len(studied(place.runs)) == SETTINGS
