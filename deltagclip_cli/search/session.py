"""One ``sweep --search``: what is run and printed, and the exit code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import ExitCode, UsageError, check_writable, claimed, plural
from deltagclip_cli.plan.estimates import Estimates
from deltagclip_cli.terminal.console import print_json

if TYPE_CHECKING:
    from deltagclip_cli.launch.launcher import StayingLauncher
    from deltagclip_cli.search.leaderboard import Leaderboard
    from deltagclip_cli.search.searched import SearchedOptimizer

JOURNAL = "search.journal"
LOCK = ".search.lock"
_ALONE = (
    "stack: a search runs each trial alone in its stack, for what is next follows from what has "
    "ended.\n  Without stack it takes less time."
)


@dataclass(frozen=True)
class SearchSession:
    """A search, and how it is shown."""

    sweep: StayingLauncher
    optimizers: Sequence[SearchedOptimizer]
    budget: int  # how many settings each is to be tried with, those of earlier searches included

    def show(self) -> int:
        """Print the spaces and how many settings were tried, start nothing; the exit code."""
        _require_optuna()
        from deltagclip_cli.search.leaderboard import space_table
        from deltagclip_cli.search.study import read_tried

        rows = [(each, read_tried(each, self._journal(each))) for each in self.optimizers]
        if self.sweep.request.as_json:
            self._print_json(
                {
                    "space": searched.premises["space"],
                    "tried": [asdict(each) for each in tried],
                }
                for searched, tried in rows
            )
            return ExitCode.OK
        for name in self._experiments:
            of_this = [row for row in rows if row[0].name == name]
            self.sweep.request.console.print(space_table(name, of_this, self.budget))
        return ExitCode.OK

    def run(self) -> int:
        """Search, and return the exit code."""
        _require_optuna()
        from deltagclip_cli.search.leaderboard import read_leaderboard
        from deltagclip_cli.search.search_queue import SearchQueue
        from deltagclip_cli.search.study import Study

        slots = len(self.sweep.runner.slots)
        with self._claimed():
            studies = [Study(each, self._journal(each)) for each in self.optimizers]
            queue = SearchQueue(studies, self.sweep.request.runs, self.budget, slots)
            if not queue.is_over():
                most = queue.most_trials()
                for study in studies:
                    ended = f"{study.ended} of {plural(self.budget, 'setting')} ended"
                    self.sweep.say(f"{study.searched.name} · {study.searched.label}: {ended}")
                self.sweep.say(f"at most {plural(len(most), 'trial')} on {plural(slots, 'slot')}")
                if any(each.stack for each in most):
                    self.sweep.say(_ALONE)
                tried = [trial for each in self.optimizers for trial in each.extremes()]
                self.sweep.launch(queue, most, Estimates(), tried)
            boards = [
                read_leaderboard(each.searched, each.tried(), self.sweep.request.runs)
                for each in studies
            ]
        self._print(boards)
        return self._exit_code(boards)

    @property
    def _experiments(self) -> list[str]:
        return list(dict.fromkeys(each.name for each in self.optimizers))

    def _journal(self, searched: SearchedOptimizer) -> Path:
        return self.sweep.request.runs / searched.name / JOURNAL

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        with ExitStack() as claims:
            for name in self._experiments:
                folder = self.sweep.request.runs / name
                message = (
                    f"{folder}: another process searches this experiment.\n"
                    "  Wait until it has ended, or stop it: the search can be continued."
                )
                check_writable(folder)
                claims.enter_context(claimed(folder / LOCK, message))
            yield

    def _exit_code(self, boards: Sequence[Leaderboard]) -> int:
        if self.sweep.stop():
            return self.sweep.stop.exit_code
        if any(each.counts["failed"] for each in boards) or not all(b.ranking for b in boards):
            return ExitCode.FAILED
        return ExitCode.STOPPED if self._left(boards) else ExitCode.OK

    def _left(self, boards: Sequence[Leaderboard]) -> int:
        """The number of settings that are not drawn yet or not at their end."""
        return sum(
            each.counts["not finished"] + max(0, self.budget - len(each.settings))
            for each in boards
        )

    def _print(self, boards: Sequence[Leaderboard]) -> None:
        from deltagclip_cli.search.leaderboard import best_table, top_table

        if self.sweep.request.as_json:
            self._print_json(each.as_data() for each in boards)
        if self.sweep.request.as_json or self.sweep.request.quiet:
            return
        for name in self._experiments:
            of_this = [each for each in boards if each.searched.name == name]
            ranked = [each for each in of_this if each.ranking]
            self.sweep.request.console.print(best_table(name, of_this))
            for each in ranked:
                self.sweep.request.console.print(top_table(each))
            for each in ranked:
                self.sweep.say(f"the best     {each.train_command(self.sweep.request.words)}")
            self.sweep.say(f"tensorboard  {self.sweep.command_for('tensorboard', [name])}")
            if left := self._left(of_this):
                self.sweep.say(f"not finished {left}: the same command goes on with them")

    def _print_json(self, answers: Iterable[dict[str, Any]]) -> None:
        heads = [
            {
                "experiment": each.name,
                "optimizer": each.label,
                "metric": each.search.metric,
                "direction": each.search.direction,
                "settings": self.budget,
            }
            for each in self.optimizers
        ]
        searches = [head | answer for head, answer in zip(heads, answers, strict=True)]
        print_json({"searches": searches})


def _require_optuna() -> None:
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"--search: Optuna, which chooses the settings, cannot be loaded ({error}).\n"
            "  Install it: pip install 'deltagclip_cli[search]'"
        ) from None
