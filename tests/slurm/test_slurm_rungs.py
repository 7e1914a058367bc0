"""Successive halving in jobs: rungs that wait for each other, and find out who was promoted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_cases import lines, result_text
from slurm_fakes import FakeSlurm
from tiny_spec import write_spec
from typer.testing import CliRunner, Result

from deltagclip_cli.commands.app import app
from deltagclip_cli.core import ExitCode
from deltagclip_cli.plan.planned import Planned
from deltagclip_cli.runs.folder import RunFolder, State
from deltagclip_cli.runs.hold import HeldFolder, create
from deltagclip_cli.slurm import task as job_session
from deltagclip_cli.slurm.array import Array, open_arrays
from deltagclip_cli.slurm.awaited import FOLDER, halved, read_bracket, write_bracket
from deltagclip_cli.slurm.submit import SlurmLauncher
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.tuning.halving import Bracket

SPEC = """\
experiments:
  half:
    model: {name: mlp, hidden: [8]}
    data: {name: synthetic, batch_size: 4, size: 4, train: 8, test: 8}
    epochs: 9
    seeds: [0, 1]
    optimizers: {sgd: {name: sgd, lr: 0.1}}
    search: {pruner: halving, metric: train/loss, space: {sgd: {lr: {uniform: [0.1, 1]}}}}
"""
DRAWS, SEEDS = 6, 2
PARTS = (9, 3, 1)  # of six settings, two are promoted to the second rung, and one of these


class Halving:
    """A folder from which a search is submitted."""

    def __init__(self, path: Path) -> None:
        self.runs = path / "runs"
        write_spec(path, SPEC)

    def sweep(self, *words: str) -> Result:
        words = ("sweep", "half", "--spec", "spec.yaml", "--search", str(DRAWS), *words)
        words = (*words, "--launcher", "slurm")
        return CliRunner().invoke(app, list(words), catch_exceptions=False)

    def array(self, job: int) -> Array:
        (found,) = (array for array in open_arrays(self.runs) if array.job == str(job))
        return found

    def bracket(self) -> Bracket:
        (file,) = (self.runs / FOLDER).glob("bracket-*.json")
        return read_bracket(self.runs, file.stem)

    def come_to(self, rung: int, *trials: Trial) -> None:
        """Leave behind what trials do that have come to a rung: the best are the first drawn."""
        for trial in trials:
            folder = RunFolder.of(self.runs, trial)
            create(folder, trial)
            epochs = 9 // PARTS[rung]
            loss = trial.optimizer.options["lr"]
            records = [
                {"epoch": epoch, "step": 2 * epoch, "time": 1.0, "train/loss": loss}
                for epoch in range(1, epochs + 1)
            ]
            folder.metrics_file.write_bytes(lines(*records))
            if rung == len(PARTS) - 1:
                text = result_text(identity=trial.identity, last={"train/loss": 0.1})
                folder.result_file.write_text(text)
            else:
                HeldFolder(folder).record_stop("waits")

    def task(self, job: int, number: int) -> Result:
        words = ["job", str(self.array(job).list_file), "--task", str(number)]
        return CliRunner().invoke(app, words, catch_exceptions=False)


@pytest.fixture
def place(fake_slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Halving:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SlurmLauncher, "check_parts", lambda self, todo: None)
    return Halving(tmp_path)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Planned]:
    """What tasks would train."""
    told: list[Planned] = []

    def launch(self: object, queue: object, todo: list[Planned], head: object) -> None:
        told.extend(todo)

    monkeypatch.setattr(job_session.JobSession, "_launch", launch)
    return told


def all_of(bracket: Bracket) -> list[Trial]:
    return [trial for trials in bracket.settings for trial in trials]


def ranked(bracket: Bracket) -> list[list[Trial]]:
    return sorted(bracket.settings, key=lambda trials: trials[0].optimizer.options["lr"])


def test_all_rungs_are_submitted_at_once_each_behind_the_one_before(
    place: Halving, fake_slurm: FakeSlurm
) -> None:
    done = place.sweep()
    assert done.exit_code == ExitCode.OK
    sizes = [line for text in fake_slurm.scripts().values() for line in text.splitlines()]
    assert [line for line in sizes if "--array" in line or "--dependency" in line] == [
        "#SBATCH --array=0-11",
        "#SBATCH --array=0-3",
        "#SBATCH --dependency=afterany:17",
        "#SBATCH --array=0-1",
        "#SBATCH --dependency=afterany:18",
    ]
    assert [entry.part for n in range(12) for entry in place.array(17).entries(n)[1]] == [9] * 12
    before = fake_slurm.queue
    assert "There is nothing to submit." in place.sweep().stdout
    assert fake_slurm.queue == before


def test_a_dry_run_leaves_nothing_behind(place: Halving) -> None:
    answer = json.loads(place.sweep("--dry-run", "--json").stdout)
    assert [array["tasks"] for array in answer["arrays"]] == [12, 4, 2]
    assert not place.runs.exists()


def test_a_bracket_is_read_as_it_was_written(place: Halving) -> None:
    place.sweep()
    bracket = place.bracket()
    assert [e.identity for e in all_of(bracket)] == [
        entry.trial.identity for n in range(12) for entry in place.array(17).entries(n)[1]
    ]
    (file,) = (place.runs / FOLDER).glob("bracket-*.json")
    before = file.read_bytes()
    write_bracket(bracket)
    assert file.read_bytes() == before


def test_a_task_trains_its_part_and_no_more(place: Halving, trained: list[Planned]) -> None:
    place.sweep()
    assert place.task(17, 3).exit_code == ExitCode.STOPPED
    (planned,) = trained
    assert planned.part == 9
    trained.clear()
    place.come_to(0, planned.trial)
    assert place.task(17, 3).exit_code == ExitCode.OK, "it waits for others, and has come there"
    assert trained == []


def test_a_rung_that_is_not_complete_is_waited_for(place: Halving, trained: list[Planned]) -> None:
    place.sweep()
    place.come_to(0, *all_of(place.bracket())[2:])
    done = place.task(18, 0)
    assert done.exit_code == ExitCode.STOPPED
    assert (
        "half · sgd: rung 1 waits for the one before, to which 2 trials must come." in done.output
    )
    assert trained == []


def test_who_is_promoted_goes_on_and_the_others_are_pruned(
    place: Halving, trained: list[Planned]
) -> None:
    place.sweep()
    bracket = place.bracket()
    place.come_to(0, *all_of(bracket))
    for number in range(4):
        assert place.task(18, number).exit_code == ExitCode.STOPPED
    first, second, *others = ranked(bracket)
    assert {each.trial.identity for each in trained} == {e.identity for e in (*first, *second)}
    assert {each.part for each in trained} == {3}
    states = [RunFolder.of(place.runs, trial).state for trials in others for trial in trials]
    assert {*states} == {State.PRUNED}
    assert RunFolder.of(place.runs, first[0]).state is State.INTERRUPTED

    place.come_to(1, *first, *second)
    trained.clear()
    assert [place.task(19, number).exit_code for number in (0, 1)] == [ExitCode.STOPPED] * 2
    assert [each.trial.identity for each in trained] == [each.identity for each in first]
    assert {each.part for each in trained} == {1}


def test_fewer_than_there_is_room_for_leave_a_slot_empty(
    place: Halving, trained: list[Planned]
) -> None:
    place.sweep()
    best, *others = ranked(place.bracket())
    place.come_to(0, *best)
    for trial in [trial for trials in others for trial in trials]:
        create(RunFolder.of(place.runs, trial), trial)
        HeldFolder(RunFolder.of(place.runs, trial)).record_failure(ValueError("why"), "why")
    assert [place.task(18, n).exit_code for n in range(4)] == [ExitCode.STOPPED] * 2 + [0, 0]
    assert len(trained) == 2


def test_what_is_left_is_submitted_and_nothing_twice(place: Halving, fake_slurm: FakeSlurm) -> None:
    place.sweep()
    place.come_to(0, *all_of(place.bracket()))
    fake_slurm.change("17", state="COMPLETED", reason="None")
    before = fake_slurm.queue
    assert "There is nothing to submit." in place.sweep().stdout
    assert fake_slurm.queue == before
    fake_slurm.change("18", "1", state="CANCELLED")
    fake_slurm.change("19", state="CANCELLED")
    place.sweep()
    known, slots = list(fake_slurm.scripts().values())[3:]
    assert "#SBATCH --array=0-0\n" in known and "--dependency" not in known
    assert "#SBATCH --dependency=afterany:18:20\n" in slots
    assert [entry.part for entry in place.array(20).entries(0)[1]] == [3]


def test_a_file_of_a_search_that_is_damaged_is_named_and_written_anew(place: Halving) -> None:
    place.sweep()
    (file,) = (place.runs / FOLDER).glob("bracket-*.json")
    file.write_text(file.read_text().replace('"minimizes": true', '"minimizes": false'))
    done = place.task(18, 0)
    assert done.exit_code == ExitCode.USAGE
    assert str(file) in done.output and "The same command writes it anew" in done.output
    place.sweep()
    assert len(halved(place.bracket()).later) == 6
