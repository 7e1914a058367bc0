"""``deltagclip try`` as it is typed: the plan, refusals, and whole tries that train."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sweep_cases import wait_for

OWN = """\
import torch

class Mine(torch.optim.AdamW):
    def __init__(self, params, lr: float = 3e-3):
        super().__init__(params, lr=lr)

class Still(torch.optim.AdamW):
    def __init__(self, params, lr: float = 3e-3):
        super().__init__(params, lr=lr)

    def step(self):
        pass
"""


def words(*given: str) -> list[str]:
    return [sys.executable, "-m", "deltagclip_cli", "try", *given]


def tried(folder: Path, *given: str) -> subprocess.CompletedProcess[str]:
    (folder / "own.py").write_text(OWN)
    return subprocess.run(words(*given), cwd=folder, capture_output=True, text=True)


def test_the_plan_of_a_try_is_shown_and_nothing_is_begun(tmp_path: Path) -> None:
    shown = tried(tmp_path, "own.py:Mine", "--dry-run", "-j", "3")
    assert shown.returncode == 0
    assert shown.stdout.splitlines() == [
        "mine: lr is scanned at 3e-06, 3e-05, 0.0003, 0.003, 0.03, 0.3, 3",
        "6 rounds on 3 problems: at most 147 trials to run on 3 slots, 0 are there.",
    ]
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_what_never_moves_is_said_not_to_train(tmp_path: Path) -> None:
    done = tried(tmp_path, "own.py:Still")
    assert done.returncode == 1
    assert "still does not train on shapes, grammar and measurements" in done.stdout
    assert "deltagclip check own.py:Still looks for the reason." in done.stdout
    assert len(list((tmp_path / "runs").glob("*/still/*/result.json"))) == 21


@pytest.mark.slow
@pytest.mark.long
def test_a_try_that_is_interrupted_goes_on_and_answers_at_once_when_it_is_done(
    tmp_path: Path,
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    call = words("own.py:Mine", "--rounds", "2", "--json")
    first = subprocess.Popen(call, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    runs = tmp_path / "runs"
    wait_for(lambda: len(list(runs.glob("*/mine/*/result.json"))) > 3, "some results")
    os.kill(first.pid, signal.SIGINT)
    _, said = first.communicate()
    assert first.returncode == 130, said
    assert b"Not finished: the same command goes on." in said
    there = {each: each.stat().st_mtime_ns for each in runs.glob("*/*/*/result.json")}
    second = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    assert {each: each.stat().st_mtime_ns for each in there} == there
    answer = json.loads(second.stdout)
    assert answer["trains"] and len(answer["comparisons"]) == 6
    assert {each["verdict"] for each in answer["comparisons"]} <= {"not told apart", "better"}
    assert len(list(runs.glob("*/*/*/result.json"))) == 63
    third = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True)
    assert json.loads(third.stdout) == answer
    assert "to run" not in third.stderr
