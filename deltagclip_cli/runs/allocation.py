"""Several nodes of Slurm for one trial: which there are, and how programs start on the others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from deltagclip_cli.core import DeviceError, plural


@dataclass(frozen=True)
class Allocation:
    """The nodes that Slurm gave to the job of this process, which runs on ``node``."""

    job: str
    nodes: int
    node: str
    cpus: str = ""  # of each task; empty where Slurm was not asked for any number

    def on_others(self, nodes: int, command: Sequence[str]) -> list[str]:
        """Return the words that run a command once on each other node of a trial.

        They are those of a program that ends when the commands have ended, with the highest of
        their exit codes; when one fails, the others are killed. What they print it prints, the
        number of the node's task before each line. They have no input, the environment and the
        folder of this process, and of their nodes all CPUs and GPUs of the job.

        Args:
            nodes: of the trial, this one included.
        """
        others = str(nodes - 1)
        words = ["srun", f"--nodes={others}", f"--ntasks={others}", "--ntasks-per-node=1"]
        words += [f"--exclude={self.node}", "--overlap", "--kill-on-bad-exit=1", "--input=none"]
        words += ["--label", "--unbuffered", "--mpi=none", "--export=ALL"]
        # Since 22.05 srun takes the number no longer from the job.
        words += [f"--cpus-per-task={self.cpus}"] if self.cpus else []
        return [*words, *command]


def allocation_for(nodes: int) -> Allocation:
    """Find the allocation in which a trial trains on so many nodes.

    Raises:
        DeviceError: this process is in none, or on none of its nodes, or it has too few of them.
    """
    job, node = os.environ.get("SLURM_JOB_ID", ""), os.environ.get("SLURMD_NODENAME", "")
    there = os.environ.get("SLURM_JOB_NUM_NODES", "")
    if not job:
        raise DeviceError(
            f"nodes: {nodes}: this process is in no job of Slurm, so there is one node.\n"
            "  Submit the trial with sweep --launcher slurm, or write nodes: 1."
        )
    if not node:
        raise DeviceError(
            f"nodes: {nodes}: this machine is none of the nodes of job {job}.\n"
            f"  Start the command on one of them: srun --jobid={job} --nodes=1 --ntasks=1 --pty ..."
        )
    if not there.isdecimal() or int(there) < nodes:
        has = plural(int(there), "node") if there.isdecimal() else "no number of nodes"
        raise DeviceError(
            f"nodes: {nodes}: job {job} has {has}.\n"
            f"  Ask Slurm for --nodes={nodes}, or write fewer nodes into the spec."
        )
    return Allocation(job, int(there), node, os.environ.get("SLURM_CPUS_PER_TASK", ""))
