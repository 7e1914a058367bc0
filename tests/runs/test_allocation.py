"""The nodes of a job: programs on the others, and jobs that have too few of them."""

from __future__ import annotations

import pytest

from deltagclip_cli.core import DeviceError
from deltagclip_cli.runs.allocation import allocation_for

JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "3", "SLURMD_NODENAME": "n2"}


def test_a_command_starts_once_on_each_other_node(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**JOB, "SLURM_CPUS_PER_TASK": "4"}.items():
        monkeypatch.setenv(name, value)
    words = allocation_for(3).on_others(3, ["python", "-m", "x"])
    assert words[0] == "srun" and words[-3:] == ["python", "-m", "x"]
    assert {"--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--exclude=n2"} < set(words)
    assert {"--overlap", "--kill-on-bad-exit=1", "--input=none", "--label"} < set(words)
    assert "--cpus-per-task=4" in words, "else srun would take one"


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("SLURM_JOB_ID", "in no job of Slurm.*\n.*--launcher slurm"),
        ("SLURMD_NODENAME", "none of the nodes of job 7.*\n.*srun --jobid=7"),
        ("SLURM_JOB_NUM_NODES", "no number of nodes.*\n.*--nodes=4"),
        ("", "job 7 has 3 nodes.*\n.*--nodes=4"),
    ],
)
def test_a_trial_on_more_nodes_than_there_are_is_told_the_way(
    monkeypatch: pytest.MonkeyPatch, missing: str, said: str
) -> None:
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(missing, raising=False)
    with pytest.raises(DeviceError, match=f"nodes: 4: .*{said}"):
        allocation_for(4)
