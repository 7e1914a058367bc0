"""A search with Optuna's TPE, whose next draw follows from what has ended; on one machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from deltagclip_cli.core import ExitCode, UsageError, check_writable, claimed, plural
from deltagclip_cli.launch.launcher import StayingLauncher
from deltagclip_cli.plan.estimates import Estimates
from deltagclip_cli.runs.folder import SEARCH_JOURNAL
from deltagclip_cli.search.leaderboard import read_leaderboard
from deltagclip_cli.search.session import SearchSession

if TYPE_CHECKING:
    from deltagclip_cli.search.searched import SearchedOptimizer

LOCK = ".search.lock"
_ALONE = (
    "stack: with sampler: tpe each trial is alone in its stack, for what is next follows from what "
    "has ended.\n  Without stack it takes less time."
)


class TpeSearch(SearchSession):
    """A search whose record is a journal of Optuna's, which one process at a time writes."""

    def show(self) -> int:
        _require_optuna()
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
        sweep = self._staying
        _require_optuna()
        from deltagclip_cli.search.tpe_queue import SearchQueue
        from deltagclip_cli.search.tpe_study import Study

        slots = len(sweep.runner.slots)
        with self._claimed():
            studies = [Study(each, self._journal(each)) for each in self.optimizers]
            queue = SearchQueue(studies, sweep.request.runs, self.budget, slots)
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

    @property
    def _staying(self) -> StayingLauncher:
        if not isinstance(self.sweep, StayingLauncher):
            raise UsageError(
                "--search: with sampler: tpe, what is tried next follows from what has ended, so "
                "nothing can be\n  submitted beforehand. Leave sampler out, or run the search "
                "within a job of your own."
            )
        return self.sweep

    def _journal(self, searched: SearchedOptimizer) -> Path:
        return self.sweep.request.runs / searched.name / SEARCH_JOURNAL

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        with ExitStack() as claims:
            for name in self.experiments:
                folder = self.sweep.request.runs / name
                message = (
                    f"{folder}: another process searches this experiment.\n"
                    "  Wait until it has ended, or stop it: the search can be continued."
                )
                check_writable(folder)
                claims.enter_context(claimed(folder / LOCK, message))
            yield


def _require_optuna() -> None:
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"--search: Optuna, which sampler: tpe is from, cannot be loaded ({error}).\n"
            "  Install it: pip install 'deltagclip_cli[search]', or leave sampler out."
        ) from None
