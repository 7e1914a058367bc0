"""The launcher for debuggers and profilers: one unit after the other in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from deltagclip_cli.core import DeltaGClipError, ExitCode
from deltagclip_cli.launch.launcher import StayingLauncher, SweepRequest
from deltagclip_cli.launch.slots import Slot
from deltagclip_cli.launch.supervisor import Queue, Supervisor
from deltagclip_cli.spec.trial import distinct_inputs
from deltagclip_cli.terminal.console import print_summary, shown_progress

if TYPE_CHECKING:
    from deltagclip_cli.launch.sweep_view import QuietView
    from deltagclip_cli.plan.planned import Planned, Unit
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.training.process import StopRequest


class Done:
    """A worker that has ended before it is looked at."""

    def __init__(self, exit_code: int, words: str = "") -> None:
        self.exit_code, self._words = exit_code, words
        self.pid = os.getpid()
        self.sentinel, end = os.pipe()
        os.close(end)  # so that the other end is ready at once

    def stop(self) -> None: ...

    def kill(self) -> None: ...

    def forget(self) -> None:
        os.close(self.sentinel)

    def last_words(self) -> str:
        return self._words


class InlineLauncher(StayingLauncher):
    """Runs the trials in this process; an error in one is recorded and the others go on."""

    @cached_property
    def runner(self) -> InlineRunner:
        return InlineRunner(self.request, self.stop)


@dataclass
class InlineRunner:
    """Runs one trial, or one stack of trials, after the other in this process."""

    request: SweepRequest
    stop: StopRequest  # when it says yes, no more trials are started

    slots = (Slot("here", "auto"),)
    call = None

    def prepare(self, trials: Sequence[Trial]) -> None:
        """Load every data set once, so that what is missing is said before anything is begun."""
        from deltagclip_cli.training.loaded import load_dataset

        for each in distinct_inputs(trials):
            load_dataset(each.data, self.request.data, model=each.model)

    def run(self, queue: Queue, watcher: QuietView) -> None:

        def start(unit: Unit, slot: Slot) -> Done:
            try:
                return Done(self._work(unit, queue.give_up))
            except DeltaGClipError as error:
                return Done(error.exit_code, str(error))
            except Exception as error:
                return Done(ExitCode.FAILED, f"{type(error).__name__}: {error}")

        fail_fast = self.request.fail_fast
        Supervisor(queue, self.slots, start, watcher, self.stop, fail_fast=fail_fast).run()

    def _work(self, unit: Unit, give_up: Callable[[Planned], str]) -> int:
        asked, by_folder = self.request, {each.folder: each for each in unit}
        with shown_progress(asked.console, quiet=asked.quiet) as sinks:
            import deltagclip_cli.training.imported  # noqa: F401
            from deltagclip_cli.training.worker import work_together

            codes = work_together(
                list(by_folder),
                data_dir=asked.data,
                device="auto",
                threads=asked.threads,
                force=[each.folder for each in unit if each.afresh],
                part=unit[0].part,
                stop=self.stop,
                give_up=lambda folder: bool(give_up(by_folder[folder])),
                # One bar is enough: members of a stack are about equally far.
                sinks=lambda folder: sinks if folder == unit[0].folder else (),
            )
        for folder, planned in by_folder.items():
            result = folder.result()
            has_ended = codes.get(folder) in (ExitCode.OK, ExitCode.FAILED)
            if result is not None and has_ended and not asked.quiet:
                print_summary(asked.console, planned.trial, folder, result, asked.runs)
        return self.stop.exit_code if self.stop() else max(codes.values())
