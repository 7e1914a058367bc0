"""One ``sweep --search``: what is printed of it, and the exit code."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import ExitCode, UsageError, measured_on
from deltagclip_cli.search.leaderboard import Leaderboard, best_table, space_table, top_table
from deltagclip_cli.terminal.console import print_json
from deltagclip_cli.tuning.choice import DrawState

if TYPE_CHECKING:
    from deltagclip_cli.launch.launcher import Launcher
    from deltagclip_cli.search.searched import SearchedOptimizer, Tried


def make_search(
    sweep: Launcher, optimizers: Sequence[SearchedOptimizer], budget: int, *, same_code: bool
) -> SearchSession:
    """Return the search that the spec asks for.

    Args:
        budget: how many settings of each optimizer are tried, those of earlier searches included.
        same_code: whether the caller vouches for an edit of the code of parts.
    """
    by_tpe = {each.name: each.search.sampler == "tpe" for each in optimizers}
    if len({*by_tpe.values()}) > 1:
        ours = [name for name in by_tpe if by_tpe[name]]
        others = [name for name in by_tpe if not by_tpe[name]]
        raise UsageError(
            f"--search: sampler: tpe, as {', '.join(ours)} says, is no plan beforehand, as that of "
            f"{', '.join(others)} is.\n  Search these experiments with a command each."
        )
    if any(by_tpe.values()):
        from deltagclip_cli.search.tpe_search import TpeSearch

        if same_code:
            raise UsageError(
                "--same-code: a search with sampler: tpe goes on with the code that it began with."
                "\n  Undo the edit, or move the experiment's search.journal away to search anew."
            )
        _check_once(sweep, "the experiment's search.journal")
        return TpeSearch(sweep, optimizers, budget)
    from deltagclip_cli.search.drawn_search import DrawnSearch

    if any(each.search.pruner == "halving" for each in optimizers):
        _check_once(sweep, "those of all settings, for its end decides which of them go on")
    return DrawnSearch(sweep, optimizers, budget)


def _check_once(sweep: Launcher, others: str) -> None:
    """Refuse to run trials again on whose ends others hang."""
    asked = sweep.request
    if asked.retry_failed or asked.force:
        raise UsageError(
            f"--{'retry-failed' if asked.retry_failed else 'force'}: such a search runs no trial "
            f"twice.\n  To run one again, delete its run folder and {others}."
        )


@dataclass(frozen=True)
class SearchSession(ABC):
    """A search, and how it is shown."""

    sweep: Launcher
    optimizers: Sequence[SearchedOptimizer]
    budget: int

    @abstractmethod
    def show(self) -> int:
        """Print what would be run, start nothing, and return the exit code."""

    @abstractmethod
    def run(self) -> int:
        """Search, and return the exit code."""

    @property
    def experiments(self) -> list[str]:
        """The names of the experiments that are searched."""
        return list(dict.fromkeys(each.name for each in self.optimizers))

    def print_spaces(self, rows: Sequence[tuple[SearchedOptimizer, Sequence[Tried]]]) -> None:
        """Print the space of each optimizer, and how many settings there are of it."""
        for name in self.experiments:
            of_this = [row for row in rows if row[0].name == name]
            self.sweep.request.console.print(space_table(name, of_this, self.budget))

    def exit_code(self, boards: Sequence[Leaderboard]) -> int:
        """Return what the search has come to."""
        if self.sweep.stop():
            return self.sweep.stop.exit_code
        if any(each.counts[DrawState.FAILED] for each in boards):
            return ExitCode.FAILED
        if self._left(boards):
            return ExitCode.STOPPED
        return ExitCode.OK if all(each.ranking for each in boards) else ExitCode.FAILED

    def is_over(self, boards: Sequence[Leaderboard]) -> bool:
        """Return whether all settings are drawn and at their end."""
        return not self._left(boards)

    def _left(self, boards: Sequence[Leaderboard]) -> int:
        """The number of settings that are not drawn yet or not at their end."""
        return sum(
            each.counts[DrawState.OPEN] + max(0, self.budget - len(each.settings))
            for each in boards
        )

    def print_boards(self, boards: Sequence[Leaderboard]) -> None:
        """Print the best settings, and what can be done with them."""
        if self.sweep.request.as_json:
            self.print_as_json(each.as_data() for each in boards)
        if self.sweep.request.as_json or self.sweep.request.quiet:
            return
        for name in self.experiments:
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

    def print_as_json(self, answers: Iterable[dict[str, Any]]) -> None:
        """Print what is known of each optimizer, for programs."""
        heads = [
            {
                "experiment": each.name,
                "optimizer": each.label,
                "sampler": each.search.sampler,
                "metric": each.search.metric,
                "direction": each.search.direction,
                "chosen_on": measured_on(each.search.metric),
                "settings": self.budget,
            }
            for each in self.optimizers
        ]
        searches = [head | answer for head, answer in zip(heads, answers, strict=True)]
        print_json({"searches": searches})
