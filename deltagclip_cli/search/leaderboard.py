"""Leaderboards: what a search has come to, as tables and for programs."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from deltagclip_cli.core import choice_notes, with_error
from deltagclip_cli.plan.planned import Mean, Planned, look_up, mean
from deltagclip_cli.runs.folder import State
from deltagclip_cli.terminal.console import titled_table
from deltagclip_cli.tuning.choice import DrawState

if TYPE_CHECKING:
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
