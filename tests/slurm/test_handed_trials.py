"""Trials that a controller hands out and workers take, whatever becomes of either."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from run_cases import result_text
from slurm_fakes import FakeSlurm
from tiny_spec import trials_of, write_spec
from typer.testing import CliRunner, Result

from deltagclip_cli.commands.app import app
from deltagclip_cli.core import ExitCode, UsageError
from deltagclip_cli.launch.supervisor import End, PlannedQueue
from deltagclip_cli.launch.sweep_view import QuietView
from deltagclip_cli.plan.planned import Planned, look_up
from deltagclip_cli.runs.folder import State
from deltagclip_cli.runs.hold import create, hold
from deltagclip_cli.slurm import handed as handed_trials
from deltagclip_cli.slurm.array import open_arrays
from deltagclip_cli.slurm.handed import Handed, HandedQueue, HandingRunner, name_of
from deltagclip_cli.slurm.submit import SlurmLauncher
from deltagclip_cli.terminal.console import make_console

World = Callable[[], object]


class GivingUp(PlannedQueue):
    """A plan of which some trials are to be given up."""

    def __init__(self, planned: list[Planned]) -> None:
        super().__init__(planned)
        self.bad: set[str] = set()
        self.told: list[tuple[str, State]] = []

    def give_up(self, planned: Planned) -> str:
        return "not good enough" if planned.label in self.bad else ""

    def ended(self, planned: Planned, end: End) -> None:
        self.told.append((planned.label, end.state))


@pytest.fixture
def planned(tmp_path: Path) -> list[Planned]:
    """A trial of sgd and one of delta-gclip."""
    return look_up(trials_of(tmp_path), tmp_path / "runs")


@pytest.fixture
def handed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Handed:
    monkeypatch.setattr(handed_trials, "_SECONDS_BETWEEN_LOOKS", 0.0)
    return Handed(tmp_path / "runs", "tiny")


def run(handed: Handed, queue: PlannedQueue, *events: World) -> None:
    """Let a controller work, which is asked to stop after some events, one a look."""
    left: Iterator[World] = iter(events)

    def should_stop() -> bool:
        event = next(left, None)
        if event is not None:
            event()
        return event is None

    view = QuietView(make_console(), 2)
    HandingRunner(handed, 2, should_stop).run(queue, view)


def nothing() -> None: ...


def finish(planned: Planned) -> None:
    create(planned.folder, planned.trial)
    planned.folder.result_file.write_text(result_text(identity=planned.trial.identity))


def test_what_has_ended_is_told_and_the_end_of_all_is_the_end(
    handed: Handed, planned: list[Planned]
) -> None:
    queue = GivingUp(planned)
    seen: list[list[str]] = []
    run(
        *(handed, queue, nothing),
        lambda: (seen.append(handed.names()), finish(planned[0])),
        lambda: (seen.append(handed.names()), finish(planned[1])),
        *[nothing] * 3,
    )
    assert [len(names) for names in seen] == [2, 1]
    assert queue.told == [("sgd", State.FINISHED), ("delta-gclip", State.FINISHED)]
    assert handed.is_over and handed.names() == []


def test_a_controller_that_was_killed_hands_out_the_same_again(
    handed: Handed, planned: list[Planned]
) -> None:
    run(handed, GivingUp(planned), nothing)
    before = handed.names()
    assert len(before) == 2 and not handed.is_over
    with hold(planned[0].folder, make=True):  # a worker goes on with it
        queue = GivingUp([])
        queue.add(planned[:1])
        queue.is_elsewhere = lambda each: False  # type: ignore[method-assign]
        run(handed, queue, nothing)
    assert handed.names() == [name_of(planned[0].trial)], "what it does not know is taken back"


def test_what_is_given_up_is_told_to_its_worker_and_ended_when_that_has_stopped(
    handed: Handed, planned: list[Planned], tmp_path: Path
) -> None:
    queue = GivingUp(planned[:1])
    worker = HandedQueue(handed, tmp_path / "runs", 0)
    reasons = []

    def works() -> None:
        with hold(planned[0].folder, make=True):
            queue.bad = {"sgd"}
            reasons.append(worker.give_up(planned[0]))

    run(handed, queue, nothing, works, nothing)
    assert queue.told == [("sgd", State.NEW)] and reasons == [""]


def test_a_worker_takes_what_nobody_works_on(
    handed: Handed, planned: list[Planned], tmp_path: Path
) -> None:
    handed.open()
    worker = HandedQueue(handed, tmp_path / "runs", 0)
    assert worker.take() == () and not worker.is_over()
    for each in planned:
        handed.hand_out(each.trial)
    first, second = sorted(planned, key=lambda each: name_of(each.trial))
    other = HandedQueue(handed, tmp_path / "runs", 1)
    assert [worker.take()[0].trial, other.take()[0].trial] == [first.trial, second.trial]
    with hold(first.folder, make=True):
        assert worker.take()[0].trial == second.trial
        handed.hand_out(second.trial, "not good enough")
        assert worker.take() == ()
        assert worker.give_up(second) == "not good enough"
    finish(first)
    assert worker.take() == ()
    handed.close()
    assert worker.is_over()


@pytest.mark.parametrize("damage", ["", "{", '{"trial": {}}'])
def test_a_file_that_is_no_trial_is_passed_over(
    handed: Handed, planned: list[Planned], tmp_path: Path, damage: str
) -> None:
    handed.open()
    handed.hand_out(planned[0].trial)
    (handed.path / "adam~seed-0-00000000.json").write_text(damage)
    assert HandedQueue(handed, tmp_path / "runs", 0).take()[0].trial == planned[0].trial


def test_a_controller_that_is_silent_for_long_is_not_waited_for(
    handed: Handed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed.open()
    worker = HandedQueue(handed, tmp_path / "runs", 0)
    assert not worker.is_over()
    monkeypatch.setattr(handed_trials, "_SILENCE_SECONDS", -1.0)
    assert worker.is_over() and worker.is_deserted


def test_workers_end_with_a_controller_that_cannot_go_on(
    handed: Handed, planned: list[Planned]
) -> None:
    class Faulty(GivingUp):
        def give_up(self, planned: Planned) -> str:
            raise UsageError("test/f1 is not measured by these trials.")

    with pytest.raises(UsageError, match="f1"):
        run(handed, Faulty(planned), nothing)
    assert handed.is_over


# ---------------------------------------------------------------- submitting

SPEC = """\
experiments:
  tiny:
    model: {name: mlp, hidden: [8]}
    data: {name: synthetic, batch_size: 4, size: 4, train: 8, test: 8}
    epochs: 2
    optimizers: {sgd: {name: sgd, lr: 0.1}}
    search: {sampler: tpe, metric: train/loss, space: {sgd: {lr: {uniform: [0.1, 1]}}}}
    slurm: {gpus: 2, cpus: 4, throttle: 3}
"""


@pytest.fixture
def sweep(
    fake_slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    write_spec(tmp_path, SPEC)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SlurmLauncher, "check_parts", lambda self, todo: None)

    def invoke(*words: str) -> Result:
        all_words = ["sweep", "tiny", "--spec", "spec.yaml", "--search", "6", *words]
        return CliRunner().invoke(app, [*all_words, "--launcher", "slurm"], catch_exceptions=False)

    return invoke


def test_a_controller_and_workers_are_submitted_once(
    fake_slurm: FakeSlurm, sweep: Callable[..., Result], tmp_path: Path
) -> None:
    Handed(tmp_path / "runs", "tiny").close()  # as an earlier search did
    assert sweep().exit_code == ExitCode.OK
    controller, workers = fake_slurm.scripts().values()
    assert "#SBATCH --array=0-0\n" in controller and "--gres" not in controller
    assert "#SBATCH --cpus-per-task=1\n" in controller
    words = "controller tiny --search 6 --workers 3 --optimizer sgd --seed 0"
    assert f"-m deltagclip_cli {words} --spec spec.yaml" in controller
    assert "#SBATCH --array=0-2%3\n" in workers and "#SBATCH --gres=gpu:2\n" in workers
    assert not Handed(tmp_path / "runs", "tiny").is_over
    before = fake_slurm.queue
    assert "there is nothing to submit" in sweep().stdout
    assert fake_slurm.queue == before
    fake_slurm.change("17", state="NODE_FAIL")
    fake_slurm.change("18", "1", state="CANCELLED")
    sweep()
    assert len(fake_slurm.queue) == len(before) + 2
    assert len(open_arrays(tmp_path / "runs")) == 3, "that of the lost controller is closed"


def test_packed_workers_share_a_task_and_a_dry_run_makes_nothing(
    sweep: Callable[..., Result], tmp_path: Path
) -> None:
    answer = json.loads(sweep("--dry-run", "--json", "--pack", "2").stdout)
    assert [(each["tasks"], each["pack"]) for each in answer["arrays"]] == [(1, 1), (2, 2)]
    assert sweep("--dry-run").stdout.count("#!/bin/bash") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]


def test_a_task_of_a_worker_runs_what_is_handed_out_until_all_is_over(
    sweep: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep()
    handed = Handed(tmp_path / "runs", "tiny")

    def launch(self: object, queue: HandedQueue, *others: object) -> None:
        assert not queue.is_over()
        handed.close()

    monkeypatch.setattr("deltagclip_cli.slurm.task.JobSession._launch", launch)
    (array,) = (array for array in open_arrays(tmp_path / "runs") if array.job == "18")
    words = ["job", str(array.list_file), "--task", "2"]
    assert CliRunner().invoke(app, words).exit_code == ExitCode.OK
    (tmp_path / "runs" / "tiny" / ".handed" / "over").unlink()
    monkeypatch.setattr("deltagclip_cli.slurm.task.JobSession._launch", lambda *others: None)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == ExitCode.STOPPED
    assert "Stopped before the search was over." in done.output
