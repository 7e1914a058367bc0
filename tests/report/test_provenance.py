"""Where numbers come from, as far as the run folders tell."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from made_runs import run

from deltagclip_cli.report.provenance import provenance
from deltagclip_cli.results.read.run import Outcome, Run

START: dict[str, Any] = {
    "started": "2026-11-24T02:01:46+00:00",
    "host": "node1",
    "platform": "Linux",
    "python": "3.11.7",
    "deltagclip_cli": "0.1.0",
    "packages": {"torch": "2.15.0", "timm": None},
    "cuda": "13.2",
    "cudnn": 92600,
    "device": "NVIDIA H100",
    "git": {"commit": "0123456789abcdef", "dirty": True},
}


def made(folder: Path, optimizer: str = "adam", seed: int = 0, **changes: Any) -> Run:
    """A run whose folder tells where it was made."""
    path = folder / optimizer / f"seed-{seed}"
    path.mkdir(parents=True)
    (path / "environment.json").write_text(json.dumps([{**START, **changes}]))
    (path / "trial.yaml").write_text(f"experiment: tiny\nlabel: {optimizer}\nseed: {seed}\n")
    return replace(run(optimizer, seed, [0.1, 0.9]), folder=path)


def test_what_was_the_same_for_all_is_said_once(tmp_path: Path) -> None:
    facts = provenance([made(tmp_path, seed=seed) for seed in range(3)]).facts
    assert facts["Runs"] == "3 finished"
    assert facts["Packages"] == "torch 2.15.0"
    assert facts["Git"] == "0123456789ab, with changes that were not committed"
    assert facts["Device time"] == "12 s on NVIDIA H100"
    assert facts["Begun"] == "2026-11-24T02:01:46+00:00"


def test_what_was_not_the_same_is_counted(tmp_path: Path) -> None:
    runs = [made(tmp_path, seed=seed) for seed in range(2)]
    runs.append(made(tmp_path, "sgd", device="cpu", git=None, started="2026-11-25"))
    facts = provenance(runs).facts
    assert facts["Device"] == "NVIDIA H100 (2 ×: adam); cpu (1 ×: sgd)"
    assert facts["Device time"] == "8.0 s on NVIDIA H100; 4.0 s on cpu"
    assert facts["Git"].endswith("; not in a repository (1 ×: sgd)")
    assert facts["Begun"] == "2026-11-24T02:01:46+00:00 to 2026-11-25"


def test_each_setting_has_its_trial_under_a_name_of_its_own(tmp_path: Path) -> None:
    runs = [made(tmp_path, name, seed) for name in ("a b", "a&b") for seed in range(2)]
    specs = provenance(runs).trials
    assert [spec["file"] for spec in specs] == ["tiny-a-b.yaml", "tiny-a-b-2.yaml"]
    assert [spec["title"] for spec in specs] == ["tiny · a b", "tiny · a&b"]
    assert "label: a&b" in specs[1]["text"]


def test_other_programs_runs_tell_where_they_are() -> None:
    found = provenance([run("adam", 0, [0.1])])
    assert set(found.facts) == {"Runs", "Time"}
    assert found.runs[0]["folder"] == "tiny/adam/seed-0"
    assert found.trials == []


def test_an_environment_that_is_cut_or_odd_tells_nothing(tmp_path: Path) -> None:
    runs = [made(tmp_path, seed=seed, device=["\x1b[31m"], git="no") for seed in range(2)]
    (runs[0].folder / "environment.json").write_text('[{"host": "no')
    facts = provenance(runs).facts
    assert facts["Host"] == "node1"
    assert "\x1b" not in str(facts)


def test_what_did_not_finish_comes_first_with_its_reason() -> None:
    failed = replace(run("sgd", 1, [0.1], Outcome.FAILED), reason="out of memory")
    found = provenance([run("adam", 0, [0.1]), failed])
    assert [each["reason"] for each in found.runs] == ["out of memory", ""]
    assert [each["optimizer"] for each in found.failures] == ["sgd"]
    assert found.facts["Runs"] == "1 finished, 1 failed"
