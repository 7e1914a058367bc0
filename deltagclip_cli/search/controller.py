"""The controller of a search with Optuna's TPE whose workers are jobs.

It is a search as on one machine, whose trials are handed out instead of run; its record is Optuna's
journal, which nobody else writes.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from deltagclip_cli.core import ExitCode
from deltagclip_cli.launch.launcher import StayingLauncher, SweepRequest
from deltagclip_cli.launch.sweep_view import PlainView
from deltagclip_cli.runs.hold import current_job
from deltagclip_cli.search.searched import find_searched
from deltagclip_cli.search.tpe_search import TpeSearch
from deltagclip_cli.slurm.client import SlurmError, is_preempted, requeue
from deltagclip_cli.slurm.handed import Handed, HandingRunner
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.terminal.console import make_console, shown_messages

if TYPE_CHECKING:
    from deltagclip_cli.launch.supervisor import Queue
    from deltagclip_cli.plan.estimates import Estimates
    from deltagclip_cli.plan.planned import Planned
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.training.process import StopRequest


class HandingLauncher(StayingLauncher):
    """Hands trials out to workers elsewhere, and stays until they have ended.

    Args:
        workers: how many trials run at a time.
        stop: listens to signals.
    """

    def __init__(
        self, request: SweepRequest, experiment: str, workers: int, stop: StopRequest
    ) -> None:
        super().__init__(request)
        self.stop = stop
        self._experiment, self._workers = experiment, workers

    @cached_property
    def runner(self) -> HandingRunner:
        handed = Handed(self.request.runs, self._experiment)
        return HandingRunner(handed, self._workers, self.stop)

    def launch(
        self,
        queue: Queue,
        trials: Sequence[Trial],
        estimates: Estimates,
        tried: Iterable[Trial] = (),
        may_stack: Sequence[Planned] = (),
    ) -> None:
        """Hand out what a queue says; its parts were tried when the search was submitted."""
        with shown_messages(self.request.console, quiet=False):
            self.runner.run(queue, PlainView(self.request.console, len(trials)))


def run_controller(
    experiment: str,
    *,
    budget: int,
    workers: int,
    labels: Sequence[str],
    seeds: Sequence[int],
    spec: Path,
    sets: Sequence[str],
    runs: Path,
    data: Path,
    stop: StopRequest,
) -> int:
    """Hand out a search until it is over or the job's time is up; return the exit code."""
    read = load_spec(spec, [experiment], sets, (), runs)
    request = SweepRequest(spec=read, runs=runs, data=data, console=make_console())
    launcher = HandingLauncher(request, experiment, workers, stop)
    searched = find_searched(read.experiments, named=True, labels=labels, seeds=seeds)
    search = TpeSearch(launcher, searched, budget, hands_out=True)
    code = search.run()
    if not stop() and code != ExitCode.STOPPED:
        Handed(runs, experiment).close()  # also where there was nothing left from the beginning
    if stop.signals == {signal.SIGUSR1} and (job := current_job()):
        try:
            if not is_preempted(job):
                requeue(job)
                launcher.say("The time is up: back into the queue.")
        except SlurmError as error:
            launcher.say(f"Not requeued: {error}\n  The same command goes on.")
    return code
