"""Trials that share a GPU: how many, what their workers are given, and a GPU that is lost."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_gpus import FakeDriver
from tiny_spec import trials_of
from typer.testing import CliRunner

from deltagclip_cli.commands.app import app
from deltagclip_cli.core import ExitCode, LostDeviceError, UsageError
from deltagclip_cli.launch import capacity, forkserver, local
from deltagclip_cli.launch.capacity import Memory, kinds, measure, train_a_little
from deltagclip_cli.launch.forkserver import ForkServer
from deltagclip_cli.launch.inline import Done
from deltagclip_cli.launch.local import LocalRunner
from deltagclip_cli.launch.slots import Slot
from deltagclip_cli.launch.supervisor import PlannedQueue, Supervisor
from deltagclip_cli.plan.planned import Planned, look_up
from deltagclip_cli.runs.folder import State
from deltagclip_cli.runs.hold import hold
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training import worker

CPU = torch.device("cpu")
GB = 10**9


class Unseen:
    """A watcher that looks away."""

    def started(self, *arguments: Any) -> None: ...

    def looked(self, *arguments: Any) -> None: ...

    def ended(self, *arguments: Any) -> None: ...


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """A machine with two GPUs and 16 cores."""
    made = FakeDriver(tmp_path / "bin")
    made.folder.mkdir()
    made.write(gpus=2)
    monkeypatch.setenv("PATH", made.path)
    for name in ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(local, "available_cores", lambda: 16)
    return made


@pytest.fixture
def trials(tmp_path: Path) -> list[Trial]:
    return trials_of(tmp_path)


@pytest.fixture
def planned(tmp_path: Path, trials: list[Trial]) -> list[Planned]:
    """A trial of sgd and one of delta-gclip."""
    return look_up(trials, tmp_path / "runs")


def runner(**options: Any) -> LocalRunner:
    return LocalRunner(Path("nowhere"), lambda: False, **options)


@pytest.mark.parametrize(("each", "has_mps"), [(1, False), (2, True)])
def test_the_workers_of_a_shared_gpu_know_the_daemon_that_began_before_them(
    each: int,
    has_mps: bool,
    driver: FakeDriver,
    planned: list[Planned],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[dict[str, str], list[str]]] = []

    def start(self: ForkServer, words: Any, log: Path, environment: dict[str, str]) -> Done:
        seen.append((environment, driver.asked))
        return Done(ExitCode.STOPPED)

    monkeypatch.setattr(ForkServer, "start", start)
    runner(gpus="0", trials_per_gpu=each).run(PlannedQueue(planned), Unseen())  # type: ignore[arg-type]
    assert len(seen) == 2
    for environment, asked in seen:
        assert ("CUDA_MPS_PIPE_DIRECTORY" in environment) == has_mps
        assert ("get_server_list" in asked) == has_mps and "quit" not in asked
    assert (driver.asked[-1:] == ["quit"]) == has_mps


def test_a_worker_has_what_it_is_given_in_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(forkserver, "_become_independent", lambda: None)
    monkeypatch.setattr(forkserver, "_redirect_output", lambda log: None)
    monkeypatch.setattr("setproctitle.setproctitle", lambda title: None)
    monkeypatch.setattr("sys.argv", [])
    monkeypatch.setenv("GIVEN", "before")
    monkeypatch.setattr("runpy.run_module", lambda *a, **b: seen.append(os.environ["GIVEN"]))
    forkserver._run_command(["list"], str(tmp_path / "log.txt"), {"GIVEN": "by the sweep"})
    assert seen == ["by the sweep"]


@pytest.mark.parametrize(
    ("needed", "free", "trials"),
    [(2 * GB, 80 * GB, 32), (100 * GB, 80 * GB, 1), (9 * GB, 20 * GB, 1), (9 * GB, 22 * GB, 2)],
)
def test_trials_fit_with_a_tenth_to_spare_for_each_and_for_all(
    needed: int, free: int, trials: int
) -> None:
    assert Memory(needed, free).trials == trials


@pytest.mark.parametrize(
    ("memory", "count", "cores", "slots"),
    [
        (Memory(GB, 80 * GB), 40, 16, 8),  # as many as cores
        (Memory(GB, 80 * GB), 3, 16, 2),  # as many as trials
        (Memory(20 * GB, 80 * GB), 40, 16, 3),  # as have room
        (Memory(GB, 80 * GB), 400, 4000, 48),  # as MPS can serve
        (UsageError("no room"), 40, 16, 1),
        (None, 40, 16, 1),  # asked to stop
    ],
)
def test_a_gpu_gets_as_many_trials_as_it_has_room_for(
    memory: Memory | UsageError | None,
    count: int,
    cores: int,
    slots: int,
    driver: FakeDriver,
    trials: list[Trial],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def call(self: LocalRunner, function: Any, *arguments: Any, **options: Any) -> Any:
        if function is not measure:
            return None
        assert arguments[2] == ["cuda:0", "cuda:1"]
        if isinstance(memory, UsageError):
            raise memory
        return memory

    monkeypatch.setattr(local, "available_cores", lambda: cores)
    monkeypatch.setattr(LocalRunner, "call", call)
    made = runner(trials_per_gpu=None)
    assert [slot.device for slot in made.slots] == ["cuda:0", "cuda:1"]
    made.prepare((trials * count)[:count])
    assert len(made.slots) == 2 * slots
    assert [slot.device for slot in made.slots[:2]] == ["cuda:0", "cuda:1"]


def test_without_a_gpu_auto_leaves_trials_to_the_cores(
    trials: list[Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(LocalRunner, "call", lambda *arguments, **options: None)
    made = runner(trials_per_gpu=None)
    before = made.slots
    made.prepare(trials)
    assert made.slots == before and {slot.device for slot in before} == {"cpu"}


@pytest.mark.parametrize("written", ["many", "0", "-1", "1.5", "", "²"])
def test_a_wrong_number_of_trials_is_refused(written: str) -> None:
    done = CliRunner().invoke(app, ["sweep", "quickstart", "--trials-per-gpu", written])
    assert done.exit_code == ExitCode.USAGE
    assert "expected auto, or a number from 1" in done.output


def test_each_kind_of_trial_is_tried_and_seeds_are_not(trials: list[Trial]) -> None:
    others = [each.model_copy(update={"seed": 7}) for each in trials]
    assert len(trials) == 2
    assert {each.optimizer.name for each in kinds([*trials, *others])} == {"sgd", "delta_gclip"}
    assert len(kinds([*trials, *others])) == 2


def test_the_measurement_trains_and_evaluates(trials: list[Trial], tmp_path: Path) -> None:
    for each in trials:
        train_a_little(each.model_copy(update={"ema": 0.9}), tmp_path, CPU)


@pytest.mark.slow
def test_the_largest_trial_counts_with_what_a_process_takes_besides(
    trials: list[Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks = iter([3 * GB, 2 * GB])
    cuda = torch.cuda
    monkeypatch.setattr(capacity, "train_a_little", lambda *arguments: None)
    monkeypatch.setattr(cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(cuda, "max_memory_reserved", lambda device: next(peaks))
    monkeypatch.setattr(cuda, "memory_reserved", lambda device: 0)
    free = {"cuda:0": 79 * GB, "cuda:1": 60 * GB}
    monkeypatch.setattr(cuda, "mem_get_info", lambda device: (free[str(device)], 80 * GB))
    assert measure(trials, Path("nowhere"), ["cuda:0"]) == Memory(4 * GB, 80 * GB)
    peaks = iter([GB, GB])
    assert measure(trials, Path("nowhere"), ["cuda:0", "cuda:1"]).free == 60 * GB


LOST = [
    "CUDA error: uncorrectable ECC error encountered",
    "CUDA error: no CUDA-capable device is detected",
    "CUDA error: all CUDA-capable devices are busy or unavailable",
    "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
    "CUDA error: MPS client has been terminated by the server",
    "CUDA error: unknown error\nCUDA kernel errors might be asynchronously reported",
    "CUDA unknown error - this may be due to an incorrectly set up environment",
]
FAULTS = [
    "CUDA error: device-side assert triggered",
    "CUDA error: an illegal memory access was encountered",
    "CUDA out of memory",
    "unknown error",
]


def test_a_lost_gpu_is_known_from_a_faulty_kernel() -> None:
    assert all(worker.is_device_lost(RuntimeError(each)) for each in LOST)
    assert not any(worker.is_device_lost(RuntimeError(each)) for each in FAULTS)


@pytest.mark.parametrize("place", ["assemble", "Trainer.train"])
def test_a_trial_whose_gpu_is_lost_is_interrupted_and_goes_on(
    place: str, planned: list[Planned], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deltagclip_cli.training.process import StopRequest

    def lost(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError(LOST[0])

    def work() -> ExitCode:
        return worker.work(planned[0].folder, data_dir=tmp_path, device="cpu", stop=StopRequest())

    with hold(planned[0].folder, make=True) as held:
        held.keep(planned[0].trial)
    with monkeypatch.context() as patched:
        patched.setattr(f"deltagclip_cli.training.worker.{place}", lost)
        with pytest.raises(LostDeviceError, match="The same command continues") as raised:
            work()
    assert raised.value.exit_code == ExitCode.STOPPED
    folder = planned[0].folder
    assert folder.state is State.INTERRUPTED and "the GPU is lost" in folder.reason
    assert work() is ExitCode.OK and folder.state is State.FINISHED


class Losing:
    """Workers of which those on one device lose it."""

    def __init__(self, device: str, slots: Sequence[Slot], planned: Sequence[Planned]) -> None:
        self.started: list[str] = []
        self.asked: list[str] = []
        self._device = device
        supervisor = Supervisor(
            PlannedQueue(planned),
            slots,
            self._start,  # type: ignore[arg-type]
            Unseen(),  # type: ignore[arg-type]
            lambda: False,
            fail_fast=False,
            answers=self._answers,
        )
        supervisor.run()

    def _start(self, unit: Any, slot: Slot) -> Done:
        self.started.append(slot.device)
        if slot.device == self._device:
            with hold(unit[0].folder) as held:
                held.record_stop("the GPU is lost: CUDA error")
        return Done(ExitCode.STOPPED)

    def _answers(self, slot: Slot) -> bool:
        self.asked.append(slot.device)
        return False


def test_a_gpu_that_does_not_answer_is_not_used_again(
    planned: list[Planned], caplog: pytest.LogCaptureFixture
) -> None:
    slots = [Slot("a", "cuda:0"), Slot("b", "cuda:0")]
    losing = Losing("cuda:0", slots, planned[:1])
    assert (losing.started, losing.asked) == (["cuda:0"], ["cuda:0"])
    assert "cuda:0 does not answer" in caplog.text


def test_without_a_gpu_that_answers_a_sweep_ends(
    planned: list[Planned], caplog: pytest.LogCaptureFixture
) -> None:
    losing = Losing("cuda:0", [Slot("a", "cuda:0")], planned)
    assert losing.started == ["cuda:0"]
    assert "No GPU is left" in caplog.text
    assert planned[1].folder.state is State.NEW


def test_other_gpus_go_on(planned: list[Planned]) -> None:
    losing = Losing("cuda:0", [Slot("a", "cuda:0"), Slot("b", "cuda:1")], planned)
    assert sorted(losing.started) == ["cuda:0", "cuda:1"]
    assert losing.asked == ["cuda:0"]


def test_a_device_is_asked_by_computing_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIVEN", "before")
    assert local._compute("cpu", {"GIVEN": "by the sweep"})
    assert os.environ["GIVEN"] == "by the sweep"


@pytest.mark.slow
def test_a_device_that_computes_answers_and_one_that_is_not_there_does_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = runner()
    made._environment = {}
    with caplog.at_level(logging.CRITICAL):
        assert made._answers(Slot("a", "cpu"))
        assert not made._answers(Slot("b", "cuda:99"))
