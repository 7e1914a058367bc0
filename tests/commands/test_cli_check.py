"""``deltagclip check``: what it says of an optimizer, and of names that are none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from invocation import Invoke

from deltagclip_cli.conformance import host
from deltagclip_cli.conformance.conformance_test import Answer, Finding
from deltagclip_cli.spec.trial import Trial

BROKEN = Path(__file__).parents[1] / "conformance" / "broken.py"
OWN = {
    "needs.py": "import torch\nclass Needs(torch.optim.Optimizer):\n"
    "    def __init__(self, params, lr, rho: float): ...\n",
    "wrong.py": "def f(:\n",
    "raises.py": "import torch\nraise RuntimeError('no licence')\n"
    "class A(torch.optim.Optimizer):\n    def __init__(self, params): ...\n",
}


def finding(name: str, answer: Answer, seen: str = "") -> Finding:
    return Finding("State", name, "It holds.", "Or it hurts.", answer, seen)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """The trials whose optimizers were to be tested, of which three things are found."""
    trials = []

    def examine(trial: Trial, names: object, seconds: object) -> Iterator[Finding | int]:
        trials.append(trial)
        yield 3
        yield finding("round trip", Answer.PASSED)
        yield finding("resume", Answer.FAILED, "1 of 2 numbers differs")
        yield finding("modes", Answer.INAPPLICABLE, "it has no train() and eval()")
        yield finding("memory", Answer.SHOWN, "8 bytes a weight")

    monkeypatch.setattr(host, "examine", examine)
    return trials


@pytest.mark.parametrize("columns", [80, 160])
def test_a_table_and_what_was_seen_of_failures(
    deltagclip: Invoke, asked: list[Trial], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    from deltagclip_cli.terminal import console

    monkeypatch.setattr(console, "COLUMNS_OF_FILES", columns)
    said = deltagclip("check", "adamw", "--set", "lr=0.1")
    assert said.exit_code == 1
    lines = said.output.splitlines()
    assert lines[0].strip() == "adamw with lr=0.1" and asked[0].optimizer.options["lr"] == 0.1
    assert all(len(line) <= columns for line in lines)
    assert lines[-1] == ("1 passed, 1 failed, 1 does not apply; 1 figure without a verdict")
    assert "✗ State: resume\n  1 of 2 numbers differs\n  It holds. Or it hurts." in said.output
    assert ("what must hold" in said.output) == (columns == 160)


def test_json_has_every_test_whole(deltagclip: Invoke, asked: list[Trial]) -> None:
    said = deltagclip("check", "delta_gclip", "--set", "gamma=2", "--json")
    assert said.exit_code == 1
    answer = json.loads(said.output)
    assert answer["counts"] == {"passed": 1, "failed": 1, "does not apply": 1, "shown": 1}
    assert answer["options"]["gamma"] == 2 and answer["options"]["lr"] == 0.01
    assert answer["tests"][1] == {
        "group": "State",
        "name": "resume",
        "claim": "It holds.",
        "harm": "Or it hurts.",
        "answer": "failed",
        "seen": "1 of 2 numbers differs",
        "seconds": 0.0,
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("adamv", "there is no optimizer 'adamv'.\n  optimizers: "),
        ("adamv", "did you mean 'adam'?"),
        ("needs.py:Needs", "needs.py:Needs needs rho, for which it has no default.\n  deltagclip "),
        ("needs.py:Needs", "check needs.py:Needs --set rho=..."),
        ("needs.py:Need", "did you mean 'Needs'?"),
        ("wrong.py:f", "wrong.py, line 1: invalid syntax"),
        ("nowhere_at_all:Lion", "the package nowhere_at_all is not installed"),
        ("adamw --set lrr=1", "unknown option 'lrr' for adamw.\n  options: "),
        ("adamw --set lr=fast", "'lr' must be a valid number (got the text 'fast')"),
        ("delta_gclip --set gamma=-1", "'gamma' must be greater than 0 (got -1)"),
        ("adamw --set lr=1 --set lr.x=2", "'lr' is a single value without keys of its own"),
        ("adamw --set name=sgd", "the name is the first word: deltagclip check NAME"),
        ("adamw --set clip_grad_norm=1", "clip_grad_norm is a setting of a training"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(
    deltagclip: Invoke, asked: list[Trial], tmp_path: Path, words: str, said: str
) -> None:
    for name, text in OWN.items():
        (tmp_path / name).write_text(text)
    refused = deltagclip("check", *words.split())
    assert refused.exit_code == 2 and said in refused.output and not asked


def check(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deltagclip_cli", "check", *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("EndsItsProcess", "the process of the test ended itself with code 7"),
        ("ReadsNoMemory", "the process of the test was killed by SIGSEGV"),
        ("NeverEnds", "it is not done after 2 seconds"),
    ],
)
def test_a_crash_costs_one_line(name: str, seen: str) -> None:
    words = ["--test", "round trip", "--test", "repr", "--seconds", "2"]
    done = check(BROKEN.parent, f"{BROKEN.name}:{name}", *words)
    assert done.returncode == 1
    assert seen in done.stdout
    assert "2 passed, 1 failed, 0 do not apply" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("name", "test"), [("NoisyRanks", "DDP"), ("NormOfTheShard", "FSDP2")])
def test_two_processes_that_drift_apart_are_found(name: str, test: str) -> None:
    done = check(BROKEN.parent, f"{BROKEN.name}:{name}", "--test", test)
    assert done.returncode == 1 and f"under {test}" in done.stdout
    assert "1 passed, 1 failed" in done.stdout


@pytest.mark.slow
def test_a_file_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hangs.py").write_text(f"import time\ntime.sleep(600)\n{OWN['needs.py']}")
    with open(tmp_path / "sitecustomize.py", "w") as file:
        file.write("import deltagclip_cli.conformance.host as host\nhost._IMPORT_SECONDS = 1\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    done = check(tmp_path, "hangs.py:Needs", "--set", "lr=0.1", "--set", "rho=1.0")
    assert done.returncode == 1
    assert "imports the optimizer was not done after 1 seconds" in done.stderr


@pytest.mark.slow
def test_an_optimizer_that_cannot_be_imported(tmp_path: Path) -> None:
    for name, text in OWN.items():
        (tmp_path / name).write_text(text)
    done = check(tmp_path, "raises.py:A")
    assert done.returncode == 2
    assert "cannot be imported: RuntimeError: no licence\n  raises.py:2" in done.stderr
    done = check(tmp_path, "adamw", "--test", "resumes")
    assert done.returncode == 2 and "did you mean 'resume'?" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [("delta_gclip", ""), *((each, "--test DDP --test FSDP2") for each in ("gclip", "muon_adamw"))],
)
def test_our_optimizers_pass(name: str, words: str, tmp_path: Path) -> None:
    done = check(tmp_path, name, *words.split())
    assert done.returncode == 0, done.stdout
    assert ", 0 failed, " in done.stdout
