"""Trials that are trained again: which, under what conditions, and what is said of their bits."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from verify_cases import say

from deltagclip_cli.core import UsageError
from deltagclip_cli.results.read.run import Run
from deltagclip_cli.results.read.tree import Place
from deltagclip_cli.verify.rerun import chosen, rerun

SPEC = """\
experiments:
  tiny:
    model: {name: "net.py:net"}
    data: {name: synthetic, batch_size: 8, size: 4, train: 32, test: 16}
    epochs: 2
    seeds: [0, 1, 2]
    optimizers: {sgd: {name: sgd, lr: 0.1}}
"""
NET = """\
from torch import nn


def net(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(48, classes))
"""


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Three trials of a network of one's own, which were trained."""
    monkeypatch.chdir(tmp_path)
    Path("experiments.yaml").write_text(SPEC)
    Path("net.py").write_text(NET)
    result = say("sweep", "tiny", "--launcher", "inline", "--quiet")
    assert result.exit_code == 0, result.output
    Path("net.py").unlink()  # the copy is what is trained
    return list(Place(("tiny",), Path("runs")).read().runs)


@pytest.mark.slow
def test_the_same_trial_has_the_same_bits_and_another_digit_is_told(runs: list[Run]) -> None:
    (found,) = rerun(runs[:1], Path("data"), None)
    assert (found.failure, found.difference, found.reasons) == ("", "", [])
    assert found.compared > 20 and not found.is_at_fault
    metrics = runs[0].folder / "metrics.jsonl"
    text = metrics.read_text()
    metrics.write_text(re.sub(r'("train/loss": \d\.\d{5})\d', r"\g<1>7", text, count=1))
    assert metrics.read_text() != text
    (found,) = rerun(runs[:1], Path("data"), None)
    assert found.is_at_fault
    assert found.difference.startswith("metrics.jsonl, line 1, train/loss is ")
    environment = runs[0].folder / "environment.json"
    (start,) = json.loads(environment.read_text())
    environment.write_text(json.dumps([{**start, "processor": "another"}]))
    (found,) = rerun(runs[:1], Path("data"), None)
    assert found.difference and not found.is_at_fault
    assert found.reasons[0].startswith("processor another then, ")


@pytest.mark.slow
def test_a_trial_that_cannot_be_trained_again_says_why(runs: list[Run]) -> None:
    (code,) = Path("runs/tiny/.code").iterdir()
    (kept,) = code.glob("**/net.py")
    kept.write_text(NET.replace("48", "49"))
    say("report", "tiny", "--format", "none")
    result = say("verify", "runs/tiny/report", "--rerun", "1", "--seed", "0")
    assert result.exit_code == 1
    assert "could not be trained again: " in result.stdout
    assert "Trained again: 1 of 3 runs, chosen by --seed 0." in result.stdout


@pytest.mark.slow
def test_the_choice_is_shown_and_can_be_made_again(runs: list[Run]) -> None:
    assert chosen(runs, 2, 5) == chosen(list(reversed(runs)), 2, 5)
    assert {tuple(run.seed for run in chosen(runs, 2, seed)) for seed in range(20)} > {(0, 1)}
    with pytest.raises(UsageError, match="3 finished trials"):
        chosen(runs, 4, 0)
    say("report", "tiny", "--format", "none")
    answer = json.loads(say("verify", "runs/tiny/report", "--rerun", "1", "--json").stdout)
    assert answer["verified"] and answer["rerun"]["seed"] < 10**6
    (trial,) = answer["rerun"]["trials"]
    assert (trial["difference"], trial["reasons"], trial["failure"]) == ("", [], "")
