"""What jobs of trials on several devices ask for, and what contradicts it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from slurm_fakes import is_shell
from tiny_spec import TINY, trials_of, write_spec

from deltagclip_cli.core import SpecError
from deltagclip_cli.launch import local
from deltagclip_cli.launch.launcher import SweepRequest
from deltagclip_cli.launch.local import LocalRunner
from deltagclip_cli.plan.planned import Planned, look_up
from deltagclip_cli.runs.folder import State
from deltagclip_cli.runs.hold import HeldFolder, create
from deltagclip_cli.slurm import task
from deltagclip_cli.slurm.array import Array, Head, ListedTrial
from deltagclip_cli.slurm.submit import Batch, SlurmLauncher
from deltagclip_cli.slurm.task import JobSession
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import expand
from deltagclip_cli.training.process import StopRequest

TWO_NODES = ("devices=2", "nodes=2")
GPUS = "tiny › sgd: slurm.gpus is "


def launcher(
    folder: Path, *sets: str, slurm: str = "", asked: tuple[str, ...] = (), **more: Any
) -> SlurmLauncher:
    text = TINY + (f"    slurm: {{{slurm}}}\n" if slurm else "")
    spec = load_spec(write_spec(folder, text), ["tiny"], sets)
    runs, console = folder / "runs", Console()
    request = SweepRequest(spec=spec, runs=runs, data=folder, console=console, slurm=asked, **more)
    return SlurmLauncher(request)


def batches(submitting: SlurmLauncher) -> list[Batch]:
    (experiment,) = submitting.request.spec.experiments.values()
    trials = list(expand("tiny", experiment))
    return submitting.batches(look_up(trials, submitting.request.runs), 1001)


def script(folder: Path, *sets: str, **more: Any) -> list[str]:
    """Return the options for resources, and the command."""
    (batch,) = batches(launcher(folder, *sets, **more))
    assert is_shell(batch.script)
    keys = ("nodes", "ntasks-per-node", "cpus-per-task", "gres")
    lines = batch.script.splitlines()
    options = [line[10:] for line in lines if line.startswith("#SBATCH --")]
    return [each for each in options if each.startswith(keys)] + [
        word for word in lines[-1].split() if word.endswith("gpus")
    ]


def test_nodes_tasks_gpus_and_cpus_follow_from_the_devices(tmp_path: Path) -> None:
    tasks = "ntasks-per-node=1"
    assert script(tmp_path, "devices=4") == [
        "nodes=1",
        "cpus-per-task=4",
        "gres=gpu:4",
        tasks,
        "--gpus",
    ]
    assert script(tmp_path, *TWO_NODES, threads=3) == [
        "nodes=2", "cpus-per-task=6", "gres=gpu:2", tasks, "--gpus"
    ]  # fmt: skip
    assert script(tmp_path, "nodes=2")[:3] == ["nodes=2", "cpus-per-task=1", "gres=gpu:1"]
    assert script(tmp_path) == []


@pytest.mark.parametrize(
    ("slurm", "lines"),
    [
        ("gpus: 0", ["nodes=2", "cpus-per-task=2", "ntasks-per-node=1", "--no-gpus"]),
        ("gpus: 2, nodes: 2, cpus: 16", ["nodes=2", "cpus-per-task=16", "gres=gpu:2"]),
        ("gpus: a100", ["nodes=2", "cpus-per-task=2", "gres=gpu:a100:2"]),
        ("gpus: 'a100:2'", ["nodes=2", "cpus-per-task=2", "gres=gpu:a100:2"]),
        ("sbatch: ['--gres=tmp:5G']", ["nodes=2", "cpus-per-task=2", "gres=gpu:2,tmp:5G"]),
    ],
)
def test_what_is_written_and_fits_stays(slurm: str, lines: list[str], tmp_path: Path) -> None:
    assert script(tmp_path, *TWO_NODES, slurm=slurm)[: len(lines)] == lines


@pytest.mark.parametrize(
    ("slurm", "asked", "said", "hint"),
    [
        ("gpus: 4", (), f"spec.yaml:10:13: {GPUS}4, but", "leave slurm.gpus out, or write 2, or 0"),
        ("gpus: 'a100:1'", (), "a100:1, but the trial trains on devices: 2.", "or write a100:2"),
        ("nodes: 1", (), "slurm.nodes is 1, but the trial trains on nodes: 2.", "leave slurm.n"),
        ("gpus: 2", ("gpus=3",), f"--slurm gpus=3: {GPUS}3, but", ""),
        ("optimizers: {sgd: {gpus: 1}}", (), f"spec.yaml:10:32: {GPUS}1, but", ""),
        ("sbatch: [-n 2]", (), "has one task (got '-n 2')", "it follows from devices and nodes"),
        ("sbatch: ['--ntasks-per-node=2']", (), "one task (got '--ntasks-per-node=2')", "leave it"),
        ("local_data: $TMPDIR", (), "slurm.local_data is of one node", "leave it out"),
    ],
)  # fmt: skip
def test_what_contradicts_the_devices_is_refused_with_its_line(
    slurm: str, asked: tuple[str, ...], said: str, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError) as caught:
        batches(launcher(tmp_path, *TWO_NODES, slurm=slurm, asked=asked))
    first, second = str(caught.value).replace(f"{tmp_path}/", "").split("\n")
    assert said in first and hint in second


def test_nodes_for_a_trial_on_one_are_refused_and_its_gpus_are_its_own_affair(
    tmp_path: Path,
) -> None:
    assert script(tmp_path, slurm="gpus: 4") == ["gres=gpu:4", "--gpus"]
    with pytest.raises(SpecError, match=r"slurm.nodes is 2, but.*\n.*write nodes: 2 beside it"):
        batches(launcher(tmp_path, slurm="nodes: 2"))


# ---------------------------------------------------------------- in the job


@pytest.fixture
def planned(tmp_path: Path) -> list[Planned]:
    found = look_up(trials_of(tmp_path, "devices=2"), tmp_path / "runs")
    for each in found:
        create(each.folder, each.trial)
    return found


class Job:
    """A task of an array that is run with made-up GPUs, trials and commands of Slurm."""

    def __init__(self, folder: Path, planned: list[Planned], monkeypatch: Any) -> None:
        array = Array(folder / "runs" / ".slurm" / "now" / "tiny-0")
        trials = [ListedTrial(each.trial.folder, each.trial) for each in planned]
        array.write(Head("tiny", len(trials), 1.0, len(trials)), trials, "")
        self.runners: list[LocalRunner] = []
        self.requeued: list[str] = []
        self.reason = ""
        monkeypatch.setattr(LocalRunner, "prepare", lambda runner, trials: None)
        monkeypatch.setattr(LocalRunner, "run", lambda *run: self._run(*run))
        monkeypatch.setattr(task, "requeue", self.requeued.append)
        monkeypatch.setattr(task, "is_preempted", lambda job: False)
        self.console = Console(record=True, width=200, quiet=False)
        options = {"local_data": None, "threads": None, "console": self.console}
        stop, where = StopRequest(), {"data": folder, "job": "7_0", "task": 0, "array": array}
        self.session = JobSession(gpus=None, stop=stop, **options, **where)  # type: ignore[arg-type]
        self.stop = stop

    def _run(self, runner: LocalRunner, queue: Any, watcher: Any) -> None:
        self.runners.append(runner)
        while unit := queue.take():
            if self.reason:
                HeldFolder(unit[0].folder).record_stop(self.reason)


@pytest.fixture
def job(tmp_path: Path, planned: list[Planned], monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return Job(tmp_path, planned, monkeypatch)


def test_a_task_has_room_for_one_trial_on_several_devices_at_a_time(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.session.run()
    assert [slot.name for slot in job.runners[0].slots] == ["cpu 0", "cpu 1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    job.session.run()
    assert [slot.name for slot in job.runners[1].slots] == ["cuda:0", "cuda:1"]


def test_a_trial_with_more_devices_than_the_job_has_fails_in_words(
    job: Job, planned: list[Planned], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(local, "available_cores", lambda: 4)
    assert job.session.run() == 1
    assert [each.folder.state for each in planned] == [State.FAILED] * 2
    assert planned[0].folder.reason == "devices: 2: 1 GPU can be used here (cuda:0)."
    assert "slurm: {constraint: ...}" in planned[0].folder.error_file.read_text()


LOST = "a node is lost: rank 2 on n2 has not answered for 30 s"


def test_a_task_that_has_lost_a_node_comes_back(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    job.reason = LOST
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")
    assert job.session.run() == 75
    assert job.requeued == ["7_0"]
    assert "A node is lost: back into the queue." in job.console.export_text()


@pytest.mark.parametrize(
    ("reason", "restarts", "signalled"),
    [
        (LOST, "8", ()),
        ("killed by SIGKILL", "0", ()),
        (LOST, "0", (signal.SIGTERM,)),
    ],
)
def test_a_task_that_loses_nodes_for_ever_or_is_ended_does_not_come_back(
    job: Job,
    reason: str,
    restarts: str,
    signalled: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job.reason = reason
    monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
    job.stop.signals.update(signalled)
    assert job.session.run() == 75
    assert job.requeued == []
