"""Slots: which GPUs there are, how the CPU is divided, and what cannot be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from deltagclip_cli.core import DeviceError
from deltagclip_cli.launch import local
from deltagclip_cli.launch.local import available_cores, count_gpus, find_slots


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 16 cores."""
    monkeypatch.setattr(local, "available_cores", lambda: 16)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ``nvidia-smi`` of a machine with two GPUs, one of them divided."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\n"
        "echo 'GPU 0: NVIDIA A100 (UUID: GPU-1)'\n"
        "echo '  MIG 3g.20gb Device 0: (UUID: MIG-1)'\n"
        "echo 'GPU 1: NVIDIA A100 \udcae (UUID: GPU-2)'\n",
        errors="surrogateescape",  # a byte that is not UTF-8
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return program


@pytest.fixture
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def shown(jobs: int | None, gpus: str | None, each: int) -> list[tuple[str, str]]:
    return [(slot.name, slot.device) for slot in find_slots(jobs, gpus, each)]


@pytest.mark.usefixtures("cores", "no_gpus")
def test_as_many_trials_run_on_the_cpu_as_were_asked_for() -> None:
    assert shown(3, None, 1) == [("cpu 0", "cpu"), ("cpu 1", "cpu"), ("cpu 2", "cpu")]
    assert len(shown(40, None, 1)) == 40


@pytest.mark.parametrize(("threads", "count"), [(1, 8), (2, 8), (4, 4), (6, 2), (16, 1), (17, 1)])
@pytest.mark.usefixtures("cores", "no_gpus")
def test_without_a_gpu_there_are_as_many_slots_as_the_cores_have_threads_for_but_not_too_many(
    threads: int, count: int
) -> None:
    assert len(find_slots(None, None, 1, threads)) == count


@pytest.mark.usefixtures("cores", "driver")
def test_every_gpu_is_a_slot_or_as_many_as_are_asked_for() -> None:
    assert shown(None, None, 1) == [("cuda:0", "cuda:0"), ("cuda:1", "cuda:1")]
    assert shown(None, "all", 1) == shown(None, None, 1)
    assert shown(None, "1", 1) == [("cuda:1", "cuda:1")]
    assert shown(None, "1, 0,1", 1) == [("cuda:1", "cuda:1"), ("cuda:0", "cuda:0")]
    assert [name for name, _ in shown(None, None, 2)] == [
        "cuda:0 0",
        "cuda:1 0",
        "cuda:0 1",
        "cuda:1 1",
    ]


@pytest.mark.usefixtures("driver")
def test_jobs_are_on_the_cpu_although_there_are_gpus() -> None:
    assert {slot.device for slot in find_slots(3, None, 1)} == {"cpu"}


@pytest.mark.usefixtures("driver")
def test_visible_devices_are_those_that_the_environment_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert count_gpus() == 2
    for value, count in (
        ("1", 1),
        ("0,1,2", 3),
        ("", 0),
        ("-1", 0),
        ("0,-1,1", 1),
        ("NoDevFiles", 0),
        ("GPU-a,GPU-b", 2),
    ):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert count_gpus() == count


def test_where_no_program_tells_of_gpus_their_files_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(local, "DEVICES", tmp_path)
    assert count_gpus() == 0
    for name in ("nvidia0", "nvidia11", "nvidiactl", "nvidia-uvm", "nvidia0.old"):
        (tmp_path / name).touch()
    assert count_gpus() == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_as_many_gpus_are_counted_as_torch_sees() -> None:
    assert count_gpus() == torch.cuda.device_count()


@pytest.mark.parametrize("script", ["exit 9", "echo 'No devices were found'"])
def test_a_driver_that_does_not_answer_has_no_gpus(driver: Path, script: str) -> None:
    driver.write_text(f"#!/bin/sh\n{script}\n")
    assert count_gpus() == 0


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("gpus", "message"),
    [
        ("2", "GPUs visible here: 2"),
        ("0,7", "GPUs visible here: 2"),
        ("0-1", "expected 'all', or numbers such as 0,2"),
        ("", "expected 'all', or numbers such as 0,2"),
        ("-1", "expected 'all', or numbers such as 0,2"),
    ],
)
def test_gpus_that_are_not_there_are_refused(gpus: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        find_slots(None, gpus, 1)


@pytest.mark.usefixtures("no_gpus")
def test_asking_for_gpus_where_there_are_none_names_the_way_out() -> None:
    with pytest.raises(DeviceError, match="GPUs visible here: none") as caught:
        find_slots(None, "all", 1)
    assert "--jobs N" in str(caught.value)


@pytest.mark.parametrize(("gpus", "each"), [("all", 1), (None, 2)])
def test_cpu_and_gpus_are_not_mixed(gpus: str | None, each: int) -> None:
    with pytest.raises(DeviceError, match="not on both"):
        find_slots(2, gpus, each)


@pytest.mark.usefixtures("no_gpus")
def test_trials_cannot_share_a_gpu_that_is_not_there() -> None:
    with pytest.raises(DeviceError, match="GPUs visible here: none"):
        find_slots(None, None, 4)


def test_the_limits_of_a_container_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    limit = tmp_path / "cpu.max"
    monkeypatch.setattr(local, "CONTROL_GROUP_LIMIT", limit)
    for content, cores in (
        ("400000 100000", 4),
        ("max 100000", 64),
        ("50000 100000", 1),
        ("", 64),
    ):
        limit.write_text(content)
        assert available_cores() == cores
    limit.unlink()
    assert available_cores() == 64


@pytest.mark.parametrize(
    ("variables", "cores"),
    [
        ({}, 16),
        ({"SLURM_CPUS_PER_TASK": "4"}, 4),
        ({"SLURM_CPUS_ON_NODE": "6"}, 6),
        ({"SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "6"}, 4),
        ({"SLURM_CPUS_PER_TASK": "", "SLURM_CPUS_ON_NODE": "6"}, 6),
        ({"SLURM_CPUS_ON_NODE": "64"}, 16),
        ({"SLURM_CPUS_PER_TASK": "0"}, 16),
        ({"SLURM_CPUS_ON_NODE": "4(x2)"}, 16),
    ],
)
def test_a_batch_job_uses_no_more_cores_than_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    monkeypatch.setattr(local, "CONTROL_GROUP_LIMIT", tmp_path / "none")
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert available_cores() == cores
