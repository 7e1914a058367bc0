"""``sweep --launcher slurm``, ``status`` and ``cancel``, with made-up commands of Slurm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from invocation import Invoke
from run_cases import beating, result_text
from slurm_fakes import SILENCE, FakeSlurm, is_shell
from tiny_spec import TINY, trials_of
from typer.testing import Result

from deltagclip_cli.core import claimed
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import HeldFolder, create
from deltagclip_cli.slurm.array import Array, open_arrays

RESOURCES = """\
    slurm:
      partition: gpu
      account: lab
      qos: high
      constraint: a100
      nodes: 1
      gpus: 1
      cpus: 2
      mem: 4G
      time: 60
      sbatch: [--mem-per-cpu=1G]
      optimizers:
        delta-gclip: {mem: 8G}
"""
OTHER = TINY.partition("\n")[2].replace("tiny:", "other:")
SWEEP = ("sweep", "--spec", "spec.yaml", "--launcher", "slurm")
SWEEP_ALL = (*SWEEP, "--all")
STATUS = ("status", "--spec", "spec.yaml")

pytestmark = pytest.mark.usefixtures("fake_slurm")


NUMBERS = ("17", "18", "19")


@pytest.fixture
def two(deltagclip: Invoke) -> None:
    """Two experiments of two trials, of which one has resources."""
    Path("spec.yaml").write_text(TINY + RESOURCES + OTHER)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns without colours."""
    for name, value in {"FORCE_COLOR": "1", "TERM": "dumb", "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, value)


def arrays() -> list[Array]:
    """Those that are open, in the order in which they were submitted."""
    return sorted(open_arrays(Path("runs")), key=lambda array: array.job)


def submission() -> Path:
    (folder,) = {array.path.parent for array in arrays()}
    return folder


def files() -> list[Path]:
    return sorted(path for path in Path().rglob("*") if path.name != "spec.yaml")


def finish(*trials: Any, status: str = "finished", **more: Any) -> None:
    for trial in trials:
        folder = RunFolder.of(Path("runs"), trial)
        create(folder, trial)
        folder.result_file.write_text(result_text(status, identity=trial.identity, **more))


def flat(text: str) -> str:
    return " ".join(text.split())


# ---------------------------------------------------------------- submitting


@pytest.mark.usefixtures("two", "terminal")
def test_a_sweep_is_submitted_and_the_next_commands_are_shown(
    deltagclip: Invoke, fake_slurm: FakeSlurm
) -> None:
    done = deltagclip(*SWEEP_ALL)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    folder = submission()
    assert lines[0] == "4 trials: 4 new. 4 to submit: 4 tasks in 3 arrays."
    assert lines[1].startswith("job 17        tiny: 1 trial in 1 task, partition=gpu ")
    assert lines[2].startswith("job 18        tiny: 1 trial in 1 task, partition=gpu ")
    assert lines[3] == "job 19        other: 2 trials in 2 tasks"
    assert " mem=4G" in lines[1] and " mem=8G" in lines[2]
    assert lines[-4:] == [
        "how it goes   deltagclip status tiny other --spec spec.yaml",
        f"scripts, logs {folder}",
        "end all       deltagclip cancel tiny other",
        "go on         the same command submits what is neither finished nor queued",
    ]
    assert [array.job for array in arrays()] == ["17", "18", "19"]
    assert {n: is_shell(s) for n, s in fake_slurm.scripts().items()} == dict.fromkeys(NUMBERS, True)
    assert not list(Path("runs").glob("*/sgd")), "run folders are made by the jobs"


def test_the_next_commands_repeat_what_other_commands_must_be_told(deltagclip: Invoke) -> None:
    words = ("--runs", "my runs", "--set", "epochs=3", "tiny")
    done = deltagclip(*SWEEP, *words)
    options = "--spec spec.yaml --runs 'my runs' --set epochs=3"
    assert f"how it goes   deltagclip status tiny {options}\n" in done.stdout
    assert "end all       deltagclip cancel tiny --runs 'my runs'\n" in done.stdout


@pytest.mark.usefixtures("two")
def test_the_answer_for_programs_is_json_and_nothing_else(deltagclip: Invoke) -> None:
    done = deltagclip(*SWEEP, "tiny", "--json", "--pack", "2")
    answer = json.loads(done.stdout)
    first, second = answer["arrays"]
    assert first == {
        "experiment": "tiny",
        "script_file": str(submission() / "tiny-0.sbatch"),
        "tasks": 1,
        "pack": 2,
        "trials": [answer["trials"][0]["folder"]],
        "units": [[answer["trials"][0]["folder"]]],
        "after": [],
        "job": "17",
    }
    assert second["job"] == "18"
    assert [each["state"] for each in answer["trials"]] == ["new", "new"]
    assert answer["trials"][0]["folder"].startswith("runs/tiny/sgd/seed-0-")
    assert "2 to submit" in done.stderr


def test_quiet_submits_and_says_nothing(deltagclip: Invoke, fake_slurm: FakeSlurm) -> None:
    done = deltagclip(*SWEEP, "--quiet")
    assert (done.exit_code, done.output) == (0, "")
    assert len(fake_slurm.queue) == 2


def test_the_command_line_comes_before_the_spec(deltagclip: Invoke, fake_slurm: FakeSlurm) -> None:
    words = ("--slurm", "time=5", "--slurm", "sbatch=--exclude=n1", "--slurm", "throttle=1")
    assert deltagclip(*SWEEP, *words, "--pack", "2").exit_code == 0
    (script,) = fake_slurm.scripts().values()
    for line in ("--time=5", "--exclude=n1", "--array=0-0%1", "--signal=B:USR1@75"):
        assert f"#SBATCH {line}\n" in script


def test_arrays_are_split_below_the_limit_of_the_cluster(
    deltagclip: Invoke, fake_slurm: FakeSlurm
) -> None:
    fake_slurm.answer(largest="3")
    done = deltagclip(*SWEEP, "tiny", "--set", "seeds=[0, 1, 2, 3]")
    assert "8 to submit: 8 tasks in 3 arrays." in done.stdout
    assert [task.task for task in fake_slurm.queue] == ["0", "1", "2", "0", "1", "2", "0", "1"]


# ---------------------------------------------------------------- dry runs


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("has_slurm", [True, False])
def test_a_dry_run_prints_the_scripts_and_submits_nothing(
    deltagclip: Invoke, fake_slurm: FakeSlurm, has_slurm: bool
) -> None:
    if not has_slurm:
        fake_slurm.remove()
    done = deltagclip(*SWEEP, "--dry-run")
    assert (done.exit_code, done.stderr) == (0, "")
    scripts = done.stdout.split("#!/bin/bash\n")[1:]
    assert len(scripts) == 3
    assert all(is_shell(script.rpartition("exec ")[0]) for script in scripts)
    assert done.stdout.startswith("# /")
    last = done.stdout.splitlines()[-1]
    assert last == "4 trials: 4 new. 4 to submit: 4 tasks in 3 arrays."
    assert files() == []
    assert fake_slurm.calls("sbatch", "squeue") == []


def test_a_dry_run_as_json_has_the_scripts(deltagclip: Invoke) -> None:
    answer = json.loads(deltagclip(*SWEEP, "--dry-run", "--json").stdout)
    (array,) = answer["arrays"]
    assert array["script"].startswith("#!/bin/bash\n# 2 trials of tiny, 1 a task.")
    assert "job" not in array


@pytest.mark.parametrize("is_missing", [True, False])
def test_a_dry_run_says_when_the_queue_is_not_known(
    deltagclip: Invoke, fake_slurm: FakeSlurm, is_missing: bool
) -> None:
    deltagclip(*SWEEP)
    if is_missing:
        fake_slurm.remove()
    else:
        fake_slurm.be_silent()
    done = deltagclip(*SWEEP, "--dry-run")
    assert done.exit_code == 0
    assert "Slurm cannot be asked what is queued: " in done.stdout
    expected = "2 to submit: 2 tasks in 1 array" if is_missing else "There is nothing to submit"
    assert expected in done.stdout


# ---------------------------------------------------------------- continuing


def test_only_what_is_neither_finished_nor_alive_is_submitted_again(
    deltagclip: Invoke, fake_slurm: FakeSlurm, tmp_path: Path
) -> None:
    many = (*SWEEP, "tiny", "--set", "seeds=[0, 1, 2]")
    trials = trials_of(tmp_path, "seeds=[0, 1, 2]")
    trials_of(tmp_path)  # the spec as it was
    deltagclip(*many)
    fake_slurm.change(task="0", state="COMPLETED", reason="None")
    fake_slurm.change(task="1", state="RUNNING", reason="None", node="n1")
    fake_slurm.change(task="3", state="NODE_FAIL", reason="None")
    fake_slurm.change(task="4", state="CANCELLED", reason="None")
    fake_slurm.change(task="5", state="FAILED", reason="NonZeroExitCode")
    finish(trials[0])
    failed = RunFolder.of(Path("runs"), trials[5])
    create(failed, trials[5])
    HeldFolder(failed).record_failure(ValueError("why"), "why")

    done = deltagclip(*many)
    assert done.stdout.splitlines()[0] == (
        "6 trials: 1 finished, 1 running, 1 queued, 1 lost, 1 new, 1 failed. "
        "2 to submit: 2 tasks in 1 array."
    )
    assert "failed        1: --retry-failed submits them again" in done.stdout
    _, again = arrays()
    assert [again.entries(n)[1][0].trial for n in (0, 1)] == trials[3:5]

    done = deltagclip(*many)
    assert "There is nothing to submit." in done.stdout
    assert done.exit_code == 1, "a trial has failed"
    assert "end all       deltagclip cancel tiny" in done.stdout
    assert len(arrays()) == 2

    deltagclip(*many, "--retry-failed")
    (entry,) = arrays()[-1].entries(0)[1]
    assert (entry.trial, entry.again) == (trials[5], "failed")


def test_what_has_failed_is_not_submitted_twice_while_its_job_waits(
    deltagclip: Invoke, tmp_path: Path
) -> None:
    trials = trials_of(tmp_path)
    finish(*trials)
    done = deltagclip(*SWEEP, "--force", "--yes")
    assert "--force replaces 2 results.\n" in done.stdout
    assert [entry.again for entry in arrays()[0].entries(0)[1]] == ["all"]
    done = deltagclip(*SWEEP, "--force", "--yes")
    assert "2 trials: 2 queued. There is nothing to submit." in done.stdout


def test_a_finished_sweep_submits_nothing_and_closes_its_arrays(
    deltagclip: Invoke, fake_slurm: FakeSlurm, tmp_path: Path
) -> None:
    deltagclip(*SWEEP)
    fake_slurm.change(state="COMPLETED", reason="None")
    finish(*trials_of(tmp_path))
    done = deltagclip(*SWEEP)
    assert done.exit_code == 0
    assert "2 trials: 2 finished. There is nothing to submit." in done.stdout
    assert arrays() == []
    deltagclip(*SWEEP)
    assert len(fake_slurm.calls("squeue")) == 1, "there is nothing left to ask about"
    assert fake_slurm.calls("sacct") == []


def test_all_draws_of_a_search_are_one_array_and_its_leaderboard_comes_from_the_folders(
    deltagclip: Invoke,
) -> None:
    space = "search.space.sgd.lr.log_uniform=[1e-2, 1]"
    sets = "--set", "search.metric=test/loss", "--set", space, "--set", "seeds=[0, 1]"
    done = deltagclip(*SWEEP, "--search", "3", "--select-on-test", *sets)
    assert done.stdout.startswith("6 trials: 6 new. 6 to submit: 6 tasks in 1 array.\n")
    assert "± s.e." not in done.stdout, "nothing is known yet"
    (array,) = arrays()
    trials = [array.entries(task)[1][0].trial for task in range(6)]
    assert len({each.setting_hash for each in trials}) == 3
    finish(*trials, last={"test/loss": 0.5})
    done = deltagclip(*SWEEP, "--search", "3", "--select-on-test", *sets)
    assert "6 trials: 6 finished. There is nothing to submit." in done.stdout
    assert "sgd: the best 3 of 3" in done.stdout
    assert done.exit_code == 0


def test_another_sweep_that_submits_is_waited_for(
    deltagclip: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deltagclip_cli.slurm.submit._PATIENCE_SECONDS", 0.1)
    Path("runs/.slurm").mkdir(parents=True)
    with claimed(Path("runs/.slurm/.lock"), ""):
        done = deltagclip(*SWEEP)
    assert done.exit_code == 2
    assert "another sweep has been submitting from here" in done.stderr
    assert arrays() == []


# ---------------------------------------------------------------- no answer, refusals


@pytest.mark.parametrize("submitted_before", [False, True])
def test_a_controller_that_is_down_is_said_and_nothing_is_made(
    deltagclip: Invoke, fake_slurm: FakeSlurm, submitted_before: bool
) -> None:
    if submitted_before:
        deltagclip(*SWEEP)
    fake_slurm.be_silent()
    before = files()
    done = deltagclip(*SWEEP, "--set", "epochs=5", "tiny")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: {SILENCE}\n")
    assert files() == before


def test_a_controller_that_goes_down_meanwhile_is_not_the_fault_of_the_spec(
    deltagclip: Invoke, fake_slurm: FakeSlurm
) -> None:
    fake_slurm.fail("sbatch")
    done = deltagclip(*SWEEP)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: {SILENCE}\n")
    assert "The same command submits what is left, once Slurm answers." in done.stderr
    assert arrays() == []


def test_without_the_commands_of_slurm_it_is_said_what_to_do(
    deltagclip: Invoke, fake_slurm: FakeSlurm
) -> None:
    fake_slurm.remove()
    done = deltagclip(*SWEEP)
    assert done.exit_code == 2
    assert "Slurm's commands are not on this machine." in done.stderr
    assert "Run this on a login node, or leave out --launcher slurm." in done.stderr
    assert files() == []


def test_after_a_refusal_the_arrays_before_it_stay_and_the_same_command_goes_on(
    deltagclip: Invoke, fake_slurm: FakeSlurm
) -> None:
    fake_slurm.answer(largest="1")
    sbatch = fake_slurm.bin / "sbatch"
    text = sbatch.read_text()
    refuses = '[ "$(cat number)" = 17 ] && refuse "Job violates accounting policy"\n'
    sbatch.write_text(text.replace("number=$((", f"{refuses}number=$((", 1))
    done = deltagclip(*SWEEP)
    assert done.exit_code == 2
    assert "Submitted before: 17. The same command submits what is left." in done.stderr
    assert [array.job for array in arrays()] == ["17"]
    sbatch.write_text(text)
    assert "1 to submit: 1 task in 1 array." in deltagclip(*SWEEP).stdout
    assert [array.job for array in arrays()] == ["17", "18"]


FAILED = "sbatch: error: Batch job submission failed: "


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    "words",
    [
        f"sbatch: error: invalid partition: gpu\n{FAILED}Invalid partition name specified",
        "sbatch: fatal: --mem, --mem-per-cpu, and --mem-per-gpu are mutually exclusive.",
    ],
)
def test_a_refusal_is_shown_in_slurms_words_with_the_line_of_the_spec(
    deltagclip: Invoke, fake_slurm: FakeSlurm, words: str
) -> None:
    fake_slurm.fail("sbatch", words)
    done = deltagclip(*SWEEP, "tiny")
    assert done.exit_code == 2
    first, *others = done.stderr.splitlines()
    place, trail = first.removeprefix("error: spec.yaml:").split(": ", 1)
    text = Path("spec.yaml").read_text().splitlines()[int(place.partition(":")[0]) - 1]
    assert text == "    slurm:"
    assert trail == "tiny › slurm: sbatch refuses this."
    assert others == [f"  {each}" for each in words.splitlines()]


@pytest.mark.parametrize(
    "words",
    [
        "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: "
        "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
        "sbatch: error: Batch job submission failed: Invalid job array specification",
    ],
)
def test_too_many_jobs_are_the_fault_of_no_line_of_the_spec(
    deltagclip: Invoke, fake_slurm: FakeSlurm, words: str
) -> None:
    fake_slurm.fail("sbatch", words)
    done = deltagclip(*SWEEP)
    assert done.exit_code == 2
    assert "sbatch refuses" not in done.stderr
    assert flat(words) in flat(done.stderr)
    assert "--pack K" in done.stderr


@pytest.mark.usefixtures("two")
def test_a_refusal_of_what_one_optimizer_asks_for_names_its_line(
    deltagclip: Invoke, fake_slurm: FakeSlurm
) -> None:
    fake_slurm.fail("sbatch", f"{FAILED}Memory required by task is not available")
    done = deltagclip(*SWEEP, "tiny", "--optimizer", "delta-gclip")
    line = next(n for n, text in enumerate(TINY.splitlines() + RESOURCES.splitlines(), 1)
                if "mem: 8G" in text)  # fmt: skip
    assert done.stderr.startswith(f"error: spec.yaml:{line}:")
    assert "tiny › slurm › optimizers › delta-gclip: sbatch refuses this." in done.stderr


@pytest.mark.usefixtures("two")
def test_a_refusal_of_what_the_command_line_asks_for_names_its_words(
    deltagclip: Invoke, fake_slurm: FakeSlurm
) -> None:
    fake_slurm.fail("sbatch", f"{FAILED}Requested time limit is invalid")
    done = deltagclip(*SWEEP, "tiny", "--slurm", "time=9-0")
    cause = "tiny › slurm with --slurm time=9-0: sbatch refuses this.\n"
    assert done.stderr.partition(": ")[2].partition(": ")[2].startswith(cause)


def test_a_refusal_of_nothing_that_was_asked_for_names_the_experiment(
    deltagclip: Invoke, fake_slurm: FakeSlurm
) -> None:
    fake_slurm.fail("sbatch", f"{FAILED}No partition specified or system default partition")
    done = deltagclip(*SWEEP)
    assert done.stderr.startswith("error: spec.yaml:2:")
    assert "tiny › slurm: sbatch refuses this." in done.stderr
    assert "No partition specified" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--launcher", "slurm", "--jobs", "2"), "--jobs: only with --launcher local"),
        (("--launcher", "slurm", "--gpus", "all"), "--gpus: only with --launcher local"),
        (("--launcher", "slurm", "--trials-per-gpu", "2"), "--trials-per-gpu: only with"),
        (("--launcher", "slurm", "--fail-fast"), "--fail-fast: only with --launcher local"),
        (("--slurm", "time=5"), "--slurm: only with --launcher slurm."),
        (("--pack", "2"), "--pack: only with --launcher slurm."),
        (("--launcher", "slurm", "--slurm", "tme=5"), "--slurm tme=5: "),
        (("--launcher", "slurm", "--slurm", "time"), "--slurm time"),
        (("--launcher", "slurm", "--slurm", "sbatch=--array=0-9"), "deltagclip itself sets"),
        (("--launcher", "slurm", "--slurm", "setup=a\u2028b"), "--slurm setup="),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_is_done(
    deltagclip: Invoke, fake_slurm: FakeSlurm, words: tuple[str, ...], message: str
) -> None:
    done = deltagclip("sweep", "--spec", "spec.yaml", *words)
    assert done.exit_code == 2
    assert message in done.stderr
    assert files() == []
    assert fake_slurm.calls() == []


# ---------------------------------------------------------------- local sweeps


@pytest.mark.parametrize("silent", [False, True])
def test_a_local_sweep_leaves_what_is_queued_to_its_jobs_and_says_so(
    deltagclip: Invoke, fake_slurm: FakeSlurm, silent: bool
) -> None:
    deltagclip(*SWEEP)
    if silent:
        fake_slurm.be_silent()
    done = deltagclip("sweep", "--spec", "spec.yaml")
    assert done.exit_code == 75
    assert "in Slurm      2: left to the jobs that were submitted for them" in done.stdout
    assert "started" not in done.stdout
    assert "why           deltagclip status tiny --spec spec.yaml" in done.stdout
    plan = deltagclip("sweep", "--spec", "spec.yaml", "--dry-run", "-j", "1").stdout
    assert "2 trials: 2 queued. 0 to run on cpu 0." in plan
    assert (SILENCE in plan) is silent
    fake_slurm.remove()
    plan = deltagclip("sweep", "--spec", "spec.yaml", "--dry-run", "-j", "1").stdout
    assert "Slurm cannot be asked what is queued: squeue: Slurm's commands are not" in plan
    assert "2 trials: 2 new. 2 to run on cpu 0" in plan


# ---------------------------------------------------------------- status


@pytest.mark.usefixtures("terminal")
def test_status_shows_what_waits_and_runs_and_is_lost(
    deltagclip: Invoke, fake_slurm: FakeSlurm, tmp_path: Path
) -> None:
    seeds = ("--set", "seeds=[0, 1, 2]")
    trials = trials_of(tmp_path, "seeds=[0, 1, 2]")
    trials_of(tmp_path)
    deltagclip(*SWEEP, "tiny", *seeds)
    fake_slurm.change(task="1", reason="launch failed requeued held", restarts="2")
    fake_slurm.change(task="2", state="RUNNING", node="n1", reason="None", restarts="1")
    fake_slurm.change(task="3", state="RUNNING", node="n2", reason="None")
    fake_slurm.change(task="4", state="TIMEOUT", reason="None")
    fake_slurm.change(task="5", state="CANCELLED", reason="None")
    folder = RunFolder.of(Path("runs"), trials[2])
    create(folder, trials[2])
    beating(folder, device="cuda:0", epoch=1, epochs=2, steps=2)
    log = submission() / "logs" / "17_4.log"
    log.touch()

    done = deltagclip(*STATUS, "tiny", *seeds)
    assert done.exit_code == 0
    shown = done.stdout.splitlines()
    happening = done.stdout[done.stdout.index("running: 2") :]
    running, starting = [
        line.split() for line in happening.splitlines() if line.startswith(("n1 ", "n2 "))
    ]
    assert running[:8] == ["n1", "cuda:0", "tiny", "·", "sgd", "·", "seed", "2,"]
    assert "2/2" in running
    assert starting == ["n2", "tiny", "·", "delta-gclip", "·", "seed", "0", "starting"]
    assert "queued: 2" in shown
    assert "  1: Priority" in shown
    assert (
        "1: launch failed requeued held, restarted 2 × (scontrol release 17 lets them go)"
        in flat(happening)
    )
    assert "lost: 1" in shown
    text = flat(happening).replace(" ", "")
    assert f"tiny·delta-gclip·seed1:job17_4isgone(TIMEOUT),see{log}" in text
    assert "2 queued" in done.stdout and "1 lost" in done.stdout
    assert max(map(len, shown)) <= 80
    assert len(fake_slurm.calls("squeue")) == 1


def test_status_as_json_has_the_job_of_each_trial(
    deltagclip: Invoke, fake_slurm: FakeSlurm, tmp_path: Path
) -> None:
    deltagclip(*SWEEP)
    fake_slurm.change(task="1", state="RUNNING", node="n1", reason="None", restarts="1")
    first, second = json.loads(deltagclip(*STATUS, "--json", "tiny").stdout)["trials"]
    (array,) = arrays()
    job = {"name": array.job_name, "job": "17", "task": 0, "state": "PENDING"}
    assert first["job"] == {**job, "reason": "Priority", "node": "", "restarts": 0}
    assert (first["state"], first["reason"]) == ("queued", "Priority")
    assert (second["state"], second["reason"]) == ("running", "restarted 1 ×")
    assert (second["job"]["node"], second["job"]["restarts"]) == ("n1", 1)
    fake_slurm.queue = []
    first, _ = json.loads(deltagclip(*STATUS, "--json", "tiny").stdout)["trials"]
    assert (first["state"], first["job"]) == ("lost", None)


@pytest.mark.parametrize(
    ("reason", "hinted"),
    [
        ("JobHeldUser", True),
        ("launch failed requeued held", True),
        ("Priority", False),
        ("", False),
    ],
)
def test_what_waits_for_the_same_is_one_line(
    deltagclip: Invoke, fake_slurm: FakeSlurm, reason: str, hinted: bool
) -> None:
    deltagclip(*SWEEP)
    fake_slurm.change(reason=reason or "None")
    hint = " (scontrol release 17 lets them go)" if hinted else ""
    shown = deltagclip(*STATUS, "tiny").stdout
    assert f"queued: 2\n  2: {reason or 'no reason given'}{hint}\n" in shown


def test_of_many_reasons_the_most_frequent_are_shown(
    deltagclip: Invoke, fake_slurm: FakeSlurm
) -> None:
    seeds = ("--set", f"seeds={list(range(20))}")
    deltagclip(*SWEEP, "tiny", *seeds)
    for task in range(30):
        fake_slurm.change(task=str(task), reason=f"Reason{task % 15 if task < 15 else 3}")
    shown = deltagclip(*STATUS, "tiny", *seeds).stdout.splitlines()
    start = shown.index("queued: 40")
    assert shown[start + 1] == "  16: Reason3"
    assert len([line for line in shown[start:] if "Reason" in line or "Priority" in line]) == 10


@pytest.mark.usefixtures("two")
def test_one_question_is_asked_however_many_arrays_there_are(
    deltagclip: Invoke, fake_slurm: FakeSlurm
) -> None:
    fake_slurm.answer(largest="1")
    deltagclip(*SWEEP, "tiny", "other")
    assert len(arrays()) == 4
    deltagclip(*STATUS)
    (words,) = fake_slurm.calls("squeue")
    assert words[5] == "--name=" + ",".join(array.job_name for array in open_arrays(Path("runs")))


@pytest.mark.parametrize("is_missing", [True, False])
def test_status_without_an_answer_shows_what_the_files_say(
    deltagclip: Invoke, fake_slurm: FakeSlurm, is_missing: bool
) -> None:
    deltagclip(*SWEEP)
    if is_missing:
        fake_slurm.remove()
    else:
        fake_slurm.be_silent()
    done = deltagclip(*STATUS, "tiny")
    assert done.exit_code == 0
    why = "squeue: Slurm's commands are not on this machine." if is_missing else SILENCE
    assert f"Slurm cannot be asked, so this is what the files say: {why}" in done.stdout
    assert done.stdout.count("1 new" if is_missing else "1 queued") == 2, "one of each optimizer"
    assert ("submitted; Slurm does not answer" in done.stdout) is not is_missing


def test_status_shows_what_waits_though_the_spec_does_not_list_it(
    deltagclip: Invoke, fake_slurm: FakeSlurm
) -> None:
    deltagclip(*SWEEP, "tiny", "--seed", "7")
    fake_slurm.change(reason="Resources")
    for words in (STATUS, ("status", "tiny"), ("status",)):
        shown = deltagclip(*words).stdout
        assert "queued: 2\n  2: Resources\n" in shown, words
    assert "tiny/sgd, settings outside of the spec: 1 queued" in shown
    fake_slurm.be_silent()
    assert "queued: 2\n  2: submitted; Slurm does not answer\n" in deltagclip("status").stdout
    fake_slurm.be_silent()
    fake_slurm.fail("squeue", "")
    fake_slurm.queue = []
    assert deltagclip("status").stdout == "There are no runs yet.\n"


def test_status_for_programs_says_why_slurm_could_not_be_asked(
    deltagclip: Invoke, fake_slurm: FakeSlurm
) -> None:
    deltagclip(*SWEEP)
    assert json.loads(deltagclip(*STATUS, "--json").stdout)["problem"] is None
    fake_slurm.be_silent()
    assert json.loads(deltagclip(*STATUS, "--json").stdout)["problem"] == SILENCE


def test_status_shows_many_lost_trials_in_few_lines(
    deltagclip: Invoke, fake_slurm: FakeSlurm
) -> None:
    seeds = ("--set", f"seeds={list(range(10))}")
    deltagclip(*SWEEP, "tiny", *seeds)
    fake_slurm.queue = []
    shown = deltagclip(*STATUS, "tiny", *seeds).stdout
    assert "lost: 20\n" in shown
    assert "  and 10 more: --json lists all\n" in shown


# ---------------------------------------------------------------- cancel


@pytest.fixture
def queued(two: None, deltagclip: Invoke, fake_slurm: FakeSlurm) -> None:
    """Jobs 17 and 18 of tiny, of which 18 runs, 19 of other, and 99 of somebody else."""
    deltagclip(*SWEEP_ALL)
    fake_slurm.change("18", state="RUNNING", node="n1")
    stranger = "tiny-0.20200101-000000-ffff|99|0|RUNNING|None|n1|0|\n"
    with (fake_slurm.folder / "queue").open("a") as queue:
        queue.write(stranger)


def states(slurm: FakeSlurm) -> dict[str, str]:
    return {task.job: task.state for task in slurm.queue}


@pytest.mark.usefixtures("queued")
@pytest.mark.parametrize(
    ("words", "said", "jobs"),
    [
        ((), "Ended 1 running task and 3 waiting of 17, 18, 19.", ["17", "18", "19"]),
        (("tiny",), "Ended 1 running task and 1 waiting of 17, 18.", ["17", "18"]),
        (("other",), "Ended 0 running tasks and 2 waiting of 19.", ["19"]),
        (("other", "tiny"), "Ended 1 running task and 3 waiting of 17, 18, 19.",
         ["17", "18", "19"]),
        (("--dry-run",), "Would end 1 running task and 3 waiting of 17, 18, 19.", []),
    ],
)  # fmt: skip
def test_cancel_ends_our_jobs_and_no_others(
    deltagclip: Invoke, fake_slurm: FakeSlurm, words: tuple[str, ...], said: str, jobs: list[str]
) -> None:
    before = states(fake_slurm)
    done = deltagclip("cancel", *words)
    assert done.exit_code == 0
    assert done.stdout.startswith(said)
    assert fake_slurm.calls("scancel") == ([["scancel", *jobs]] if jobs else [])
    assert states(fake_slurm) == {**before, **dict.fromkeys(jobs, "CANCELLED")}


@pytest.mark.usefixtures("queued")
def test_cancel_again_finds_nothing_to_end(deltagclip: Invoke, fake_slurm: FakeSlurm) -> None:
    assert deltagclip("cancel", "--quiet").output == ""
    done = deltagclip("cancel")
    assert (done.exit_code, done.stdout) == (0, "No jobs wait or run.\n")
    assert len(fake_slurm.calls("scancel")) == 1


@pytest.mark.usefixtures("queued")
def test_what_was_cancelled_is_not_lost_when_slurm_has_forgotten_it(
    deltagclip: Invoke, fake_slurm: FakeSlurm
) -> None:
    deltagclip("cancel", "tiny")
    fake_slurm.queue = []
    answer = json.loads(deltagclip(*STATUS, "--json").stdout)
    stand = [(each["experiment"], each["state"]) for each in answer["trials"]]
    assert stand == [*[("other", "lost")] * 2, *[("tiny", "new")] * 2]
    assert answer["trials"][-1]["reason"] == "job 18_0 was cancelled"


def test_cancel_where_nothing_was_submitted_asks_nobody(
    deltagclip: Invoke, fake_slurm: FakeSlurm
) -> None:
    fake_slurm.remove()
    done = deltagclip("cancel")
    assert (done.exit_code, done.stdout) == (0, "No jobs wait or run.\n")
    done = deltagclip("cancel", "tiny")
    assert done.exit_code == 2
    assert "experiments with jobs: none" in done.stderr


@pytest.mark.usefixtures("queued")
def test_cancel_refuses_what_it_cannot_know_or_do(
    deltagclip: Invoke, fake_slurm: FakeSlurm
) -> None:
    def refused(*words: str) -> Result:
        done = deltagclip("cancel", *words)
        assert done.exit_code == 2
        return done

    said = refused("tinny").stderr
    assert "tinny: no jobs of such an experiment were submitted for runs." in said
    assert "experiments with jobs: other, tiny" in said
    fake_slurm.fail("scancel", "scancel: error: Kill job error on job id 17: Access denied")
    assert "Access denied" in refused().stderr
    fake_slurm.be_silent()
    assert f"{SILENCE}\n  Nothing was ended." in refused().stderr
    fake_slurm.remove()
    said = refused().stderr
    assert "Slurm's commands are not on this machine.\n  Nothing was ended." in said


# ---------------------------------------------------------------- jobs, and torch


def test_a_job_needs_a_list_and_a_task(deltagclip: Invoke) -> None:
    deltagclip(*SWEEP)
    (array,) = arrays()
    cases = (
        ((str(array.list_file),), "which task of the array is not known"),
        ((str(array.list_file), "--task", "2"), "there is no task 2, only 2"),
        (("none.jsonl", "--task", "0"), "none.jsonl: cannot be read"),
        (("spec.yaml", "--task", "0"), "spec.jsonl: cannot be read"),
    )
    for words, message in cases:
        done = deltagclip("job", *words)
        assert done.exit_code == 2
        assert message in done.output


def test_a_task_whose_trials_are_finished_has_nothing_to_do(
    deltagclip: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deltagclip(*SWEEP)
    (array,) = arrays()
    finish(*trials_of(tmp_path))
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "17")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    done = deltagclip("job", str(array.list_file))
    assert done.exit_code == 0
    assert "tiny, job 17_1, restarts 0" in done.output


def test_none_of_this_loads_torch(
    deltagclip: Invoke, fake_slurm: FakeSlurm, tmp_path: Path
) -> None:
    commands = [[*SWEEP, "--dry-run"], SWEEP, SWEEP, [*STATUS, "tiny"], [*STATUS, "--json"]]
    commands += [["sweep", "--spec", "spec.yaml"], ["cancel", "--dry-run"], ["cancel"]]
    code = (
        "import sys; from typer.testing import CliRunner\n"
        "from deltagclip_cli.commands.app import app\n"
        f"for words in {[list(each) for each in commands]!r}:\n"
        "    done = CliRunner().invoke(app, words, catch_exceptions=False)\n"
        "    assert done.exit_code in (0, 75), (words, done.output)\n"
        "    assert not {'torch', 'numpy', 'optuna'} & set(sys.modules), words\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
    assert len(fake_slurm.calls("sbatch")) == 1
    assert len(fake_slurm.calls("scancel")) == 1
