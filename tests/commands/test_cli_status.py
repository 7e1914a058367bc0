"""``deltagclip status``: what the files say, with a spec and without."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from invocation import Invoke
from obstacles import as_nobody
from run_cases import beating, make_run, result_text
from tiny_spec import trials_of

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import HeldFolder, create, hold

SPEC = ("--spec", "spec.yaml")


@pytest.fixture
def folders(tmp_path: Path) -> list[RunFolder]:
    """Run folders of seeds 0 to 5 of one optimizer: five states and one that was not begun."""
    sets = ("seeds=[0, 1, 2, 3, 4, 5]",)
    folders = []
    for trial in trials_of(tmp_path, *sets)[:6]:
        folders.append(RunFolder.of(tmp_path / "runs", trial))
        create(folders[-1], trial)
    finished, diverged, failed, stopped, pruned, _ = folders
    for folder, status in ((finished, "finished"), (diverged, "diverged")):
        text = result_text(
            status,
            identity=folder.trial().identity,
            last={"test/loss": 0.25},
            seconds={"epochs": 3.0},
            diverged={"where": "training", "step": 3, "epoch": 1} if folder is diverged else None,
        )
        folder.result_file.write_text(text)
    HeldFolder(failed).record_failure(ValueError("no"), "ValueError: no")
    HeldFolder(stopped).record_stop("killed by SIGKILL")
    HeldFolder(pruned).record_pruning("worse than the median")
    trials_of(tmp_path)  # the spec as it was
    return folders


@pytest.fixture
def hostile(folders: list[RunFolder]) -> list[RunFolder]:
    """The same, of which the first four are damaged, each in another way."""
    piped, shapeless, endless, timeless, *_ = folders
    piped.result_file.unlink()
    os.mkfifo(piped.result_file)
    shapeless.result_file.write_text('{"status": "finished", "identity": ""}')
    endless.owner_file.symlink_to("/dev/zero")
    timeless.progress_file.write_text('{"host": "a", "time": null}')
    return folders


SEEDS = ("--set", "seeds=[0, 1, 2, 3, 4, 5]")


@pytest.mark.usefixtures("folders")
def test_states_and_reasons_are_shown(deltagclip: Invoke) -> None:
    shown = deltagclip("status", *SPEC, *SEEDS).output
    assert ["sgd", "1", "0.25", "1"] in [line.split()[:4] for line in shown.splitlines()]
    assert "tiny: 1 of 12 trials finished" in shown
    assert "1 diverged, 1 failed, 1 interrupted, 1 pruned, 1 new" in shown
    assert "6 new" in shown
    assert "failed: 1\n  tiny · sgd · seed 2: ValueError: no\n" in shown
    assert "interrupted: 1\n  tiny · sgd · seed 3: killed by SIGKILL\n" in shown
    assert "the loss in training was not finite at step 3 (epoch 1)" in shown


def test_a_running_trial_is_shown_with_its_progress(
    deltagclip: Invoke, folders: list[RunFolder]
) -> None:
    with hold(folders[5]):
        beating(folders[5], epoch=1, epochs=2, steps=2)
        shown = deltagclip("status", *SPEC, *SEEDS).output
        records = json.loads(deltagclip("status", *SPEC, *SEEDS, "--json").stdout)["trials"]
    assert "running: 1" in shown
    assert "1 diverged, 1 failed, 1 interrupted, 1 pruned, 1 running" in shown
    assert "tiny · sgd · seed 5" in shown and "2/2" in shown
    (running,) = [record for record in records if record["state"] == "running"]
    assert running["progress"]["done"] == 0.5
    shown = deltagclip("status", *SPEC, *SEEDS).output
    assert "running" not in shown, "the process that was there has ended"


def test_what_one_process_trains_together_is_seen(
    deltagclip: Invoke, folders: list[RunFolder]
) -> None:
    with hold(folders[4]), hold(folders[5]):
        for folder in folders[4:6]:
            beating(folder, epoch=1, epochs=2, steps=2)
        shown = deltagclip("status", *SPEC, *SEEDS).output
    assert shown.count(f"cpu (process {os.getpid()}) tiny · sgd · seed") == 2


@pytest.mark.usefixtures("folders")
def test_trials_that_ended_early_are_named_with_their_best_step(
    deltagclip: Invoke, folders: list[RunFolder]
) -> None:
    file = folders[0].result_file
    best = {"value": 0.25, "epoch": 1, "step": 2}
    early = {"metric": "validation/loss", "evaluations": 2, "best": best}
    file.write_text(json.dumps({**json.loads(file.read_text()), "ended_early": early}))
    shown = deltagclip("status", *SPEC, *SEEDS).output
    assert "ended early: 1\n  tiny · sgd · seed 0: at step 4, best at step 2\n" in shown
    records = json.loads(deltagclip("status", *SPEC, *SEEDS, "--json").stdout)["trials"]
    assert records[0]["reason"] == "ended early: validation/loss was best at step 2"
    file.write_text(json.dumps({**json.loads(file.read_text()), "ended_early": 3}))
    assert "1 of 12" not in deltagclip("status", *SPEC, *SEEDS).output  # it is damaged


@pytest.mark.usefixtures("folders")
def test_json_has_a_record_for_each_trial(deltagclip: Invoke) -> None:
    records = json.loads(deltagclip("status", *SPEC, *SEEDS, "--json").stdout)["trials"]
    assert [(r["optimizer"], r["seed"], r["state"], r["reason"]) for r in records[:6]] == [
        ("sgd", 0, "finished", ""),
        ("sgd", 1, "diverged", "the loss in training was not finite at step 3 (epoch 1)"),
        ("sgd", 2, "failed", "ValueError: no"),
        ("sgd", 3, "interrupted", "killed by SIGKILL"),
        ("sgd", 4, "pruned", "worse than the median"),
        ("sgd", 5, "new", ""),
    ]
    assert len(records) == 12


@pytest.mark.usefixtures("hostile")
def test_one_bad_folder_is_named_and_the_others_are_shown(deltagclip: Invoke) -> None:
    for words in (("status", *SPEC, *SEEDS), ("status",)):
        shown = deltagclip(*words).output
        assert "result.json cannot be read: it is a named pipe, not a file\n" in shown
        assert "owner.json cannot be read: it is a device, not a file\n" in shown
        assert "1 pruned" in shown and "killed by SIGKILL" in shown
        records = json.loads(deltagclip(*words, "--json").stdout)["trials"]
        reasons = {record["seed"]: record["reason"] for record in records[:6]}
        assert reasons[1] == "result.json is damaged: epochs: Field required"
    planned = deltagclip("sweep", "tiny", *SPEC, *SEEDS, "--dry-run").output
    assert "2 failed" in planned


def test_what_another_user_keeps_to_himself_is_named_and_the_rest_is_shown(
    deltagclip: Invoke, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(open_folder)
    runs = Path("runs")
    trials = trials_of(open_folder, SEEDS[1])
    for trial in trials[:2]:
        create(RunFolder.of(runs, trial), trial)
        HeldFolder(RunFolder.of(runs, trial)).record_stop("killed by SIGKILL")
    closed = [RunFolder.of(runs, trials[0]).path, runs / "theirs", runs / "tiny/other"]
    for folder in closed[1:]:
        folder.mkdir()
    for folder in closed:
        folder.chmod(0o000)
    (runs / "loop").symlink_to("loop")
    deltagclip("status", *SPEC, *SEEDS)  # which loads what nobody may be kept from
    with as_nobody():
        shown = [deltagclip(*words).output for words in (("status", *SPEC, *SEEDS), ("status",))]
    for folder in closed:
        folder.chmod(0o755)
    for each in shown:
        assert "the run folder cannot be read: Permission denied" in each
        assert "interrupted: 1" in each
        assert "runs/theirs: cannot be listed: Permission denied." in each
        assert "runs/tiny/other: cannot be listed: Permission denied." in each


@pytest.mark.usefixtures("folders")
def test_run_folders_outside_of_the_spec_are_counted(deltagclip: Invoke) -> None:
    shown = deltagclip("status", *SPEC).output
    expected = "tiny/sgd, settings outside of the spec: "
    (line,) = [line for line in shown.splitlines() if line.startswith(expected)]
    counts = {"1 diverged", "1 failed", "1 interrupted", "1 pruned", "1 new"}
    assert set(line.removeprefix(expected).split(", ")) == counts


@pytest.mark.usefixtures("folders")
def test_without_a_spec_the_folders_are_what_is_known(deltagclip: Invoke, tmp_path: Path) -> None:
    for content in (None, "experiments: {tiny: {epochs: x}}\n"):
        if content:
            (tmp_path / "experiments.yaml").write_text(content)
        records = json.loads(deltagclip("status", "--json").stdout)["trials"]
        assert {record["seed"] for record in records} == set(range(6))
        assert {record["experiment"] for record in records} == {"tiny"}
    assert "experiments.yaml has faults" in deltagclip("status").output


def test_nothing_is_said_of_nothing(deltagclip: Invoke) -> None:
    assert deltagclip("status").output == "There are no runs yet.\n"
    assert json.loads(deltagclip("status", "--json").stdout) == {"trials": [], "problem": None}


def test_an_unknown_experiment_is_refused_with_those_there_are(
    deltagclip: Invoke, folders: list[RunFolder]
) -> None:
    done = deltagclip("status", "tinny", *SPEC)
    assert done.exit_code == 2
    assert "experiments: tiny" in done.output
    assert deltagclip("status", "tiny", *SPEC).exit_code == 0


def test_a_planned_experiment_that_was_not_begun_can_be_asked_for(deltagclip: Invoke) -> None:
    assert "1 new" in deltagclip("status", "tiny", *SPEC).output


def test_settings_can_be_changed_for_the_experiments_that_are_named(deltagclip: Invoke) -> None:
    words = ("status", "tiny", *SPEC, "--set", "optimizers.sgd.lr=0.5", "--json")
    assert len(json.loads(deltagclip(*words).stdout)["trials"]) == 2
    done = deltagclip("status", "tiny", *SPEC, "--set", "optimizers.sgd.lrr=0.5")
    assert done.exit_code == 2
    assert "unknown option 'lrr'" in done.output


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_watching_needs_a_terminal(deltagclip: Invoke, more: tuple[str, ...]) -> None:
    done = deltagclip("status", *SPEC, "--watch", *more)
    assert done.exit_code == 2
    assert "--watch keeps a terminal up to date" in done.output


@pytest.mark.parametrize("closed", ["runs", "runs/.slurm", "runs/tiny"])
@pytest.mark.parametrize("words", [("status",), ("compare", "runs/tiny/sgd"), ("report",)])
def test_a_place_that_must_not_be_read_is_named(
    deltagclip: Invoke,
    open_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    closed: str,
    words: tuple[str, ...],
) -> None:
    monkeypatch.chdir(open_folder)
    make_run(Path("runs"), trials_of(open_folder)[0], status="finished")
    Path("runs/.slurm").mkdir()
    deltagclip(*words, "--runs", "runs")  # which loads what nobody may be kept from
    Path(closed).chmod(0o000)
    with as_nobody():
        shown = deltagclip(*words, catch=True).output
    Path(closed).chmod(0o755)
    assert "should not have happened" not in shown
    if closed != "runs/.slurm" or words == ("status",):
        assert "Permission denied" in shown
