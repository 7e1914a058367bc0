"""No workers: one trial after the other in this process, for debuggers and for profilers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

from deltagclip_cli.core import DeltaGClipError, ExitCode, UsageError
from deltagclip_cli.launch.launcher import Launch
from deltagclip_cli.launch.queue import Queue
from deltagclip_cli.launch.slots import Slot
from deltagclip_cli.launch.supervisor import Supervisor, SweepWatcher
from deltagclip_cli.plan.planned import Planned
from deltagclip_cli.spec.trial import Inputs


class Done:
    """A worker that has ended before it is looked at."""

    def __init__(self, exit_code: int, words: str = "") -> None:
        self.exit_code, self._words = exit_code, words
        self.pid = os.getpid()
        self.sentinel, end = os.pipe()
        os.close(end)  # so that the other end is ready at once

    def stop(self) -> None:
        """It has stopped."""

    def kill(self) -> None:
        """It has ended."""

    def forget(self) -> None:
        """Free what it holds."""
        os.close(self.sentinel)

    def last_words(self) -> str:
        """The message of the error that ended it."""
        return self._words


class InlineLauncher:
    """Runs the trials in this process; an error in one is recorded and the others go on."""

    def __init__(self, launch: Launch) -> None:
        if launch.jobs or launch.gpus or launch.trials_per_gpu > 1:
            raise UsageError(
                "--launcher inline: one trial at a time.\n"
                "  --jobs, --gpus and --trials-per-gpu are for --launcher local."
            )
        self._launch = launch
        self.slots: Sequence[Slot] = [Slot("here", "auto")]
        self.call = None

    def prepare(self, inputs: Sequence[Inputs]) -> None:
        """Load every data set once, so that what is missing is said before anything is begun."""
        from deltagclip_cli.training.loading import load_dataset

        where, download = self._launch.data_dir, self._launch.download
        for each in inputs:
            load_dataset(each.data, where, model=each.model, download=download)

    def run(self, queue: Queue, watcher: SweepWatcher) -> None:
        """Run every trial of the queue."""
        launch = self._launch
        start = partial(self._start, queue)
        fail_fast = launch.fail_fast
        Supervisor(queue, self.slots, start, watcher, launch.should_stop, fail_fast=fail_fast).run()

    def _start(self, queue: Queue, planned: Planned, slot: Slot) -> Done:
        assert self._launch.work is not None, "whoever wants this launcher says how to work"
        try:
            code = self._launch.work(planned, lambda: bool(queue.give_up(planned)))
        except DeltaGClipError as error:
            return Done(error.exit_code, str(error))
        except Exception as error:
            return Done(ExitCode.FAILED, f"{type(error).__name__}: {error}")
        return Done(code)
