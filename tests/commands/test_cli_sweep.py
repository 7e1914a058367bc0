"""``deltagclip sweep`` without training: plans, finished sweeps, and wrong input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from invocation import Invoke
from run_cases import result_text
from tiny_spec import trials_of

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import HeldFolder, create

GRID = "grid={sgd: {lr: [0.1, 0.2]}}"
TINY = ("sweep", "tiny", "--spec", "spec.yaml")


def finish(folder: Path, *sets: str, status: str = "finished") -> list[RunFolder]:
    """Leave a result for every trial of the tiny experiment."""
    folders = []
    for number, trial in enumerate(trials_of(folder, *sets)):
        run = RunFolder.of(folder / "runs", trial)
        create(run, trial)
        result = result_text(
            status,
            identity=trial.identity,
            last={"test/loss": 1.0 + number, "test/accuracy": 0.5},
            seconds={"epochs": 3.0, "last_start": 3.0},
        )
        run.result_file.write_text(result)
        folders.append(run)
    return folders


def test_a_plan_names_settings_seeds_states_and_slots(deltagclip: Invoke, tmp_path: Path) -> None:
    finish(tmp_path, "seeds=[0, 1]")
    shown = deltagclip(*TINY, "--dry-run", "-j", "2", "--set", "seeds=[0, 1, 2]", "--set", GRID)
    assert shown.exit_code == 0
    rows = [" ".join(line.split()) for line in shown.output.splitlines()]
    assert "sgd" in rows
    assert "lr=0.1 0-2 2 finished, 1 new cpu 0 3.0 s" in rows
    assert "lr=0.2 0-2 3 new cpu 1, cpu 0 9.0 s" in rows
    assert "delta-gclip 0-2 2 finished, 1 new cpu 0 3.0 s" in rows
    last = shown.output.splitlines()[-1]
    assert last == "9 trials: 4 finished, 5 new. 5 to run on 2 slots, about 9.0 s."


def test_a_plan_says_what_trains_in_one_stack(deltagclip: Invoke, tmp_path: Path) -> None:
    finish(tmp_path, "stack=3")
    words = (*TINY, "--dry-run", "-j", "2", "--set", "seeds=[0, 1, 2]", "--set", "stack=3")
    shown = deltagclip(*words).output
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    assert "sgd 0-2 1 finished, 2 new cpu 0 (stack 1) 3.0 s" in rows
    assert "delta-gclip 0-2 1 finished, 2 new cpu 0 (stack 1), cpu 1 (stack 2) 6.0 s" in rows
    last = "6 trials: 2 finished, 4 new. 4 to run (4 in 2 stacks) on 2 slots, about 3.0 s."
    assert rows[-1] == last
    trials = json.loads(deltagclip(*words, "--json").stdout)["trials"]
    assert [each["unit"] for each in trials] == [None, 1, 1, None, 1, 2]


def test_a_stack_that_was_short_of_memory_is_told_of_in_the_end(
    deltagclip: Invoke, tmp_path: Path
) -> None:
    halved, whole = finish(tmp_path, "stack=4")
    for folder, at_once in ((halved, 2), (whole, 4)):
        start = {"stack": {"place": 0, "at_once": at_once}}
        folder.environment_file.write_text(json.dumps([start]))
    shown = deltagclip(*TINY, "--set", "stack=4").output
    words = "their stacks computed fewer places at once; with fewer they take as long"
    assert f"memory full   1: {words}" in shown


def test_a_plan_makes_no_files_and_loads_no_torch(deltagclip: Invoke, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    words = [*TINY, "--dry-run"]
    code = (
        "import sys; from deltagclip_cli.commands.app import app\n"
        f"app({words!r}, standalone_mode=False)\n"
        "assert not {'torch', 'numpy', 'optuna'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, stdout=-3)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_plan_as_json_has_every_trial(deltagclip: Invoke, tmp_path: Path) -> None:
    finish(tmp_path)
    words = (*TINY, "--dry-run", "--json", "-j", "1", "--set", "seeds=[0, 4]")
    trials = json.loads(deltagclip(*words).stdout)["trials"]
    assert [(t["optimizer"], t["seed"], t["state"], t["runs_on"]) for t in trials] == [
        ("sgd", 0, "finished", None),
        ("sgd", 4, "new", "cpu 0"),
        ("delta-gclip", 0, "finished", None),
        ("delta-gclip", 4, "new", "cpu 0"),
    ]
    assert trials[0]["last"] == {"test/loss": 1.0, "test/accuracy": 0.5}
    assert trials[1]["folder"].startswith("runs/tiny/sgd/seed-4-")
    assert trials[3]["settings"]["delta"] == 1e-3


def test_optimizers_and_seeds_can_be_chosen(deltagclip: Invoke) -> None:
    words = (*TINY, "--dry-run", "--json", "--optimizer", "sgd", "--seed", "7", "--seed", "8")
    trials = json.loads(deltagclip(*words).stdout)["trials"]
    assert [(t["optimizer"], t["seed"]) for t in trials] == [("sgd", 7), ("sgd", 8)]


def test_a_finished_sweep_is_told_of_without_torch(deltagclip: Invoke, tmp_path: Path) -> None:
    before = {run.path: run.result_file.stat().st_mtime_ns for run in finish(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "deltagclip_cli", *TINY],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    imported = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines()]
    assert "deltagclip_cli" in imported and "torch" not in imported
    assert done.returncode == 0
    assert "started" not in done.stdout
    assert ["sgd", "1", "1", "0.5"] in [line.split() for line in done.stdout.splitlines()]
    for command in ("compare", "report", "tensorboard"):
        assert f"{command:14}deltagclip {command} tiny" in done.stdout.splitlines()
    for path, modified in before.items():
        assert RunFolder(path).result_file.stat().st_mtime_ns == modified


def test_diverged_trials_are_results_but_no_success(deltagclip: Invoke, tmp_path: Path) -> None:
    finish(tmp_path, status="diverged")
    done = deltagclip(*TINY)
    assert done.exit_code == 1
    assert "1 diverged" in done.output


def test_failed_trials_are_skipped_with_the_way_to_run_them_again(
    deltagclip: Invoke, tmp_path: Path
) -> None:
    for run in finish(tmp_path):
        run.result_file.unlink()
        HeldFolder(run).record_failure(ValueError("why"), "why")
    done = deltagclip(*TINY)
    assert done.exit_code == 1
    assert "failed        2: --retry-failed runs them again" in done.output
    assert "compare" not in done.output, "there is nothing to be compared"
    assert "why           deltagclip status tiny" in done.output
    plan = deltagclip(*TINY, "--dry-run", "--retry-failed").output
    assert "2 to run" in plan


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("sweep", "tinny"), "there is no experiment 'tinny'"),
        (("sweep", "tiny.yaml"), "A file of experiments is named by --spec tiny.yaml."),
        ((*TINY, "--optimizer", "adam"), "--optimizer adam: no experiment here has"),
        ((*TINY, "--launcher", "cloud"), "there is no such launcher.\n  launchers: local, inline"),
        ((*TINY, "--jobs", "2", "--gpus", "0"), "not on both"),
        ((*TINY, "--gpus", "5"), "GPUs visible here: none"),
        ((*TINY, "--set", "grid={sgd: {momentumm: [1]}}"), "unknown option 'momentumm' for sgd"),
        ((*TINY, "--set", "grid={sgd: {lr: []}}"), "lr"),
        ((*TINY, "--set", "grid={sgd: {lr: {log_range: [0.1, 1]}}}"), "count"),
    ],
)
def test_wrong_input_is_refused_before_anything_runs(
    deltagclip: Invoke, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    spec = () if "--spec" in words else ("--spec", "spec.yaml")
    done = deltagclip(*words, *spec)
    assert done.exit_code == 2
    assert message in done.output
    assert not (tmp_path / "runs").exists()


def answered(folder: Path, words: tuple[str, ...], answer: bytes, code: int) -> str:
    """What a command prints that is told no on a terminal, and so starts nothing."""
    leader, follower = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "deltagclip_cli", *words],
        cwd=folder,
        stdin=follower,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    os.write(leader, answer)
    out, _ = process.communicate(timeout=300)
    os.close(leader)
    os.close(follower)
    assert process.returncode == code
    assert "started" not in out
    assert "should not have happened" not in out
    return out


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 1), (b"\x04", 130)])
def test_force_says_what_it_replaces_and_asks_on_a_terminal_only(
    deltagclip: Invoke, tmp_path: Path, answer: bytes, code: int
) -> None:
    finish(tmp_path)
    out = answered(tmp_path, (*TINY, "--force"), answer, code)
    assert "--force replaces 2 results.\nGo on? [y/N]" in out


def add_another(folder: Path) -> None:
    """A second experiment, whose model is another and which has no delta-gclip."""
    spec = folder / "spec.yaml"
    tiny = spec.read_text().split("experiments:\n")[1].rpartition("      delta-gclip")[0]
    other = tiny.replace("tiny:", "other:").replace("hidden: [8]", "hidden: [16]")
    spec.write_text(spec.read_text() + other)


def test_the_time_of_other_experiments_is_not_guessed(deltagclip: Invoke, tmp_path: Path) -> None:
    finish(tmp_path)
    add_another(tmp_path)
    words = ("sweep", "--spec", "spec.yaml", "--dry-run", "-j", "1", "--set", "seeds=[0, 1]")
    last = deltagclip(*words).output.splitlines()[-1]
    assert last.endswith("4 to run on cpu 0: about 6.0 s for 2, unknown for 2.")
    trials = json.loads(deltagclip(*words, "--json").stdout)["trials"]
    times = [t["seconds"] for t in trials if t["state"] == "new"]
    assert times == [3.0, 3.0, None, None]


def test_all_experiments_are_swept_only_if_that_is_said(deltagclip: Invoke, tmp_path: Path) -> None:
    add_another(tmp_path)
    words = ("sweep", "--spec", "spec.yaml", "--launcher", "inline")
    refused = deltagclip(*words)
    assert refused.exit_code == 2
    assert "spec.yaml has 2 experiments, of 3 trials.\n" in refused.output
    assert "say --all.\n  experiments: tiny, other\n" in refused.output
    assert not (tmp_path / "runs").exists()
    for meant in (("--all",), ("tiny", "other")):
        assert "3 trials: 3 new. 3 to run on" in deltagclip(*words, *meant, "--dry-run").output
    both = deltagclip(*words, "--all", "tiny")
    assert (both.exit_code, "not with the names" in both.output) == (2, True)


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 1), (b"\x04", 130)])
def test_on_a_terminal_it_is_asked_whether_all_are_meant(
    deltagclip: Invoke, tmp_path: Path, answer: bytes, code: int
) -> None:
    add_another(tmp_path)
    out = answered(tmp_path, ("sweep", "--spec", "spec.yaml"), answer, code)
    assert "spec.yaml has 2 experiments, of 3 trials. Run them all? [y/N]" in out


def test_an_experiment_without_the_chosen_optimizer_has_no_trials(
    deltagclip: Invoke, tmp_path: Path
) -> None:
    add_another(tmp_path)
    words = ("sweep", "--spec", "spec.yaml", "--dry-run", "--json", "--optimizer", "delta-gclip")
    trials = json.loads(deltagclip(*words).stdout)["trials"]
    assert [(t["experiment"], t["optimizer"]) for t in trials] == [("tiny", "delta-gclip")]


def test_what_a_search_gave_up_is_finished_by_a_sweep(deltagclip: Invoke, tmp_path: Path) -> None:
    for trial in trials_of(tmp_path):
        run = RunFolder.of(tmp_path / "runs", trial)
        create(run, trial)
        HeldFolder(run).record_pruning("worse than the median")
    assert "2 trials: 2 pruned. 2 to run" in deltagclip(*TINY, "--dry-run").output


@pytest.mark.parametrize("words", [("sweep", "--launcher", "local"), ("train",)])
def test_nothing_is_started_where_parts_refuse_their_options(
    deltagclip: Invoke, tmp_path: Path, words: tuple[str, ...]
) -> None:
    schedule = "schedule={name: steplr, step_size: 0}"
    refused = deltagclip(*words, "tiny", "--spec", "spec.yaml", "--set", schedule)
    assert refused.exit_code == 2
    assert "tiny › schedule: schedule 'steplr' fails after epoch 1 of 2" in refused.stderr
    assert not (tmp_path / "runs").exists()
