"""The launcher that starts workers on this machine, one for each slot."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from deltagclip_cli.core import DeviceError, UsageError
from deltagclip_cli.launch.forkserver import Fork, ForkServer
from deltagclip_cli.launch.launcher import StayingLauncher
from deltagclip_cli.launch.slots import Slot, find_slots
from deltagclip_cli.launch.supervisor import Queue, Supervisor, SweepWatcher
from deltagclip_cli.plan.planned import Planned
from deltagclip_cli.runs.environment import THREADS
from deltagclip_cli.spec.schema import Data
from deltagclip_cli.spec.trial import Inputs

logger = logging.getLogger(__name__)


class LocalLauncher(StayingLauncher):
    """Runs each trial in a worker process of its own."""

    takes = StayingLauncher.takes | {"jobs", "gpus", "trials_per_gpu"}

    @cached_property
    def runner(self) -> LocalRunner:
        """Runs as many workers at a time as there are slots."""
        asked = self.request
        return LocalRunner(
            asked.data,
            self.stop,
            jobs=asked.jobs,
            gpus=asked.gpus,
            trials_per_gpu=asked.trials_per_gpu,
            threads=asked.threads,
            fail_fast=asked.fail_fast,
        )


@dataclass
class LocalRunner:
    """Runs each trial in a worker process of its own, as many at a time as there are slots.

    Args:
        should_stop: when it says yes, trials are stopped with a checkpoint.
        jobs, gpus, trials_per_gpu, threads: as :func:`find_slots` takes them.
        local_data: a folder of this machine that data are copied to first; workers read it there.
        fail_fast: stop after the first trial that does not finish.
    """

    data_dir: Path
    should_stop: Callable[[], bool]
    _: KW_ONLY
    jobs: int | None = None
    gpus: str | None = None
    trials_per_gpu: int = 1
    threads: int | None = None
    local_data: Path | None = None
    fail_fast: bool = False
    download: bool = True

    @cached_property
    def slots(self) -> Sequence[Slot]:
        """The GPUs, shares of them, or shares of the CPU."""
        threads = self.threads or THREADS
        return find_slots(self.jobs, self.gpus, self.trials_per_gpu, threads)

    @cached_property
    def _server(self) -> ForkServer:
        return ForkServer()

    @cached_property
    def _unseen_gpus(self) -> list[str]:
        """The GPUs of the slots, as long as torch was not asked whether it sees them."""
        return sorted({slot.device for slot in self.slots} - {"cpu"})

    def prepare(self, inputs: Sequence[Inputs]) -> None:
        """Load every data set once, which downloads, copies and decodes what is not there yet."""
        if self.local_data is not None:
            logger.info("copying data to %s", self.local_data)
            data = [each.data for each in inputs]
            self.call(_copy, data, self.data_dir, self.local_data)
        for each in inputs:
            self.call(_load, each, self._data_dir, self.download)

    @property
    def _data_dir(self) -> Path:
        return self.local_data or self.data_dir

    def call(
        self,
        function: Callable[..., Any],
        *arguments: object,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Any:
        """Call a function in a process that has loaded torch; None if asked to stop.

        Raises:
            UsageError: it failed.
            TrialError: it was killed, each time, or no process can be started.
        """
        asked = self.should_stop
        if asked():
            return None
        self._server.open()
        gpus, self._unseen_gpus = self._unseen_gpus, []
        if gpus:
            self._server.call(_check_gpus, gpus, should_stop=asked)
        return self._server.call(function, *arguments, should_stop=lambda: asked() or should_stop())

    def run(self, queue: Queue, watcher: SweepWatcher) -> None:
        """Run every trial of the queue."""
        stop, fail_fast = self.should_stop, self.fail_fast
        Supervisor(queue, self.slots, self._start, watcher, stop, fail_fast=fail_fast).run()

    def _start(self, planned: Planned, slot: Slot) -> Fork:
        folder = planned.folder
        path = str(folder.path)
        words = ["worker", f"./{path}" if path.startswith("-") else path]  # it is no option
        words += ["--data", str(self._data_dir), "--device", slot.device]
        words += ["--threads", str(self.threads)] if self.threads else []
        words += ["--force"] if planned.afresh else []
        words += [] if self.download else ["--no-download"]
        return self._server.start(words, folder.log_file)


def _check_gpus(gpus: Sequence[str]) -> None:
    """Ask torch, which may see fewer than the environment or the driver promise."""
    import torch

    there = torch.cuda.device_count()
    missing = [each for each in gpus if int(each.removeprefix("cuda:")) >= there]
    if missing:
        raise DeviceError(
            f"{', '.join(missing)}: torch {torch.__version__} sees {there} GPUs here.\n"
            "  Check CUDA_VISIBLE_DEVICES and which torch is installed, or use --jobs N."
        )


def _copy(data: Sequence[Data], source: Path, target: Path) -> None:
    from deltagclip_cli.parts.datasets.staging import copied

    copied(data, source, target)


def _load(inputs: Inputs, data_dir: Path, download: bool) -> None:
    from deltagclip_cli.training.assembly import load_dataset

    try:
        load_dataset(inputs.data, data_dir, model=inputs.model, download=download)
    except UsageError as error:
        raise UsageError(f"data {inputs.data.name}: {error}\n  Nothing was started.") from None
