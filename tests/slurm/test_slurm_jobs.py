"""What becomes of a trial by its files and by what Slurm's queue says of its job."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from obstacles import OBSTACLES
from run_cases import beating, result_text
from slurm_fakes import FakeSlurm, FakeTask, write_array
from tiny_spec import trial_of, trials_of

from deltagclip_cli.core import UsageError, read_file
from deltagclip_cli.plan.planned import Planned, find_status, look_up, pending
from deltagclip_cli.runs.folder import RunFolder, State
from deltagclip_cli.runs.hold import HeldFolder, create, hold
from deltagclip_cli.slurm import jobs as jobs_module
from deltagclip_cli.slurm.client import (
    SlurmError,
    UnansweredError,
    UnreachableError,
    largest_array,
    requeue,
    submit,
    tasks_named,
)
from deltagclip_cli.slurm.jobs import asked_rarely, find_jobs
from deltagclip_cli.spec.trial import Trial

NAME = "tiny-0.20260101-000000-abcd"


def make(folder: RunFolder, trial: Trial, what: str) -> None:
    """Leave behind what the word says."""
    if what == "nothing":
        return
    create(folder, trial)
    if what in ("begun", "stopped"):
        folder.metrics_file.write_text('{"epoch": 1}\n')
    if what == "stopped":
        HeldFolder(folder).record_stop("stopped with a checkpoint")
    if what == "failed":
        HeldFolder(folder).record_failure(ValueError("why"), "why")
    if what in ("finished", "diverged"):
        folder.result_file.write_text(result_text(what, identity=trial.identity, diverged=None))


def looked_up(tmp_path: Path, trial: Trial) -> Planned:
    (planned,) = look_up([trial], tmp_path / "runs", find_jobs(tmp_path / "runs"))
    return planned


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return trial_of(tmp_path)


def queued(state: str = "PENDING", reason: str = "None", **more: str) -> FakeTask:
    return FakeTask(NAME, "17", "0", state, reason, **more)


GONE = "and has left no log"
ROWS: list[tuple[str, FakeTask | None, State, str]] = [
    # waiting
    ("nothing", queued(reason="Priority"), State.QUEUED, "Priority"),
    ("nothing", queued(), State.QUEUED, ""),
    ("nothing", queued(reason="JobHeldUser"), State.QUEUED, "JobHeldUser"),
    ("nothing", queued(reason="down|mended on Monday"), State.QUEUED, "down|mended on Monday"),
    ("nothing", queued("CONFIGURING"), State.RUNNING, ""),
    ("stopped before", queued(reason="Resources"), State.QUEUED, "Resources"),
    ("begun", queued(reason="BeginTime", restarts="2"), State.QUEUED, "BeginTime, restarted 2 ×"),
    ("stopped", queued("REQUEUED", restarts="1"), State.QUEUED, "restarted 1 ×"),
    ("begun", queued("REQUEUE_HOLD", "launch failed requeued held"), State.QUEUED,
     "launch failed requeued held"),
    ("begun", queued("SPECIAL_EXIT"), State.QUEUED, ""),
    # running
    ("nothing", queued("RUNNING", node="n1"), State.RUNNING, ""),
    ("begun", queued("RUNNING", node="n1", restarts="3"), State.RUNNING, "restarted 3 ×"),
    ("begun", queued("COMPLETING"), State.RUNNING, ""),
    ("begun", queued("SUSPENDED"), State.RUNNING, ""),
    ("failed before", queued("RUNNING", restarts="1"), State.RUNNING, "restarted 1 ×"),
    ("failed before", queued(reason="Priority"), State.QUEUED, "Priority"),
    ("finished before", queued(reason="Priority"), State.QUEUED, "Priority"),
    # ended since, whatever the queue says of other trials of the task
    ("finished", queued("RUNNING"), State.FINISHED, ""),
    ("diverged", queued("RUNNING"), State.DIVERGED, ""),
    ("failed", queued("RUNNING"), State.FAILED, "why"),
    ("failed", queued("FAILED"), State.FAILED, "why"),
    ("finished", None, State.FINISHED, ""),
    # gone
    *((("begun", queued(state), State.LOST, f"job 17_0 is gone ({state}), {GONE}"))
      for state in ("COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL",
                    "DEADLINE", "PREEMPTED")),
    ("begun", queued("FAILED", "NonZeroExitCode"), State.LOST,
     f"job 17_0 is gone (FAILED, NonZeroExitCode), {GONE}"),
    ("nothing", queued("NODE_FAIL"), State.LOST, f"job 17_0 is gone (NODE_FAIL), {GONE}"),
    ("nothing", None, State.LOST, f"job 17_0 is gone, {GONE}"),
    ("begun", None, State.LOST, f"job 17_0 is gone, {GONE}"),
    ("stopped before", None, State.LOST, f"job 17_0 is gone, {GONE}"),
    ("nothing", queued("CANCELLED"), State.NEW, "job 17_0 was cancelled"),
    ("begun", queued("CANCELLED"), State.INTERRUPTED, "job 17_0 was cancelled"),
    ("stopped", queued("CANCELLED"), State.INTERRUPTED, "stopped with a checkpoint"),
    ("stopped", queued("TIMEOUT"), State.INTERRUPTED, "stopped with a checkpoint"),
    ("stopped", None, State.INTERRUPTED, "stopped with a checkpoint"),
    ("finished before", queued("FAILED"), State.FINISHED, ""),
    ("failed before", queued("CANCELLED"), State.FAILED, "why"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "task", "state", "reason"), ROWS)
def test_files_and_queue_together_say_what_has_become_of_a_trial(
    fake_slurm: FakeSlurm,
    tmp_path: Path,
    trial: Trial,
    files: str,
    task: FakeTask | None,
    state: State,
    reason: str,
) -> None:
    what, _, is_before = files.partition(" ")
    if is_before:
        make(RunFolder.of(tmp_path / "runs", trial), trial, what)
    write_array(tmp_path / "runs", [trial])
    if not is_before:
        make(RunFolder.of(tmp_path / "runs", trial), trial, what)
    fake_slurm.queue = [task] if task else []
    planned = looked_up(tmp_path, trial)
    assert (planned.state, planned.reason) == (state, reason)
    is_alive = task is not None and (state is State.QUEUED or state is State.RUNNING)
    assert planned.standing.in_a_job is is_alive
    again = state in (State.LOST, State.NEW, State.INTERRUPTED)
    assert bool(pending([planned])) is again
    assert not (is_alive and pending([planned], force=True, retry_failed=True))


def test_a_trial_that_a_process_here_works_on_runs_though_its_job_is_gone(
    fake_slurm: FakeSlurm, tmp_path: Path, trial: Trial
) -> None:
    write_array(tmp_path / "runs", [trial])
    folder = RunFolder.of(tmp_path / "runs", trial)
    create(folder, trial)
    with hold(folder):
        assert looked_up(tmp_path, trial).state is State.RUNNING
    assert looked_up(tmp_path, trial).state is State.LOST


@pytest.mark.parametrize(
    ("job", "state"), [("17_0", State.LOST), ("18_0", State.RUNNING), ("", State.RUNNING)]
)
def test_the_last_beat_of_a_job_that_is_gone_does_not_make_its_trial_run(
    fake_slurm: FakeSlurm, tmp_path: Path, trial: Trial, job: str, state: State
) -> None:
    write_array(tmp_path / "runs", [trial])
    folder = RunFolder.of(tmp_path / "runs", trial)
    make(folder, trial, "begun")
    with hold(folder):
        beating(folder, epochs=2, steps=4)
    said = json.loads(folder.progress_file.read_text())
    folder.progress_file.write_text(json.dumps({**said, "host": "another-node"}))
    folder.owner_file.write_text(json.dumps({"token": "t", "host": "another-node", "job": job}))
    for task in (queued("OUT_OF_MEMORY"), None):
        fake_slurm.queue = [task] if task else []
        assert looked_up(tmp_path, trial).state is state


def test_only_the_tasks_that_were_cancelled_are_said_to_be(
    fake_slurm: FakeSlurm, tmp_path: Path
) -> None:
    trials, runs = trials_of(tmp_path), tmp_path / "runs"
    array = write_array(runs, trials)
    fake_slurm.queue = [FakeTask(NAME, "17", "1")]
    jobs = find_jobs(runs)
    jobs.record_cancel(jobs.alive())
    array.record_cancel([])
    fake_slurm.queue = []
    states = [each.state for each in look_up(trials, runs, find_jobs(runs))]
    assert states == [State.LOST, State.NEW]


def test_a_lost_trial_points_to_the_log_of_its_task(
    fake_slurm: FakeSlurm, tmp_path: Path, trial: Trial
) -> None:
    array = write_array(tmp_path / "runs", [trial])
    log = array.logs / "17_0.log"
    log.touch()
    assert looked_up(tmp_path, trial).reason == f"job 17_0 is gone, see {log}"


@pytest.mark.parametrize(
    ("recorded", "state", "reason"),
    [
        ("17_0|TIMEOUT", State.LOST, f"job 17_0 is gone (TIMEOUT), {GONE}"),
        ("17_0|NODE_FAIL", State.LOST, f"job 17_0 is gone (NODE_FAIL), {GONE}"),
        ("17_0|CANCELLED by 0", State.NEW, "job 17_0 was cancelled"),
        ("17_1|TIMEOUT", State.LOST, f"job 17_0 is gone, {GONE}"),
        ("17_[0-3]|PENDING", State.LOST, f"job 17_0 is gone, {GONE}"),
        ("17_0|RUNNING", State.LOST, f"job 17_0 is gone, {GONE}"),  # a database that lags
        ("", State.LOST, f"job 17_0 is gone, {GONE}"),
    ],
)
def test_what_the_queue_has_forgotten_the_accounting_may_know(
    fake_slurm: FakeSlurm, tmp_path: Path, trial: Trial, recorded: str, state: State, reason: str
) -> None:
    write_array(tmp_path / "runs", [trial])
    fake_slurm.answer(records=f"{recorded}\n")
    planned = looked_up(tmp_path, trial)
    assert (planned.state, planned.reason) == (state, reason)
    assert len(fake_slurm.calls("sacct")) == 1
    fake_slurm.remove("sacct")
    assert looked_up(tmp_path, trial).reason == f"job 17_0 is gone, {GONE}"


def test_the_accounting_is_not_asked_of_what_the_queue_knows(
    fake_slurm: FakeSlurm, tmp_path: Path, trial: Trial
) -> None:
    write_array(tmp_path / "runs", [trial])
    fake_slurm.queue = [queued("COMPLETED")]
    looked_up(tmp_path, trial)
    assert [words[0] for words in fake_slurm.calls()] == ["squeue"]


# ---------------------------------------------------------------- no answer, no commands

UNKNOWN = "submitted; Slurm does not answer"


@pytest.mark.parametrize(
    "words",
    [
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
        "slurm_load_jobs error: Socket timed out on send/recv operation",
        "slurm_load_jobs error: Zero Bytes were transmitted or received",
        "slurm_load_jobs error: Incompatible versions of client and server code",
        "",
    ],
)
@pytest.mark.parametrize(
    ("files", "state"),
    [("nothing", State.QUEUED), ("begun", State.QUEUED), ("owned", State.RUNNING)],
)
def test_what_slurm_does_not_answer_is_unknown_and_never_lost(
    fake_slurm: FakeSlurm, tmp_path: Path, trial: Trial, files: str, state: State, words: str
) -> None:
    write_array(tmp_path / "runs", [trial])
    folder = RunFolder.of(tmp_path / "runs", trial)
    make(folder, trial, files)
    if files == "owned":
        folder.owner_file.write_text("{}")
    fake_slurm.fail("squeue", words or " ", code=1)
    planned = looked_up(tmp_path, trial)
    assert (planned.state, planned.reason, planned.standing.in_a_job) == (state, UNKNOWN, True)
    assert pending([planned], force=True, retry_failed=True) == []
    problem = find_jobs(tmp_path / "runs").problem
    assert problem == (words or "squeue ended with exit code 1")


def test_a_trial_that_has_ended_needs_no_answer(
    fake_slurm: FakeSlurm, tmp_path: Path, trial: Trial
) -> None:
    write_array(tmp_path / "runs", [trial])
    make(RunFolder.of(tmp_path / "runs", trial), trial, "finished")
    fake_slurm.be_silent()
    assert looked_up(tmp_path, trial).state is State.FINISHED


def test_a_squeue_that_hangs_is_no_answer(
    fake_slurm: FakeSlurm, tmp_path: Path, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_array(tmp_path / "runs", [trial])
    monkeypatch.setattr("deltagclip_cli.slurm.client._TIMEOUT_SECONDS", 0.4)
    squeue = fake_slurm.bin / "squeue"
    squeue.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    assert looked_up(tmp_path, trial).reason == UNKNOWN
    assert find_jobs(tmp_path / "runs").problem == "squeue did not answer in 0 s."
    monkeypatch.setattr("deltagclip_cli.slurm.client._TIMEOUT_SECONDS", 1.5)  # it is to say so
    squeue.write_text("#!/bin/sh\necho full >&2\nexec /bin/sleep 60\n")
    assert find_jobs(tmp_path / "runs").problem == "squeue did not answer in 2 s: full"


def test_a_task_that_is_in_the_queue_already_is_requeued(fake_slurm: FakeSlurm) -> None:
    """A controller that was killed may come back with a state of before the task's start."""
    fake_slurm.fail("scontrol", "Job is pending execution for job 17_0")
    requeue("17_0")
    fake_slurm.fail("scontrol", "Access/permission denied")
    with pytest.raises(SlurmError, match="denied"):
        requeue("17_0")
    fake_slurm.be_silent()
    with pytest.raises(UnreachableError):
        requeue("17_0")


def test_on_a_machine_without_slurm_the_files_are_what_is_known(
    fake_slurm: FakeSlurm, tmp_path: Path, trial: Trial
) -> None:
    write_array(tmp_path / "runs", [trial])
    fake_slurm.remove()
    jobs = find_jobs(tmp_path / "runs")
    assert (jobs.problem, jobs.is_missing) == (
        "squeue: Slurm's commands are not on this machine.",
        True,
    )
    planned = looked_up(tmp_path, trial)
    assert (planned.state, planned.reason, planned.standing.in_a_job) == (State.NEW, "", False)


def test_where_nothing_was_submitted_nobody_is_asked(
    fake_slurm: FakeSlurm, tmp_path: Path, trial: Trial
) -> None:
    fake_slurm.remove()
    assert find_jobs(tmp_path / "runs").problem == ""
    assert looked_up(tmp_path, trial).state is State.NEW
    assert fake_slurm.calls() == []


# ---------------------------------------------------------------- several submissions


def test_the_last_submission_of_a_trial_is_the_one_that_counts(
    fake_slurm: FakeSlurm, tmp_path: Path, trial: Trial
) -> None:
    runs = tmp_path / "runs"
    now = time.time()
    older = write_array(runs, [trial], submission="2-bbbb", job="17", submitted=now - 2)
    newer = write_array(runs, [trial], submission="2-aaaa", job="18", submitted=now - 1)
    fake_slurm.queue = [
        FakeTask(older.job_name, "17", "0", "CANCELLED"),
        FakeTask(newer.job_name, "18", "0", "PENDING", "Resources"),
    ]
    assert looked_up(tmp_path, trial).reason == "Resources"
    fake_slurm.change("18", state="TIMEOUT", reason="TimeLimit")
    assert looked_up(tmp_path, trial).reason == f"job 18_0 is gone (TIMEOUT, TimeLimit), {GONE}"
    assert len(fake_slurm.calls("squeue")) == 2, "one call asks of all arrays"


def test_a_submission_that_was_never_answered_is_found_by_its_name_or_was_none(
    fake_slurm: FakeSlurm, tmp_path: Path, trial: Trial
) -> None:
    write_array(tmp_path / "runs", [trial], job="")
    assert looked_up(tmp_path, trial).state is State.NEW
    assert fake_slurm.calls("sacct") == []
    fake_slurm.queue = [queued(reason="Priority")]
    assert looked_up(tmp_path, trial).state is State.QUEUED


def test_of_a_script_submitted_again_by_hand_the_job_that_is_alive_counts(
    fake_slurm: FakeSlurm, tmp_path: Path, trial: Trial
) -> None:
    write_array(tmp_path / "runs", [trial], job="17")
    old, new = queued("TIMEOUT"), FakeTask(NAME, "40", "0", "RUNNING", node="n2")
    for order in ([old, new], [new, old]):
        fake_slurm.queue = order
        assert looked_up(tmp_path, trial).state is State.RUNNING
    alone = FakeTask(NAME, "41", "N/A", "RUNNING")  # sbatch --array= FILE, or none at all
    fake_slurm.queue = [alone, old]
    assert looked_up(tmp_path, trial).state is State.LOST


def test_all_live_tasks_are_ours_to_end_even_two_of_one_place(
    fake_slurm: FakeSlurm, tmp_path: Path
) -> None:
    write_array(tmp_path / "runs", trials_of(tmp_path))
    fake_slurm.queue = [
        queued(),
        FakeTask(NAME, "17", "1", "COMPLETED"),
        FakeTask(NAME, "40", "0", "RUNNING"),
        FakeTask("another", "50", "0", "RUNNING"),
    ]
    jobs = find_jobs(tmp_path / "runs")
    assert [task.id for task in jobs.alive()] == ["17_0", "40_0"]
    assert [task.id for task in jobs.alive(["tiny"])] == ["17_0", "40_0"]
    assert jobs.alive(["other"]) == []


@pytest.mark.parametrize(
    ("pack", "tasks"), [(1, [0, 1, 2, 3]), (2, [0, 0, 1, 1]), (3, [0, 0, 0, 1])]
)
def test_packed_trials_share_the_fate_of_their_task(
    fake_slurm: FakeSlurm, tmp_path: Path, pack: int, tasks: list[int]
) -> None:
    trials = trials_of(tmp_path, "seeds=[0, 1]")
    runs = tmp_path / "runs"
    write_array(runs, trials, pack=pack)
    reasons = [f"reason {number}" for number in range(4)]
    fake_slurm.queue = [FakeTask(NAME, "17", str(n), reason=reasons[n]) for n in range(4)]
    planned = look_up(trials, runs, find_jobs(runs))
    assert [each.reason for each in planned] == [reasons[n] for n in tasks]


def test_an_array_that_is_closed_is_not_asked_about(
    fake_slurm: FakeSlurm, tmp_path: Path, trial: Trial
) -> None:
    write_array(tmp_path / "runs", [trial]).close()
    assert find_jobs(tmp_path / "runs").places == {}
    assert fake_slurm.calls() == []


HEAD = '{"experiment": "tiny", "pack": 1, "submitted": 1.0, "count": 1}\n'


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]\n", '{"pack": 1}\n', "[" * 100_000),
        HEAD.replace('"pack": 1', '"pack": 0'),
        HEAD.replace("1.0", "null"),
        HEAD.replace("1.0", "1e999"),
        HEAD.replace('"tiny"', "[]"),
        HEAD + '{"folder": null, "before": {}}\n',
        HEAD + '{"folder": "a", "before": {"begun": "now"}}\n',
    ],
)
def test_a_list_that_cannot_be_read_is_named(
    fake_slurm: FakeSlurm, tmp_path: Path, trial: Trial, content: str
) -> None:
    array = write_array(tmp_path / "runs", [trial])
    array.list_file.write_text(content)
    with pytest.raises(UsageError, match=f"{array.list_file}: this is no list of trials"):
        find_jobs(tmp_path / "runs")


@pytest.mark.parametrize("why", OBSTACLES)
def test_who_only_looks_is_told_of_a_list_that_cannot_be_read_and_of_the_others(
    fake_slurm: FakeSlurm, tmp_path: Path, why: str
) -> None:
    runs = tmp_path / "runs"
    first, second = trials_of(tmp_path)
    array, bad = write_array(runs, [first], name="tiny-0"), write_array(runs, [second], name="bad")
    bad.list_file.unlink()
    OBSTACLES[why](bad.list_file)
    for name in (".job", ".cancelled"):
        array.path.with_suffix(name).unlink(missing_ok=True)
        OBSTACLES[why](array.path.with_suffix(name))
    with pytest.raises(UsageError, match=f"{bad.list_file}: cannot be read: "):
        find_jobs(runs)
    jobs = asked_rarely(runs)()
    assert list(jobs.places) == [str(first.folder)]
    assert find_status(runs, [], ["tiny"], jobs).unlisted == [
        f"{bad.list_file}: cannot be read: {why}."
    ]


def test_an_older_submission_that_is_alive_counts_and_is_ours_to_end(
    fake_slurm: FakeSlurm, tmp_path: Path, trial: Trial
) -> None:
    runs, now = tmp_path / "runs", time.time()
    older = write_array(runs, [trial], submission="a", job="17", submitted=now - 2)
    newer = write_array(runs, [trial], submission="b", job="18", submitted=now - 1)
    old, new = (FakeTask(each.job_name, each.job, "0", "COMPLETED") for each in (older, newer))
    fake_slurm.queue = [replace(old, state="RUNNING", node="n1"), replace(new, state="TIMEOUT")]
    planned = looked_up(tmp_path, trial)
    assert (planned.state, planned.standing.in_a_job) == (State.RUNNING, True)
    assert [task.id for task in find_jobs(runs).alive(["tiny"])] == ["17_0"]
    fake_slurm.queue = [replace(old, state="RUNNING"), replace(new, state="RUNNING")]
    assert [task.id for task in find_jobs(runs).alive(["tiny"])] == ["17_0", "18_0"]


def test_the_number_of_an_array_is_read_once_however_many_trials_it_has(
    fake_slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_array(tmp_path / "runs", trials_of(tmp_path, "seeds=[0, 1, 2, 3]"))
    told = []

    def read(path: Path, *most_bytes: int) -> bytes:
        told.append(path.suffix)
        return read_file(path, *most_bytes)

    monkeypatch.setattr("deltagclip_cli.slurm.array.read_file", read)
    assert len(find_jobs(tmp_path / "runs").places) == 8
    assert sorted(told) == [".cancelled", ".job", ".jsonl"]


# ---------------------------------------------------------------- commands


SCRIPT = "#!/bin/bash\n#SBATCH --job-name=a\n#SBATCH --array=0-2%1\n"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    script = tmp_path / "a b.sbatch"
    script.write_text(SCRIPT)
    return script


@pytest.mark.parametrize("suffix", ["", ";cluster"])
def test_the_number_of_a_job_is_read_with_and_without_its_cluster(
    fake_slurm: FakeSlurm, script: Path, suffix: str
) -> None:
    fake_slurm.answer(suffix=suffix)
    assert submit(script) == "17"
    assert [task.id for task in tasks_named(["a"])] == ["17_0", "17_1", "17_2"]
    assert [task.is_pending for task in tasks_named(["a"])] == [True] * 3


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller",
         UnreachableError),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
         UnansweredError),
    ],
)  # fmt: skip
def test_who_did_not_hear_and_who_did_not_answer_are_told_apart(
    fake_slurm: FakeSlurm, script: Path, words: str, error: type[Exception]
) -> None:
    fake_slurm.fail("sbatch", words)
    with pytest.raises(error, match="Batch job submission failed") as caught:
        submit(script)
    assert caught.type is error


def test_what_is_printed_around_the_answers_is_not_taken_for_them(
    fake_slurm: FakeSlurm, script: Path
) -> None:
    program = fake_slurm.bin / "sbatch"
    program.write_text("#!/bin/sh\necho Welcome to 2 clusters.\necho 17\n")
    assert submit(script) == "17"
    program.write_text("#!/bin/sh\necho Welcome.\n")
    with pytest.raises(UnansweredError, match="Welcome"):
        submit(script)
    (fake_slurm.bin / "squeue").write_text("#!/bin/sh\necho CLUSTER: a\necho\n")
    assert tasks_named(["a"]) == []


# ---------------------------------------------------------------- people's own settings

OWN = {
    "SQUEUE_PARTITION": "cpu",
    "SCANCEL_ACCOUNT": "theirs",
    "SBATCH_JOB_NAME": "mine",
    "SBATCH_SIGNAL": "TERM@60",
    "SBATCH_PARTITION": "cpu",
    "SBATCH_ACCOUNT": "lab",
    "SLURM_CLUSTERS": "big",
    "SLURM_CPUS_PER_TASK": "1",
}


def variables_of(fake_slurm: FakeSlurm, program: str) -> set[str]:
    told = fake_slurm.environment(program)
    return {name for name in OWN if name in told}


def test_variables_that_change_what_the_commands_do_are_kept_from_them(
    fake_slurm: FakeSlurm, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in OWN.items():
        monkeypatch.setenv(name, value)
    script.write_text(f"{SCRIPT}#SBATCH --partition=gpu\n")
    submit(script)
    tasks_named(["a"])
    kept = {"SLURM_CLUSTERS", "SLURM_CPUS_PER_TASK"}
    assert variables_of(fake_slurm, "squeue") == kept
    assert variables_of(fake_slurm, "sbatch") == {*kept, "SBATCH_ACCOUNT"}


def test_a_job_that_submits_another_does_not_hand_its_own_variables_on(
    fake_slurm: FakeSlurm, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**OWN, "SLURM_JOB_ID": "16", "CUDA_VISIBLE_DEVICES": "1"}.items():
        monkeypatch.setenv(name, value)
    submit(script)
    told = fake_slurm.environment("sbatch")
    assert {"SLURM_JOB_ID", "CUDA_VISIBLE_DEVICES"}.isdisjoint(told)
    assert variables_of(fake_slurm, "sbatch") == {
        *("SBATCH_PARTITION", "SBATCH_ACCOUNT", "SLURM_CLUSTERS")
    }


@pytest.mark.parametrize(
    ("config", "largest"),
    [
        ("MaxArraySize            = 1001", 1001),
        ("MaxArraySize = 100001\nSchedulerParameters     = bf_max=3,max_array_tasks=1000", 1000),
        ("SchedulerParameters     = max_array_tasks=5000\nMaxArraySize = 1001", 1001),
        ("MaxArraySize            = 0", 1),
        ("nothing of the kind", 1001),
    ],
)
def test_the_smaller_limit_of_arrays_counts(
    fake_slurm: FakeSlurm, config: str, largest: int
) -> None:
    (fake_slurm.bin / "scontrol").write_text(f"#!/bin/sh\ncat <<'END'\n{config}\nEND\n")
    monkey = fake_slurm.bin / "cat"
    monkey.symlink_to("/bin/cat")
    assert largest_array() == largest


def test_who_watches_asks_slurm_now_and_then_only(
    fake_slurm: FakeSlurm, tmp_path: Path, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_array(tmp_path / "runs", [trial])
    now = [1000.0]
    monkeypatch.setattr(jobs_module.time, "monotonic", lambda: now[0])
    ask = asked_rarely(tmp_path / "runs")
    for moment, calls in ((1000.0, 1), (1002.0, 1), (1009.9, 1), (1010.1, 2), (1012.0, 2)):
        now[0] = moment
        ask()
        assert len(fake_slurm.calls("squeue")) == calls
