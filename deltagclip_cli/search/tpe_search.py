"""A search with Optuna's TPE, whose next draw follows from what has ended; on one machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deltagclip_cli.core import ExitCode, UsageError, check_writable, claimed, plural
from deltagclip_cli.launch.launcher import StayingLauncher
from deltagclip_cli.plan.estimates import Estimates
from deltagclip_cli.runs.folder import SEARCH_JOURNAL
from deltagclip_cli.search.leaderboard import read_leaderboard
from deltagclip_cli.search.session import SearchSession
from deltagclip_cli.slurm.submit import SlurmLauncher
from deltagclip_cli.slurm.workers import submit_workers, workers_of

if TYPE_CHECKING:
    from deltagclip_cli.search.searched import SearchedOptimizer

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
        if self.sweep.request.as_json:
            self.print_as_json(
                {
                    "space": searched.premises["space"],
                    "tried": [asdict(each) for each in tried],
                }
                for searched, tried in rows
            )
        else:
            self.print_spaces(rows)
        return ExitCode.OK

    def run(self) -> int:
        sweep = self.sweep
        _require_optuna()
        if isinstance(sweep, SlurmLauncher):
            return self._submit(sweep, dry_run=False)
        assert isinstance(sweep, StayingLauncher), "there are no others"
        from deltagclip_cli.search.tpe_queue import SearchQueue
        from deltagclip_cli.search.tpe_study import Study

        slots = len(sweep.runner.slots)
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
                sweep.say(f"at most {plural(len(most), 'trial')} on {plural(slots, 'slot')}")
                if any(each.stack for each in most):
                    sweep.say(_ALONE)
                tried = [trial for each in self.optimizers for trial in each.extremes()]
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
