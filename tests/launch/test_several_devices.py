"""Trials on several devices: which they get, the order of all, and what there is no room for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_gpus import FakeDriver
from run_cases import beating
from test_supervisor import Seen
from tiny_spec import TINY, trials_of, write_spec
from typer.testing import CliRunner

from deltagclip_cli.commands.app import app
from deltagclip_cli.launch import local
from deltagclip_cli.launch.forkserver import ForkServer
from deltagclip_cli.launch.inline import Done
from deltagclip_cli.launch.local import LocalRunner
from deltagclip_cli.launch.slots import FreeSlots, Slot
from deltagclip_cli.launch.supervisor import PlannedQueue, Supervisor
from deltagclip_cli.plan.planned import Planned, Unit, look_up, said_of_units, units_of
from deltagclip_cli.runs.folder import RunFolder, State
from deltagclip_cli.runs.hold import hold


class Trials:
    """Trials on so many devices each, whose names are ``1``, ``2``, … in their order."""

    def __init__(self, folder: Path, *widths: int, sets: Sequence[str] = ()) -> None:
        self.planned: list[Planned] = []
        for number, width in enumerate(widths, 1):
            words = (f"devices={width}", f"seeds=[{number}]", *sets)
            self.planned += look_up(trials_of(folder, *words)[:1], folder / "runs")


def cpus(count: int) -> list[Slot]:
    return [Slot(f"cpu {number}", "cpu") for number in range(count)]


def gpus(count: int, shares: int = 1) -> list[Slot]:
    numbers = [number for _ in range(shares) for number in range(count)]
    return [
        Slot(f"cuda:{number} {place}", f"cuda:{number}") for place, number in enumerate(numbers)
    ]


class Course:
    """A sweep step by step: which trials run on which slots, and which are ended next."""

    def __init__(self, planned: Sequence[Planned], slots: Sequence[Slot]) -> None:
        self.queue, self.free = PlannedQueue(planned), FreeSlots(slots, lambda slot: True)
        self.running: dict[int, Slot] = {}
        self.begun: list[int] = []
        self.fill()

    def fill(self) -> None:
        while self.free and (unit := self.free.next_unit(self.queue.take)):
            seed = unit[0].trial.seed
            self.running[seed] = self.free.take(unit)
            self.begun.append(seed)

    def end(self, *seeds: int) -> list[int]:
        """End some, and say which have begun then."""
        before = len(self.begun)
        for seed in seeds:
            self.free.give_back(self.running.pop(seed))
        self.fill()
        return self.begun[before:]

    @property
    def names(self) -> dict[int, str]:
        return {seed: slot.name for seed, slot in self.running.items()}


def test_a_trial_has_as_many_devices_as_it_trains_on(tmp_path: Path) -> None:
    course = Course(Trials(tmp_path, 2, 1, 1).planned, gpus(4))
    assert course.names == {1: "cuda:0+1", 2: "cuda:2 2", 3: "cuda:3 3"}
    assert course.running[1].device == "cuda"
    course = Course(Trials(tmp_path, 2, 2).planned, cpus(3))
    assert course.names == {1: "cpu 0+1"}
    assert course.running[1].device == "cpu"


def test_small_trials_fill_the_gaps_and_a_large_one_does_not_starve(tmp_path: Path) -> None:
    course = Course(Trials(tmp_path, 1, 1, 1, 3, 1, 1, 1, 1, 1).planned, gpus(4))
    assert course.begun == [1, 2, 3], "the free one is kept, and two that were taken first"
    assert course.end(3) == [5], "a gap is filled from behind the large one"
    assert course.end(5) == [6], "again and again"
    assert course.end(1) == [], "this one is kept"
    assert course.end(2) == [4]
    assert course.end(6) == [7]
    assert course.end(4, 7) == [8, 9]


def test_two_large_trials_leave_what_neither_needs_to_small_ones(tmp_path: Path) -> None:
    course = Course(Trials(tmp_path, 3, 3, 1, 1).planned, gpus(4))
    assert course.names == {1: "cuda:0+1+2", 3: "cuda:3 3"}
    assert course.end(3) == [4], "the next large one waits for the three, not for the fourth"
    assert course.end(1) == [2]


def test_devices_that_are_kept_for_a_trial_that_another_process_has_run_are_given_free(
    tmp_path: Path,
) -> None:
    planned = Trials(tmp_path, 1, 2, 1, 1).planned
    course = Course(planned, gpus(2))
    assert course.begun == [1]
    with hold(planned[1].folder, make=True) as held:
        held.keep(planned[1].trial)
        assert course.end(1) == [3, 4]


def test_devices_that_are_kept_for_a_trial_that_its_queue_has_given_up_are_given_free(
    tmp_path: Path,
) -> None:
    course = Course(Trials(tmp_path, 1, 1, 3, 1).planned, cpus(3))
    assert course.begun == [1, 2]
    course.queue = PlannedQueue(Trials(tmp_path, 1, 1, 1, 1).planned[3:])
    course.fill()
    course.fill()
    assert course.begun == [1, 2, 4]


def test_a_trial_on_several_devices_shares_none_of_them(tmp_path: Path) -> None:
    course = Course(Trials(tmp_path, 1, 2, 1, 1).planned, gpus(2, shares=2))
    assert course.begun == [1], "both are kept for the second, and the third would share one"
    assert course.end(1) == [2]
    assert course.names == {2: "cuda:0+1"} and len(course.running[2].parts) == 4
    assert course.end(2) == [3, 4]


def test_on_a_cpu_a_trial_of_more_devices_than_slots_runs_alone(tmp_path: Path) -> None:
    course = Course(Trials(tmp_path, 1, 4, 1).planned, cpus(2))
    assert course.begun == [1]
    assert course.end(1) == [2]
    assert course.names == {2: "cpu 0+1"}
    assert course.end(2) == [3]


def test_a_trial_of_several_nodes_runs_alone(tmp_path: Path) -> None:
    course = Course(Trials(tmp_path, 1, 1, sets=["nodes=2"]).planned, gpus(2))
    assert course.names == {1: "cuda:0+1"}


def test_a_lost_gpu_leaves_those_that_need_it_to_the_next_sweep(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    planned = Trials(tmp_path, 2, 2, 1).planned
    asked: list[str] = []

    def start(unit: Unit, slot: Slot) -> Done:
        with hold(unit[0].folder) as held:
            held.record_stop("the GPU is lost" if slot.parts else "stopped")
        return Done(75)

    def answers(slot: Slot) -> bool:
        asked.append(slot.device)
        return slot.device != "cuda:1"

    queue, seen = PlannedQueue(planned), Seen()
    slots = gpus(2)
    Supervisor(queue, slots, start, seen, lambda: False, fail_fast=False, answers=answers).run()
    assert asked == ["cuda:0", "cuda:1"]
    assert "Too few GPUs are left that answer" in caplog.text
    assert [each.folder.state for each in planned] == [
        State.INTERRUPTED,
        State.NEW,
        State.INTERRUPTED,
    ]


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with three GPUs and four cores."""
    made = FakeDriver(tmp_path / "bin")
    made.folder.mkdir()
    made.write(gpus=3)
    monkeypatch.setenv("PATH", made.path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(local, "available_cores", lambda: 4)


@pytest.mark.parametrize(
    ("visible", "given"),
    [(None, "0,2"), ("4,GPU-b,6", "4,6"), ("GPU-a,GPU-b,GPU-c", "GPU-a,GPU-c")],
)
@pytest.mark.usefixtures("driver")
def test_a_worker_sees_the_gpus_of_its_trial_alone(
    visible: str | None, given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    started: list[Any] = []
    monkeypatch.setattr(ForkServer, "start", lambda self, *words: started.append(words) or Done(0))
    planned = Trials(tmp_path, 2).planned
    runner = LocalRunner(Path("nowhere"), lambda: False, gpus="0,2")
    runner.run(PlannedQueue(planned), Seen())  # type: ignore[arg-type]
    ((words, _, environment),) = started
    assert words[words.index("--device") + 1] == "cuda"
    assert environment == {"CUDA_VISIBLE_DEVICES": given}


def test_the_size_of_trials_is_told_before_they_run(tmp_path: Path) -> None:
    planned = Trials(tmp_path, 1, 2, 2).planned
    planned += Trials(tmp_path, 4, sets=["nodes=2", "data.batch_size=8"]).planned
    assert said_of_units(units_of(planned)) == " (2 on 2 devices each, 1 on 2 × 4 devices each)"
    assert said_of_units(units_of(planned[:1])) == ""


# ---------------------------------------------------------------- the command


def sweep(folder: Path, *words: str, text: str = TINY) -> tuple[int, str]:
    return run("sweep", folder, *words, text=text)


def run(command: str, folder: Path, *words: str, text: str = TINY) -> tuple[int, str]:
    spec = write_spec(folder, text)
    where = ["--spec", str(spec), "--runs", str(folder / "runs")]
    done = CliRunner().invoke(app, [command, "tiny", *where, *words])
    return done.exit_code, done.output.replace(f"{folder}/", "")


WIDE = TINY.replace("    epochs: 2\n", "    epochs: 2\n    devices: 4\n")


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
@pytest.mark.usefixtures("driver")
def test_more_devices_than_there_are_is_said_before_anything_starts(
    more: list[str], tmp_path: Path
) -> None:
    code, said = sweep(tmp_path, *more, text=WIDE)
    assert code == 2
    assert "spec.yaml:7:5: tiny: devices: 4: 3 GPUs can be used here (cuda:0, cuda:1," in said
    assert "Write devices: 3 or fewer, or train on the CPU with --jobs N." in said
    assert not (tmp_path / "runs").exists()
    assert "to run" not in said


@pytest.mark.parametrize(
    ("command", "nodes", "instead"),
    [("sweep", "1", "devices: 2 into the spec"), ("train", "2", "devices: 2 and nodes: 2 into")],
)
def test_one_of_several_processes_of_torchrun_is_told_what_to_write_instead(
    command: str, nodes: str, instead: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_torchrun = {"TORCHELASTIC_RUN_ID": "none", "RANK": "1", "WORLD_SIZE": "4"}
    for name, value in {**by_torchrun, "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": nodes}.items():
        monkeypatch.setenv(name, value)
    code, said = run(command, tmp_path)
    assert code == 2 and not (tmp_path / "runs").exists()
    assert "torchrun has started this process as one of 4" in said
    assert f"write {instead}" in said


@pytest.mark.parametrize("command", ["sweep", "train"])
@pytest.mark.usefixtures("driver")
def test_several_nodes_without_an_allocation_are_told_of_slurm(
    command: str, tmp_path: Path
) -> None:
    code, said = run(command, tmp_path, "--set", "nodes=2")
    assert code == 2 and not (tmp_path / "runs").exists()
    assert "--set nodes=2: tiny: nodes: 2: this process is in no job of Slurm" in said
    assert "sweep --launcher slurm" in said


@pytest.mark.usefixtures("driver")
def test_a_plan_shows_the_devices_of_each_trial(tmp_path: Path) -> None:
    code, said = sweep(tmp_path, "--dry-run", "--set", "devices=2", "--gpus", "0,2")
    assert code == 0
    assert said.count("cuda:0+2") == 2
    assert "2 to run (2 on 2 devices each) on 2 slots" in said
    words = ("--dry-run", "--set", "devices=2", "--gpus", "0,1", "--trials-per-gpu", "2")
    assert sweep(tmp_path, *words)[1].count("cuda:0+1 ") == 2


def test_slots_of_the_cpu_are_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, said = sweep(tmp_path, "--dry-run", "--jobs", "4", "--set", "devices=2")
    assert code == 0, said
    assert "cpu 0+1" in said and "cpu 2+3" in said


def test_a_status_tells_of_the_devices_of_a_running_trial(tmp_path: Path) -> None:
    (trial, *_) = trials_of(tmp_path, "devices=2", "nodes=2")
    with hold(RunFolder.of(tmp_path / "runs", trial), make=True) as held:
        held.keep(trial)
        beating(held, epochs=2, steps=2)
        words = ("--set", "devices=2", "--set", "nodes=2")
        code, said = run("status", tmp_path, *words)
    assert code == 0
    assert "cpu (2 × 2 devices)" in said
