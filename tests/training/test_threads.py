"""The number of threads changes the bits of a trial: it is decided once, and kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from training_cases import Done, StopAt, assert_same_numbers, never, train, trial_of

from deltagclip_cli.runs.environment import THREADS
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.training import worker
from deltagclip_cli.training.assembly import Parts, assemble

TRIAL = trial_of()


def starts(runs: Path) -> list[dict[str, Any]]:
    read: list[dict[str, Any]] = json.loads(RunFolder.of(runs, TRIAL).environment_file.read_text())
    return read


def threads(runs: Path) -> list[int]:
    """Of each start."""
    return [start["threads"] for start in starts(runs)]


def rewrite(runs: Path, **changes: object) -> None:
    """Let the only start of a trial have been in other circumstances."""
    (start,) = starts(runs)
    text = json.dumps([{**start, **changes}])
    RunFolder.of(runs, TRIAL).environment_file.write_text(text)


def log(runs: Path) -> str:
    return RunFolder.of(runs, TRIAL).log_file.read_text()


def test_whoever_is_faster_decides(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def assembled_while_another_begins(*words: Any, **options: Any) -> Parts:
        monkeypatch.undo()
        train(TRIAL, runs, threads=3, stop=StopAt(3))
        torch.set_num_threads(2)  # as this process has decided
        return assemble(*words, **options)

    monkeypatch.setattr(worker, "assemble", assembled_while_another_begins)
    train(TRIAL, runs, threads=2)
    assert threads(runs) == [3, 3]


@pytest.mark.parametrize("before", [1, 2, 3])
def test_a_trial_has_the_usual_threads_whatever_torch_would_take(runs: Path, before: int) -> None:
    torch.set_num_threads(before)  # as OMP_NUM_THREADS or the cores have it
    train(TRIAL, runs)
    assert threads(runs) == [1] == [torch.get_num_threads()]


def test_a_trial_that_was_interrupted_keeps_the_threads_that_it_was_begun_with(
    runs: Path, tmp_path: Path
) -> None:
    train(TRIAL, tmp_path / "undisturbed", threads=2)
    train(TRIAL, runs, threads=2, stop=StopAt(3))
    train(TRIAL, runs, stop=StopAt(3))  # who asks for none
    assert "keeps" not in log(runs)
    train(TRIAL, runs, threads=3)  # who asks for others
    assert "keeps the 2 threads that it was begun with" in log(runs)
    assert "--force begins again with 3" in log(runs)
    assert threads(runs) == [2, 2, 2]
    assert_same_numbers(RunFolder.of(runs, TRIAL), RunFolder.of(tmp_path / "undisturbed", TRIAL))


def test_a_trial_that_was_killed_before_its_first_checkpoint_keeps_them_too(runs: Path) -> None:
    train(TRIAL, runs, threads=2, stop=StopAt(1))
    folder = RunFolder.of(runs, TRIAL)
    for file in (folder.checkpoint_file, folder.metrics_file):
        file.unlink(missing_ok=True)
    train(TRIAL, runs)
    assert threads(runs) == [2, 2]


def test_force_begins_again_with_the_threads_that_are_asked_for(runs: Path) -> None:
    train(TRIAL, runs, threads=2)
    train(TRIAL, runs, threads=3, force=True)
    assert threads(runs) == [3]
    train(TRIAL, runs, force=True)
    assert threads(runs) == [THREADS]


@pytest.mark.parametrize("content", ["[{", "[]", "{}", '[{"threads": 1e9}]', '[{"threads": "2"}]'])
def test_where_the_threads_are_not_known_any_more_the_log_says_so(runs: Path, content: str) -> None:
    train(TRIAL, runs, threads=2, stop=StopAt(3))
    RunFolder.of(runs, TRIAL).environment_file.write_text(content)
    train(TRIAL, runs)
    assert "environment.json is missing or damaged" in log(runs)
    assert "it goes on with 1" in log(runs)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"packages": {"torch": "2.0.0"}}, f"torch {version('torch')} (2.0.0 before)"),
        ({"processor": "Abacus, wood"}, "(Abacus, wood before)"),
        ({"device": "cuda:0 NVIDIA H200"}, "device CPU (NVIDIA H200 before)"),
        ({"variables": {"MKL_CBWR": "AVX2"}}, "variables none (MKL_CBWR=AVX2 before)"),
        ({"host": "another", "git": None}, ""),
    ],
)
def test_a_trial_that_goes_on_in_other_circumstances_says_so_in_its_log(
    runs: Path, changes: dict[str, object], words: str
) -> None:
    train(TRIAL, runs, stop=StopAt(4))
    rewrite(runs, **changes)
    train(TRIAL, runs, stop=never)
    assert words in log(runs)
    assert ("no longer those of a trial that nothing interrupted" in log(runs)) is bool(words)


def test_compare_names_the_settings_that_other_threads_touched(
    deltagclip: Callable[..., Done], runs: Path
) -> None:
    for seed in ("0", "1"):
        deltagclip("train", "tiny", "--optimizer", "adam", "--seed", seed)
        assert "circumstances" not in deltagclip("compare", "--runs", runs).out
    for seed, count in (("0", "1"), ("1", "2")):
        words = ["--optimizer", "sgd", "--seed", seed, "--threads", count]
        done = deltagclip("train", "tiny", *words)
        assert f"Trains on the CPU with {count} thread" in done.out
    shown = " ".join(deltagclip("compare", "--runs", runs).out.split())
    assert "sgd (seed 1) with threads 2; all else with threads 1." in shown
