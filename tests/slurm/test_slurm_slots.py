"""Slots: the trials of settings that are yet to be chosen, submitted together with the draws."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from run_cases import result_text
from slurm_fakes import FakeSlurm
from tiny_spec import write_spec
from typer.testing import CliRunner, Result

from deltagclip_cli.commands.app import app
from deltagclip_cli.core import ExitCode
from deltagclip_cli.launch.launcher import SweepRequest
from deltagclip_cli.plan.planned import Planned
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import HeldFolder, create
from deltagclip_cli.slurm import task as job_session
from deltagclip_cli.slurm.array import Array, ListedSlot, open_arrays
from deltagclip_cli.slurm.awaited import SlotReader, awaited
from deltagclip_cli.slurm.jobs import close_finished, find_jobs
from deltagclip_cli.slurm.submit import SlurmLauncher
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.terminal.console import make_console
from deltagclip_cli.tuning.lock import fixed_plan
from deltagclip_cli.tuning.stages import FreshSlot, slots
from deltagclip_cli.tuning.studies import Tuning

METRIC = "test/accuracy"
SPEC = f"""\
experiments:
  tuned:
    model: {{name: mlp, hidden: [8]}}
    data: {{name: synthetic, batch_size: 4, size: 4, train: 8, test: 8}}
    epochs: 2
    seeds: [0]
    optimizers:
      sgd: {{name: sgd, lr: 0.1}}
      adam: {{name: adam, lr: 1e-3}}
    search:
      space: {{sgd: {{lr: {{uniform: [0.1, 1]}}}}, adam: {{lr: {{uniform: [1e-3, 0.1]}}}}}}
    protocol: {{draws: 3, fresh_seeds: 2, metric: {METRIC}}}
"""
JOB_OF_DRAWS, JOB_OF_CHOSEN = "17", "18"


@dataclass
class Submitted:
    """A folder from which a protocol is tuned; ``run`` does what one command of a user does."""

    path: Path
    slurm: FakeSlurm
    sets: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)  # ``--slurm``

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    def tuning(self) -> Tuning:
        spec = load_spec(write_spec(self.path, SPEC), ["tuned"], self.sets)
        return fixed_plan(Tuning.of("tuned", spec.experiments["tuned"]), self.runs)[1]

    def launcher(self) -> SlurmLauncher:
        request = SweepRequest(
            spec=load_spec(write_spec(self.path, SPEC), ["tuned"], self.sets),
            runs=self.runs,
            data=self.path / "data",
            console=make_console(),
            slurm=self.words,
        )
        return SlurmLauncher(request)

    def run(self) -> int:
        tuning = self.tuning()
        return self.launcher().run(tuning.drawn_trials, awaited(tuning, slots(tuning)))

    def finish(self, trials: list[Trial], status: str = "finished") -> None:
        """Write results of which the largest learning rate has the best."""
        for trial in trials:
            create(RunFolder.of(self.runs, trial), trial)
            last = {METRIC: trial.optimizer.options["lr"]}
            text = result_text(status, identity=trial.identity, last=last)
            RunFolder.of(self.runs, trial).result_file.write_text(text)

    def finish_draws(self) -> None:
        self.finish(self.tuning().drawn_trials)
        self.slurm.change(JOB_OF_DRAWS, state="COMPLETED", reason="None")

    def array(self, job: str) -> Array:
        (found,) = (array for array in open_arrays(self.runs) if array.job == job)
        return found

    def task(self, number: int, job: str = JOB_OF_CHOSEN) -> tuple[int, str]:
        """Run a task of an array as its script does."""
        words = ["job", str(self.array(job).list_file), "--task", str(number)]
        done = CliRunner().invoke(app, words, catch_exceptions=False)
        return done.exit_code, done.output


@pytest.fixture
def place(fake_slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Submitted:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SlurmLauncher, "check_parts", lambda self, todo: None)
    return Submitted(tmp_path, fake_slurm)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """The trials that tasks would train."""
    told: list[Trial] = []

    def launch(self: object, queue: object, todo: list[Planned], head: object) -> None:
        told.extend(each.trial for each in todo)

    monkeypatch.setattr(job_session.JobSession, "_launch", launch)
    return told


def best(tuning: Tuning, label: str) -> float:
    return max(draw.options["lr"] for draw in tuning.draws_of(0, label))


# ---------------------------------------------------------------- submitting


def test_what_will_be_chosen_is_submitted_with_the_draws_and_begins_behind_them(
    place: Submitted, capfd: pytest.CaptureFixture[str]
) -> None:
    assert place.run() == ExitCode.OK
    draws, chosen = place.slurm.scripts().values()
    assert "--dependency" not in draws and "#SBATCH --array=0-5\n" in draws
    assert "#SBATCH --dependency=afterany:17\n" in chosen and "#SBATCH --array=0-3\n" in chosen
    entries = [place.array(JOB_OF_CHOSEN).entries(task)[1] for task in range(4)]
    assert entries == [
        [ListedSlot(f"tuned/{label}/seed-{seed}-chosen", FreshSlot(0, label, seed - 1))]
        for label in ("sgd", "adam")
        for seed in (1, 2)
    ]
    told = capfd.readouterr().out
    assert "10 trials: 10 new. 10 to submit, 4 of them for the settings that others choose" in told
    assert "job 18        tuned: 4 trials in 4 tasks after 17" in told


def test_the_same_command_submits_nothing_twice(place: Submitted) -> None:
    place.run()
    before = place.slurm.queue
    place.run()
    assert place.slurm.queue == before
    place.finish_draws()  # so that slots are trials now, which have another name
    place.slurm.change(JOB_OF_CHOSEN, "0", state="RUNNING")
    before = place.slurm.queue
    place.run()
    assert place.slurm.queue == before


def test_what_is_left_is_submitted_and_waits_for_what_is_alive(place: Submitted) -> None:
    place.run()
    place.slurm.change(JOB_OF_CHOSEN, state="CANCELLED")
    place.slurm.change(JOB_OF_DRAWS, "2", state="CANCELLED")
    place.run()
    draw, chosen = list(place.slurm.scripts().values())[2:]
    assert "#SBATCH --array=0-0\n" in draw
    assert "#SBATCH --dependency=afterany:17:19\n" in chosen


def test_what_is_known_by_now_is_submitted_as_a_trial(place: Submitted) -> None:
    place.run()
    place.slurm.change(JOB_OF_CHOSEN, state="CANCELLED")
    place.finish_draws()
    place.run()
    again = place.slurm.scripts()["19"]
    assert "--dependency" not in again
    (entry,) = place.array("19").entries(0)[1]
    assert entry.trial.optimizer.options["lr"] == best(place.tuning(), entry.trial.label)


def test_what_waits_for_runs_outside_of_slurm_is_left_to_a_later_command(place: Submitted) -> None:
    tuning = place.tuning()
    launcher = place.launcher()
    assert launcher.run([], awaited(tuning, slots(tuning))) == ExitCode.OK
    assert place.slurm.scripts() == {}


def test_tasks_are_packed_and_what_somebody_else_waits_for_is_waited_for_too(
    place: Submitted,
) -> None:
    place.words = ["pack=3", "sbatch=--dependency=singleton"]
    place.run()
    draws, chosen = place.slurm.scripts().values()
    assert "#SBATCH --dependency=singleton\n" in draws and "#SBATCH --array=0-1\n" in draws
    assert "#SBATCH --dependency=afterany:17,singleton\n" in chosen
    assert [len(place.array(JOB_OF_CHOSEN).entries(task)[1]) for task in range(2)] == [3, 1]


def test_a_study_waits_for_its_own_draws_alone(place: Submitted) -> None:
    place.sets = ["protocol.studies=2"]
    tuning = place.tuning()
    first, second = awaited(tuning, [FreshSlot(0, "sgd", 0), FreshSlot(1, "adam", 1)])
    names = {trial.folder: trial.seed for trial in tuning.drawn_trials}
    assert {names[each] for each in first.after} == {0}
    assert {names[each] for each in second.after} == {3}
    assert (first.name, second.name) == ("tuned/sgd/seed-1-chosen", "tuned/adam/seed-5-chosen")


def test_slots_of_one_stack_share_a_task(place: Submitted) -> None:
    place.sets = ["stack=2", "protocol.fresh_seeds=3"]
    place.run()
    sizes = [len(place.array(JOB_OF_CHOSEN).entries(task)[1]) for task in range(3)]
    assert sizes == [2, 2, 2]


# ---------------------------------------------------------------- the command


@pytest.fixture
def tune(place: Submitted) -> Callable[..., Result]:
    """``deltagclip tune`` in this process."""
    write_spec(place.path, SPEC)

    def invoke(*words: str) -> Result:
        words = ("tune", "tuned", "--spec", "spec.yaml", "--launcher", "slurm", *words)
        return CliRunner().invoke(app, [*words, "--select-on-test"], catch_exceptions=False)

    return invoke


def test_a_dry_run_of_a_protocol_shows_all_scripts_and_makes_nothing(
    place: Submitted, tune: Callable[..., Result]
) -> None:
    done = tune("--dry-run")
    assert done.exit_code == ExitCode.OK
    assert done.stdout.count("#!/bin/bash") == 2
    assert "#SBATCH --dependency=afterany:<job of tuned-0>\n" in done.stdout
    assert [path.name for path in place.path.iterdir()] == ["spec.yaml"]
    answer = json.loads(tune("--dry-run", "--json").stdout)
    assert [each["after"] for each in answer["arrays"]] == [[], ["<job of tuned-0>"]]
    assert answer["arrays"][1]["trials"][0] == "runs/tuned/sgd/seed-1-chosen"


def test_a_protocol_is_submitted_looked_at_and_done(
    place: Submitted, tune: Callable[..., Result]
) -> None:
    answer = json.loads(tune("--json").stdout)
    assert [each["job"] for each in answer["arrays"]] == [JOB_OF_DRAWS, JOB_OF_CHOSEN]
    assert answer["arrays"][1]["after"] == [JOB_OF_DRAWS]
    assert answer["protocol"]["draws"] == 3
    place.finish_draws()
    done = tune()
    assert done.exit_code == ExitCode.OK, "jobs wait"
    assert "There is nothing to submit." in done.stdout and "chosen by" in done.stdout
    reader = SlotReader(place.runs)
    place.finish([reader.trial_of("tuned", slot) for slot in slots(place.tuning())])
    place.slurm.change(JOB_OF_CHOSEN, state="COMPLETED", reason="None")
    done = tune()
    assert done.exit_code == ExitCode.OK
    assert "the chosen settings on fresh seeds 1, 2" in done.stdout
    assert len(place.slurm.scripts()) == 2


def test_of_a_study_that_failed_nothing_more_is_submitted(
    place: Submitted, tune: Callable[..., Result]
) -> None:
    tune()
    place.slurm.change(state="COMPLETED", reason="None")
    trials = place.tuning().drawn_trials
    place.finish(trials[:3])
    for trial in trials[3:]:
        create(RunFolder.of(place.runs, trial), trial)
        HeldFolder(RunFolder.of(place.runs, trial)).record_failure(ValueError("why"), "why")
    done = tune()
    assert done.exit_code == ExitCode.FAILED
    assert "3 of 3 trials of adam failed" in done.stdout
    assert len(place.slurm.scripts()) == 2


# ---------------------------------------------------------------- tasks


def test_a_task_whose_draws_have_not_ended_says_so(place: Submitted, trained: list[Trial]) -> None:
    place.run()
    place.finish(place.tuning().drawn_trials[1:])
    code, told = place.task(0)
    assert code == ExitCode.STOPPED
    assert "tuned: 1 of 6 draws are not finished." in told
    assert trained == []


def test_a_task_trains_what_was_chosen(place: Submitted, trained: list[Trial]) -> None:
    place.run()
    place.finish_draws()
    tuning = place.tuning()
    for number, (label, seed) in enumerate([("sgd", 1), ("sgd", 2), ("adam", 1), ("adam", 2)]):
        assert place.task(number)[0] == ExitCode.STOPPED  # for the training is made up
        trial = trained.pop()
        assert (trial.label, trial.seed) == (label, seed)
        assert trial.optimizer.options["lr"] == best(tuning, label)
    place.finish([SlotReader(place.runs).trial_of("tuned", FreshSlot(0, "sgd", 0))])
    assert place.task(0)[0] == ExitCode.OK
    assert trained == []


def test_a_task_says_why_there_will_be_nothing_to_run(
    place: Submitted, trained: list[Trial]
) -> None:
    place.run()
    trials = place.tuning().drawn_trials
    place.finish(trials[:3])
    place.finish(trials[3:], status="diverged")
    code, told = place.task(2)
    assert code == ExitCode.USAGE
    assert "error: tuned: no draw of adam has a value (3 diverged)." in told
    assert trained == []


# ---------------------------------------------------------------- looking


def test_the_queue_tells_of_slots_by_their_names_until_their_trials_are_known(
    place: Submitted,
) -> None:
    place.run()
    place.slurm.change(JOB_OF_CHOSEN, reason="Dependency")

    def shown() -> str:
        words = ["status", "--spec", "spec.yaml", "--json"]
        return CliRunner().invoke(app, words, catch_exceptions=False).output

    assert shown().count("-chosen") == 4
    assert shown().count('\n   "reason": "Dependency"') == 4
    place.finish_draws()
    assert shown().count("-chosen") == 0
    assert shown().count('\n   "reason": "Dependency"') == 4


def test_an_array_of_slots_is_closed_once_all_have_ended(place: Submitted) -> None:
    place.run()
    place.slurm.change(state="COMPLETED", reason="None")
    close_finished(place.runs, find_jobs(place.runs))
    assert len(open_arrays(place.runs)) == 2
    place.finish_draws()
    reader = SlotReader(place.runs)
    place.finish([reader.trial_of("tuned", slot) for slot in slots(place.tuning())])
    close_finished(place.runs, find_jobs(place.runs))
    assert open_arrays(place.runs) == []


@pytest.mark.parametrize("harm", [Path.unlink, lambda file: file.write_text("{")])
def test_a_plan_that_is_gone_or_damaged_is_named_by_the_task_and_hides_nobody(
    place: Submitted, harm: Callable[[Path], object]
) -> None:
    place.run()
    file = place.runs / "tuned" / "protocol.lock"
    harm(file)
    code, told = place.task(0)
    assert code == ExitCode.USAGE
    assert f"error: {file}: " in told and "Put the file back as it was." in told
    assert len(find_jobs(place.runs).awaited("tuned")) == 10
