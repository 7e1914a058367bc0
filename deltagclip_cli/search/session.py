"""One ``sweep --search``: what it has come to, as tables and for programs, and the exit code."""

from __future__ import annotations

import json
import shlex
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from deltagclip_cli.core import ExitCode, UsageError, choice_notes, measured_on, with_error
from deltagclip_cli.plan.planned import Mean, Planned, look_up, mean
from deltagclip_cli.runs.folder import State
from deltagclip_cli.terminal.console import print_json, titled_table
from deltagclip_cli.tuning.stages import DrawState

if TYPE_CHECKING:
    from deltagclip_cli.launch.launcher import Launcher
    from deltagclip_cli.search.searched import SearchedOptimizer, Tried


BEST_SHOWN = 5
_CAUTION = "Values that chose a setting flatter it: confirm it on other seeds."


@dataclass(frozen=True)
class Placed:
    """A setting with what its run folders hold."""

    tried: Tried
    result: Mean | None  # the metric over seeds; None unless all are finished
    planned: Sequence[Planned]

    @property
    def is_begun(self) -> bool:
        """True if a worker was started for one of its trials."""
        return any(each.state is not State.NEW for each in self.planned)

    def as_data(self) -> dict[str, Any]:
        """For programs."""
        return {
            "number": self.tried.number,
            "options": self.tried.options,
            "outcome": self.tried.outcome,
            "mean": self.result.value if self.result else None,
            "standard_error": self.result.standard_error if self.result else None,
            "n": self.result.n if self.result else 0,
            "trials": [
                {
                    "folder": str(each.folder.path),
                    "seed": each.trial.seed,
                    "state": each.state,
                    "last": each.result["last"] if each.result else None,
                }
                for each in self.planned
            ],
        }


@dataclass(frozen=True)
class Leaderboard:
    """The settings of one optimizer, in the order in which they were drawn."""

    searched: SearchedOptimizer
    settings: Sequence[Placed]

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of settings in each state."""
        return Counter(str(each.tried.outcome) for each in self.settings)

    @cached_property
    def ranking(self) -> list[Placed]:
        """The settings whose seeds are all finished, the best first, each once.

        One that was given up may be drawn again, and finish.
        """
        once = {str(each.tried.options): each for each in reversed(self.settings) if each.result}
        ranked = [(each.result.value, each) for each in once.values() if each.result]
        sign = 1 if self.searched.minimizes else -1
        ranked.sort(key=lambda pair: (sign * pair[0], pair[1].tried.number))
        return [each for _, each in ranked]

    def train_command(self, options: Sequence[str]) -> str:
        """The command that runs the best setting, with all its digits."""
        searched = self.searched
        words = ["deltagclip", "train", searched.name, "--optimizer", searched.label]
        words += ["--seed", str(searched.seeds[0]), *options]
        for option, value in self.ranking[0].tried.options.items():
            text = json.dumps(value, ensure_ascii=False)
            words += ["--set", f"optimizers.{searched.label}.{option}={text}"]
        return shlex.join(words)

    def as_data(self) -> dict[str, Any]:
        """For programs."""
        return {
            "counts": {
                end: self.counts[end] for end in DrawState if end is not DrawState.UNMEASURED
            },
            "best": self.ranking[0].as_data() if self.ranking else None,
            "tried": [each.as_data() for each in self.settings],
        }


def read_leaderboard(
    searched: SearchedOptimizer, tried: Sequence[Tried], runs: Path
) -> Leaderboard:
    """Read the run folders of everything that was tried."""
    trials = [searched.trials(each.options) for each in tried]
    planned = iter(look_up([trial for each in trials for trial in each], runs))
    settings = []
    for each, seeds in zip(tried, trials, strict=True):
        there = [next(planned) for _ in seeds]
        ends = [
            seed.result["last"] for seed in there if seed.state is State.FINISHED and seed.result
        ]
        is_whole = each.outcome is DrawState.FINISHED and len(ends) == len(there)
        result = mean([end.get(searched.search.metric) for end in ends]) if is_whole else None
        settings.append(Placed(each, result, there))
    return Leaderboard(searched, settings)


def space_table(
    name: str, rows: Sequence[tuple[SearchedOptimizer, Sequence[Tried]]], budget: int
) -> Table:
    """The space of each optimizer, how many settings were tried, and how many are to be in all."""
    table = titled_table(f"{name}: {_aim(rows[0][0])}")
    for column in ("optimizer", "space", "seeds", "settings so far", "in all"):
        table.add_column(column, justify="left" if column in ("optimizer", "space") else "right")
    for searched, tried in rows:
        space = "\n".join(
            f"{option}: {word} {json.dumps(values, ensure_ascii=False, default=str)}"
            for option, written in searched.premises["space"].items()
            for word, values in written.items()
        )
        numbers = (len(searched.seeds), len(tried), max(budget, len(tried)))
        table.add_row(Text(searched.label), Text(space), *map(str, numbers))
    return table


def _aim(searched: SearchedOptimizer) -> str:
    extreme = "lowest" if searched.minimizes else "highest"
    return f"search for the {extreme} {searched.search.metric}"


def best_table(name: str, boards: Sequence[Leaderboard]) -> Table:
    """The best setting of each optimizer, and how many settings ended how."""
    metric = boards[0].searched.search.metric
    ends = [end for end in DrawState if any(each.counts[end] for each in boards)]
    table = titled_table(
        f"{name}: {_aim(boards[0].searched)}",
        caption=" ".join([_CAUTION, *choice_notes(metric)]),
    )
    table.add_column("optimizer")
    table.add_column("best setting")
    for column in (f"{metric} ± s.e.", "n", *ends):
        table.add_column(column, justify="right")
    for each in boards:
        cells = _cells(each.ranking[0]) if each.ranking else [Text("–"), Text("–"), Text("0")]
        counts = [str(each.counts[end]) if each.counts[end] else "" for end in ends]
        table.add_row(Text(each.searched.label), *cells, *counts)
    return table


def top_table(board: Leaderboard) -> Table:
    """The best settings of one optimizer."""
    best = board.ranking[:BEST_SHOWN]
    metric = board.searched.search.metric
    title = f"{board.searched.label}: the best {len(best)} of {len(board.settings)}"
    table = titled_table(title, caption=" ".join(choice_notes(metric)) or None)
    for column in ("setting", f"{metric} ± s.e.", "n"):
        table.add_column(column, justify="left" if column == "setting" else "right")
    for each in best:
        table.add_row(*_cells(each))
    return table


def _cells(placed: Placed) -> list[Text]:
    """A setting, its mean and how many seeds that is of."""
    assert placed.result is not None, "only settings with one are ranked"
    shown = with_error(placed.result.value, placed.result.standard_error)
    return [Text(placed.tried.words), Text(shown), Text(str(placed.result.n))]


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
        """Print the space of each optimizer, and the settings that there are of it."""
        if self.sweep.request.as_json:
            self.print_as_json(
                {"space": searched.premises["space"], "tried": [asdict(each) for each in tried]}
                for searched, tried in rows
            )
            return
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
