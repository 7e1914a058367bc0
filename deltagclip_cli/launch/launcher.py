"""What a launcher is, and what it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deltagclip_cli.launch.forkserver import Call
from deltagclip_cli.launch.queue import Queue
from deltagclip_cli.launch.slots import Slot
from deltagclip_cli.launch.supervisor import SweepWatcher
from deltagclip_cli.plan.planned import Planned
from deltagclip_cli.spec.trial import Inputs


@dataclass(frozen=True)
class Launch:
    """How trials are run.

    Args:
        data_dir: where data sets lie.
        should_stop: when it says yes, trials are stopped with a checkpoint.
        jobs: trials at a time on the CPU.
        gpus: ``all``, or numbers such as ``0,2``.
        trials_per_gpu: how many share a GPU.
        threads: of the CPU, for each trial; None for as many as usual.
        local_data: a folder of this machine that data are copied to first; workers read it there.
        fail_fast: stop after the first trial that does not finish.
        download: fetch data that are missing.
        work: runs a trial in this process until the function given to it says that the trial is to
            be given up, and returns the exit code.
    """

    data_dir: Path
    should_stop: Callable[[], bool]
    jobs: int | None = None
    gpus: str | None = None
    trials_per_gpu: int = 1
    threads: int | None = None
    local_data: Path | None = None
    fail_fast: bool = False
    download: bool = True
    work: Callable[[Planned, Callable[[], bool]], int] | None = None


class Launcher(Protocol):
    """Runs the trials of a queue somewhere."""

    def __init__(self, launch: Launch) -> None: ...

    @property
    def slots(self) -> Sequence[Slot]:
        """Where trials run.

        Raises:
            DeviceError: what was asked for is not there.
        """

    @property
    def call(self) -> Call | None:
        """Calls a function in a process that has loaded torch; None where this one has."""

    def prepare(self, inputs: Sequence[Inputs]) -> None:
        """Make these data sets ready, so that workers do not all download or decode them.

        Raises:
            UsageError: one is missing or broken.
        """

    def run(self, queue: Queue, watcher: SweepWatcher) -> None:
        """Run trials until there are none left, or until asked to stop."""
