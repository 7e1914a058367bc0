"""Submissions: the files of arrays, which trials go into which, and when an array is closed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from run_cases import result_text
from slurm_fakes import SILENCE, FakeSlurm, FakeTask, write_array
from tiny_spec import TINY, trials_of, write_spec
from typer.testing import CliRunner

from deltagclip_cli.commands.app import app
from deltagclip_cli.core import UsageError
from deltagclip_cli.launch.launcher import SweepRequest
from deltagclip_cli.plan.planned import Planned, QueueState, look_up
from deltagclip_cli.runs.folder import RunFolder, State
from deltagclip_cli.runs.hold import HeldFolder, create
from deltagclip_cli.slurm import task as job_session
from deltagclip_cli.slurm.array import (
    FOLDER,
    Array,
    Entry,
    Head,
    ListedTrial,
    Marks,
    new_submission,
    open_arrays,
)
from deltagclip_cli.slurm.client import SlurmError
from deltagclip_cli.slurm.jobs import close_finished, find_jobs
from deltagclip_cli.slurm.submit import Batch, SlurmLauncher
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.terminal.console import make_console

TWO = TINY + TINY.partition("\n")[2].replace("tiny:", "other:")


def launcher_of(
    folder: Path, text: str = TINY, *overrides: str, threads: int | None = None
) -> SlurmLauncher:
    request = SweepRequest(
        spec=load_spec(write_spec(folder, text)),
        runs=folder / "runs",
        data=folder / "data",
        console=make_console(),
        slurm=overrides,
        threads=threads,
        quiet=True,
    )
    return SlurmLauncher(request)


def planned_of(folder: Path, *sets: str) -> list[Planned]:
    return look_up(trials_of(folder, *sets), folder / "runs")


def named(batch: Batch) -> list[str]:
    return [each.short_name for each in batch.trials]


# ---------------------------------------------------------------- files


def test_a_list_gives_back_the_very_trials_that_were_written(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, "seeds=[0, 1, 2]", "title=δ")
    array = write_array(tmp_path / "runs", trials, pack=4, again="failed", submitted=12.5)
    head, entries = array.read()
    assert head == Head("tiny", 4, 12.5, 6)
    assert entries == [Entry(trial.folder, Marks()) for trial in trials]
    for task, expected in ((0, trials[:4]), (1, trials[4:])):
        again, entries = array.entries(task)
        assert again == head
        assert entries == [ListedTrial(trial.folder, trial, "failed") for trial in expected]
        assert [e.trial.identity for e in entries] == [trial.identity for trial in expected]


def test_the_log_folder_is_there_before_the_script(tmp_path: Path) -> None:
    array = write_array(tmp_path / "runs", trials_of(tmp_path), job="")
    assert array.logs.is_dir()
    assert array.job == ""
    array.record_job("17")
    assert array.job == "17"
    assert array.runs == tmp_path / "runs"
    assert array.job_name == "tiny-0.20260101-000000-abcd"


@pytest.mark.parametrize(
    ("count", "pack", "tasks"), [(1, 1, 1), (5, 1, 5), (4, 2, 2), (5, 2, 3), (3, 8, 1)]
)
def test_a_task_has_as_many_trials_as_are_packed_and_the_last_what_is_left(
    tmp_path: Path, count: int, pack: int, tasks: int
) -> None:
    trials = trials_of(tmp_path, "seeds=[0, 1, 2]")[:count]
    array = write_array(tmp_path / "runs", trials, pack=pack)
    head, _ = array.read()
    assert head.tasks == tasks
    read = [entry.trial for task in range(tasks) for entry in array.entries(task)[1]]
    assert read == trials
    with pytest.raises(UsageError, match=f"there is no task {tasks}, only {tasks}"):
        array.entries(tasks)


@pytest.mark.parametrize("content", [None, "", "{", "[1]\n", '{"pack": 1}\n', "head", "\xff"])
def test_a_list_that_is_missing_or_torn_is_named(tmp_path: Path, content: str | None) -> None:
    array = write_array(tmp_path / "runs", trials_of(tmp_path))
    if content is None:
        array.list_file.unlink()
    elif content == "head":
        array.list_file.write_text(f"{array.list_file.read_text().splitlines()[0]}\n{{\n")
    else:
        array.list_file.write_text(content, encoding="latin-1")
    words = "cannot be read: No such file" if content is None else "no list of trials"
    with pytest.raises(UsageError, match=words) as caught:
        array.entries(0)
    assert str(array.list_file) in str(caught.value)
    with pytest.raises(UsageError, match=words):
        array.read()


def test_submissions_of_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    names = {new_submission(tmp_path).name for _ in range(50)}
    assert len(names) == 50
    assert {new_submission(tmp_path).parent for _ in range(2)} == {tmp_path / FOLDER}


def test_discarding_leaves_nothing_but_what_belongs_to_others(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    trials = trials_of(tmp_path)
    first = write_array(runs, trials, name="tiny-0")
    second = write_array(runs, trials, name="tiny-1", job="")
    second.discard()
    assert open_arrays(runs) == [first]
    assert not second.script.exists()
    write_array(tmp_path / "other", trials, job="").discard()
    assert list((tmp_path / "other" / FOLDER).iterdir()) == []


# ---------------------------------------------------------------- batches


def test_names_of_arrays_are_unique_and_their_order_is_that_of_the_trials(tmp_path: Path) -> None:
    todo = planned_of(tmp_path, "seeds=[0, 1, 2]")
    others = [replace(each, trial=each.trial.model_copy(update={"experiment": "other"}))
              for each in todo]  # fmt: skip
    launcher = launcher_of(tmp_path, TWO)
    batches = launcher.batches([*todo, *others], largest=4)
    assert [each.array.path.name for each in batches] == ["tiny-0", "tiny-1", "other-0", "other-1"]
    assert len({each.array.job_name for each in batches}) == 4
    assert len({each.array.path.parent for each in batches}) == 1
    assert [n for each in batches[:2] for n in named(each)] == [each.short_name for each in todo]


@pytest.mark.parametrize(
    ("largest", "overrides", "sizes"),
    [
        (1001, (), [6]),
        (6, (), [6]),
        (5, (), [5, 1]),
        (2, (), [2, 2, 2]),
        (1, (), [1] * 6),
        (2, ("pack=2",), [4, 2]),
        (1, ("pack=4",), [4, 2]),
    ],
)
def test_arrays_are_not_larger_than_slurm_takes(
    tmp_path: Path, largest: int, overrides: tuple[str, ...], sizes: list[int]
) -> None:
    launcher = launcher_of(tmp_path, TINY, *overrides)
    todo = planned_of(tmp_path, "seeds=[0, 1, 2]")
    batches = launcher.batches(todo, largest)
    assert [len(batch.trials) for batch in batches] == sizes
    assert [batch.head.count for batch in batches] == sizes
    assert all(batch.head.tasks <= largest for batch in batches)
    assert all(f"--array=0-{b.head.tasks - 1}\n" in b.script for b in batches)


def test_a_task_runs_whole_stacks(tmp_path: Path) -> None:
    todo = planned_of(tmp_path, "seeds=[0, 1, 2, 3, 4]", "stack=4")
    (batch,) = launcher_of(tmp_path).batches(todo, 1001)
    assert (batch.head.tasks, batch.head.sizes) == (3, (4, 4, 2))
    assert "# 10 trials of tiny, 4 a task." in batch.script
    first, rest = launcher_of(tmp_path, TINY, "pack=2").batches(todo, 1)
    assert (first.head.sizes, rest.head.sizes) == ((8,), (2,))
    entries = [ListedTrial(each.trial.folder, each.trial) for each in batch.trials]
    batch.array.write(batch.head, entries, batch.script)
    head, entries = batch.array.read()
    assert [each.folder for each in entries] == [each.trial.folder for each in todo]
    assert list(map(head.task_of, range(10))) == [0] * 4 + [1] * 4 + [2] * 2
    read = [[entry.folder for entry in batch.array.entries(task)[1]] for task in range(3)]
    assert read == [[e.trial.folder for e in todo[n : n + 4]] for n in (0, 4, 8)]
    with pytest.raises(UsageError, match="there is no task 3, only 3"):
        batch.array.entries(3)


def test_trials_that_need_different_resources_go_into_different_arrays(tmp_path: Path) -> None:
    own = "    slurm: {mem: 1G, optimizers: {delta-gclip: {mem: 8G, pack: 2}}}\n"
    todo = planned_of(tmp_path, "seeds=[0, 1]")
    launcher = launcher_of(tmp_path, TINY + own)
    small, large = launcher.batches(todo, 1001)
    assert (small.resources.mem, large.resources.mem) == ("1G", "8G")
    assert (small.head.pack, large.head.pack) == (1, 2)
    assert {each.label for each in small.trials} == {"sgd"}
    assert {each.label for each in large.trials} == {"delta-gclip"}
    same = launcher_of(tmp_path, TINY + own, "mem=4G", "pack=1")
    (batch,) = same.batches(todo, 1001)
    assert "#SBATCH --mem=4G\n" in batch.script


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ((), ""),
        (("gpus=1",), " --gpus"),
        (("gpus=0",), " --no-gpus"),
        (("local_data=$TMPDIR/d",), " --local-data '$TMPDIR/d'"),
    ],
)
def test_a_task_runs_its_list(tmp_path: Path, overrides: tuple[str, ...], words: str) -> None:
    (batch,) = launcher_of(tmp_path, TINY, *overrides).batches(planned_of(tmp_path), 1001)
    *_, command = batch.script.splitlines()
    data = tmp_path / "data"
    assert command.endswith(f" job {batch.array.list_file} --data {data}{words}")
    assert command.startswith("exec ")


def test_a_task_gives_its_trials_the_threads_that_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (batch,) = launcher_of(tmp_path, threads=4).batches(planned_of(tmp_path), 1001)
    assert batch.script.endswith(" --threads 4\n")
    threads: list[int | None] = []
    runner = job_session.LocalRunner
    monkeypatch.setattr(runner, "prepare", lambda self, inputs: threads.append(self.threads))
    monkeypatch.setattr(runner, "run", lambda self, queue, watcher: None)
    batch.array.write(batch.head, [ListedTrial(e.trial.folder, e.trial) for e in batch.trials], "")
    words = batch.script.splitlines()[-1].partition(" -m deltagclip_cli ")[2].split()
    CliRunner().invoke(app, [*words, "--task", "0"])
    assert threads == [4]


def test_the_longest_trials_come_first(
    fake_slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trials = trials_of(tmp_path, "seeds=[0, 1]")
    for trial, seconds in ((trials[0], 1.0), (trials[2], 9.0)):
        folder = RunFolder.of(tmp_path / "runs", trial)
        create(folder, trial)
        text = result_text(identity=trial.identity, seconds={"epochs": seconds})
        folder.result_file.write_text(text)
    assert launcher_of(tmp_path).run(trials) == 0
    (array,) = open_arrays(tmp_path / "runs")
    labels = [entry.trial.label for task in (0, 1) for entry in array.entries(task)[1]]
    assert labels == ["delta-gclip", "sgd"]


# ---------------------------------------------------------------- submitting


@pytest.mark.parametrize(
    ("state", "afresh", "again"),
    [
        (State.NEW, False, ""),
        (State.LOST, False, ""),
        (State.FAILED, False, "failed"),
        (State.FAILED, True, "all"),
        (State.FINISHED, True, "all"),
    ],
)
def test_a_list_says_what_is_to_be_run_again(
    fake_slurm: FakeSlurm, tmp_path: Path, state: State, afresh: bool, again: str
) -> None:
    launcher = launcher_of(tmp_path)
    todo = [
        replace(each, standing=QueueState(state), afresh=afresh) for each in planned_of(tmp_path)
    ]
    (batch,) = launcher.batches(todo, 1001)
    assert launcher.submit(batch) == "17"
    assert batch.array.job == "17"
    assert [entry.again for entry in batch.array.entries(1)[1]] == [again]
    assert fake_slurm.scripts() == {"17": batch.script}
    assert fake_slurm.calls() == [["sbatch", "--parsable", str(batch.array.script)]]


@pytest.mark.parametrize("words", ["sbatch: error: invalid partition specified: no", SILENCE, None])
def test_a_refused_array_leaves_nothing(
    fake_slurm: FakeSlurm, tmp_path: Path, words: str | None
) -> None:
    if words is None:
        fake_slurm.remove("sbatch")
    else:
        fake_slurm.fail("sbatch", words)
    launcher = launcher_of(tmp_path)
    (batch,) = launcher.batches(planned_of(tmp_path), 1001)
    with pytest.raises(SlurmError) as caught:
        launcher.submit(batch)
    assert (words or "sbatch: Slurm's commands are not on this machine.") in str(caught.value)
    assert list((tmp_path / "runs" / FOLDER).iterdir()) == []


def test_what_slurm_says_in_no_utf_8_is_read_all_the_same(
    fake_slurm: FakeSlurm, tmp_path: Path
) -> None:
    """As on a cluster whose administrators write Latin-1: here, the byte of an ü."""
    fake_slurm.fail("sbatch", "sbatch: Partition gr\udcfcn ist voll")
    launcher = launcher_of(tmp_path)
    (batch,) = launcher.batches(planned_of(tmp_path), 1001)
    with pytest.raises(SlurmError, match="Partition gr\ufffdn ist voll"):
        launcher.submit(batch)
    fake_slurm.fail("sbatch", "")
    fake_slurm.answer(suffix=";gr\udcfcn")
    (batch,) = launcher.batches(planned_of(tmp_path), 1001)
    assert launcher.submit(batch) == "17"


def test_an_array_that_slurm_may_have_taken_keeps_its_files(
    fake_slurm: FakeSlurm, tmp_path: Path
) -> None:
    fake_slurm.fail("sbatch", "sbatch: error: Socket timed out on send/recv operation")
    launcher = launcher_of(tmp_path)
    todo = planned_of(tmp_path)
    (batch,) = launcher.batches(todo, 1001)
    with pytest.raises(SlurmError, match=r"timed out.*\n.*once Slurm answers"):
        launcher.submit(batch)
    trials = [each.trial for each in todo]
    runs = tmp_path / "runs"
    assert [e.state for e in look_up(trials, runs, find_jobs(runs))] == [State.NEW] * 2
    fake_slurm.queue = [FakeTask(batch.array.job_name, "17", str(n)) for n in range(2)]
    assert [e.state for e in look_up(trials, runs, find_jobs(runs))] == [State.QUEUED] * 2


# ---------------------------------------------------------------- closing


def finish(runs: Path, trial: Trial) -> None:
    folder = RunFolder.of(runs, trial)
    create(folder, trial)
    folder.result_file.write_text(result_text(identity=trial.identity))


def left_open(runs: Path) -> list[str]:
    close_finished(runs, find_jobs(runs))
    return [array.path.parent.name for array in open_arrays(runs)]


def tasks(array: Array, *states: str) -> list[FakeTask]:
    return [
        FakeTask(array.job_name, array.job, str(n), state, "None") for n, state in enumerate(states)
    ]


def test_an_array_is_closed_once_its_trials_have_ended_and_its_jobs_are_gone(
    fake_slurm: FakeSlurm, tmp_path: Path
) -> None:
    runs, (first, second) = tmp_path / "runs", trials_of(tmp_path)
    array = write_array(runs, [first, second], submission="a")
    for state, ended, stays in (
        ("RUNNING", [], True),
        ("COMPLETED", [first], True),  # the other is lost
        ("RUNNING", [first, second], True),
        ("COMPLETED", [first, second], False),
    ):
        for trial in ended:
            finish(runs, trial)
        fake_slurm.queue = tasks(array, "COMPLETED", state)
        assert left_open(runs) == (["a"] if stays else []), (state, ended)
    assert array.is_over
    assert left_open(runs) == []


def test_results_from_before_the_submission_close_nothing(
    fake_slurm: FakeSlurm, tmp_path: Path
) -> None:
    runs, trials = tmp_path / "runs", trials_of(tmp_path)
    for trial in trials:
        finish(runs, trial)
    write_array(runs, trials, submission="a", again="all")
    assert left_open(runs) == ["a"]
    for trial in trials:
        finish(runs, trial)
    assert left_open(runs) == []


def test_a_trial_that_ends_between_plan_and_submission_has_ended_since(
    fake_slurm: FakeSlurm, tmp_path: Path
) -> None:
    runs, launcher = tmp_path / "runs", launcher_of(tmp_path)
    todo = planned_of(tmp_path)
    for each in todo:
        create(each.folder, each.trial)
        HeldFolder(each.folder).record_stop("stopped with a checkpoint")
    todo = look_up([each.trial for each in todo], runs)
    (batch,) = launcher.batches(todo, 1001)
    for each in todo:
        finish(runs, each.trial)
    launcher.submit(batch)
    fake_slurm.change(state="COMPLETED")
    assert left_open(runs) == []


def test_an_array_that_later_ones_have_taken_over_is_closed_when_it_is_not_alive(
    fake_slurm: FakeSlurm, tmp_path: Path
) -> None:
    runs, trials = tmp_path / "runs", trials_of(tmp_path)
    old = write_array(runs, trials, submission="a", job="17")
    write_array(runs, trials[:1], submission="b", job="18")
    assert left_open(runs) == ["a", "b"], "one trial was submitted nowhere else"
    write_array(runs, trials[1:], submission="c", job="19")
    fake_slurm.queue = tasks(old, "TIMEOUT")
    assert left_open(runs) == ["b", "c"]


def test_nothing_is_closed_while_slurm_is_silent(fake_slurm: FakeSlurm, tmp_path: Path) -> None:
    runs, trials = tmp_path / "runs", trials_of(tmp_path)
    write_array(runs, trials, submission="a")
    for trial in trials:
        finish(runs, trial)
    fake_slurm.be_silent()
    assert left_open(runs) == ["a"]


# ---------------------------------------------------------------- many


def timed_submission(folder: Path, planned: Sequence[Planned], copies: int) -> float:
    """Seconds to put trials into arrays, to write these, and to look all of them up again."""
    many = [
        replace(each, trial=each.trial.model_copy(update={"seed": seed}))
        for seed in range(copies)
        for each in planned
    ]
    launcher = launcher_of(folder)
    launcher.request = replace(launcher.request, runs=folder / f"runs-{copies}")
    begin = time.process_time()
    batches = launcher.batches(many, 100)
    for batch in batches:
        launcher.submit(batch)
    jobs = find_jobs(launcher.request.runs)
    assert len(jobs.places) == len(jobs.tasks) == len(many)
    assert len(batches) == -(-len(many) // 100)
    return time.process_time() - begin


def test_ten_times_the_trials_are_submitted_in_linear_time(
    fake_slurm: FakeSlurm, tmp_path: Path
) -> None:
    planned = planned_of(tmp_path)
    timed_submission(tmp_path, planned, 10)
    few = timed_submission(tmp_path, planned, 60)
    many = timed_submission(tmp_path, planned, 600)
    assert many < 30 * few  # of 100 it would be
    assert len(fake_slurm.calls("squeue")) == 3
