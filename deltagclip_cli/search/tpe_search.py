"""A search with Optuna's TPE, whose next draw follows from what has ended.

Where its workers are jobs, a job of its own is their controller: it searches as on one machine, but
its trials are handed out instead of run. Nobody else writes Optuna's journal, the record of all.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from deltagclip_cli.core import ExitCode, UsageError, check_writable, claimed, plural
from deltagclip_cli.launch.launcher import StayingLauncher, SweepRequest
from deltagclip_cli.launch.sweep_view import PlainView
from deltagclip_cli.plan.estimates import Estimates
from deltagclip_cli.runs.folder import SEARCH_JOURNAL
from deltagclip_cli.runs.hold import current_job
from deltagclip_cli.search.searched import find_searched
from deltagclip_cli.search.session import SearchSession, read_leaderboard
from deltagclip_cli.slurm.client import SlurmError, is_preempted, requeue
from deltagclip_cli.slurm.handed import Handed, HandingRunner
from deltagclip_cli.slurm.submit import SlurmLauncher
from deltagclip_cli.slurm.workers import submit_workers, workers_of
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.terminal.console import make_console
from deltagclip_cli.terminal.messages import shown_messages

if TYPE_CHECKING:
    from deltagclip_cli.launch.supervisor import Queue
    from deltagclip_cli.plan.planned import Planned
    from deltagclip_cli.search.searched import SearchedOptimizer
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.training.process import StopRequest


LOCK = ".search.lock"
_PATIENCE_SECONDS = 120.0
_ALONE = (
    "stack: with sampler: tpe each trial is alone in its stack, for what is next follows from what "
    "has ended.\n  Without stack it takes less time."
)


@dataclass(frozen=True)
class TpeSearch(SearchSession):
    """A search whose record is a journal of Optuna's, which one process at a time writes.

    Args:
        hands_out: whether its trials are run by workers that outlive this process. Then those that
            they work on are handed out again, and an earlier self that ends is waited for.
    """

    hands_out: bool = False

    def show(self) -> int:
        _require_optuna()
        if isinstance(self.sweep, SlurmLauncher):
            return self._submit(self.sweep, dry_run=True)
        from deltagclip_cli.search.tpe_study import read_tried

        rows = [(each, read_tried(each, self._journal(each))) for each in self.optimizers]
        self.print_spaces(rows)
        return ExitCode.OK

    def run(self) -> int:
        sweep = self.sweep
        _require_optuna()
        if isinstance(sweep, SlurmLauncher):
            return self._submit(sweep, dry_run=False)
        assert isinstance(sweep, StayingLauncher), "there are no others"
        from deltagclip_cli.launch.slots import slots_taken
        from deltagclip_cli.search.tpe_queue import SearchQueue
        from deltagclip_cli.search.tpe_study import Study

        tried = [trial for each in self.optimizers for trial in each.extremes()]
        there = sweep.runner.slots
        slots = max(1, len(there) // min(slots_taken(each, there) for each in tried))
        with self._claimed():
            studies = [Study(each, self._journal(each)) for each in self.optimizers]
            queue = SearchQueue(
                *(studies, sweep.request.runs, self.budget, slots), hands_out=self.hands_out
            )
            if not queue.is_over():
                most = queue.most_trials()
                for study in studies:
                    ended = f"{study.ended} of {plural(self.budget, 'setting')} ended"
                    sweep.say(f"{study.searched.name} · {study.searched.label}: {ended}")
                sweep.say(f"at most {plural(len(most), 'trial')} on {plural(len(there), 'slot')}")
                if any(each.stack for each in most):
                    sweep.say(_ALONE)
                sweep.launch(queue, most, Estimates(), tried)
            boards = [
                read_leaderboard(each.searched, each.tried(), sweep.request.runs)
                for each in studies
            ]
        self.print_boards(boards)
        return self.exit_code(boards)

    def _submit(self, sweep: SlurmLauncher, *, dry_run: bool) -> int:
        """Submit a controller and workers unless all has ended; return the exit code."""
        from deltagclip_cli.search.tpe_study import read_tried

        tried = [read_tried(each, self._journal(each)) for each in self.optimizers]
        runs = sweep.request.runs
        pairs = zip(self.optimizers, tried, strict=True)
        boards = [read_leaderboard(each, some, runs) for each, some in pairs]
        if self.is_over(boards):
            if not dry_run:
                self.print_boards(boards)
            return self.exit_code(boards)
        if len(self.experiments) > 1:
            raise UsageError(
                "--search: with sampler: tpe, each experiment has a controller of its own.\n"
                f"  Submit them with a command each: {', '.join(self.experiments)}"
            )
        first = self.optimizers[0]
        (like, *_) = first.trials({})
        workers = workers_of(sweep, like, self.budget * len(self.optimizers))
        words = ["controller", first.name, "--search", str(self.budget), "--workers", str(workers)]
        words += [word for each in self.optimizers for word in ("--optimizer", each.label)]
        words += [word for seed in first.seeds for word in ("--seed", str(seed))]
        words += [*sweep.request.words, "--data", str(sweep.request.data.absolute())]
        code = submit_workers(sweep, like, workers, words, dry_run=dry_run)
        if any(each.ranking for each in boards) and not (sweep.request.as_json or dry_run):
            self.print_boards(boards)
        return code

    def _journal(self, searched: SearchedOptimizer) -> Path:
        return self.sweep.request.runs / searched.name / SEARCH_JOURNAL

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        patience = _PATIENCE_SECONDS if self.hands_out else 0.0
        with ExitStack() as claims:
            for name in self.experiments:
                folder = self.sweep.request.runs / name
                message = (
                    f"{folder}: another process searches this experiment.\n"
                    "  Wait until it has ended, or stop it: the search can be continued."
                )
                check_writable(folder)
                claims.enter_context(claimed(folder / LOCK, message, patience))
            yield


def _require_optuna() -> None:
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"--search: Optuna, which sampler: tpe is from, cannot be loaded ({error}).\n"
            "  Install it: pip install 'deltagclip_cli[search]', or leave sampler out."
        ) from None


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
