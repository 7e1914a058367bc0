"""The draws of one optimizer: settings, their trials, and how far all of them have come."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltagclip_cli.plan.planned import Planned, look_up, mean
from deltagclip_cli.runs.folder import ENDED, State
from deltagclip_cli.search.leaderboard import Leaderboard, Placed
from deltagclip_cli.search.searched import Tried, in_words
from deltagclip_cli.tuning.choice import DrawState
from deltagclip_cli.tuning.evaluations import value_in
from deltagclip_cli.tuning.halving import Bracket, rungs_of

if TYPE_CHECKING:
    from deltagclip_cli.search.searched import SearchedOptimizer
    from deltagclip_cli.spec.trial import Trial


@dataclass(frozen=True)
class Drawn:
    """The draws of one optimizer, and their trials.

    Two draws can be the same setting: few can be chosen in a small space. It is run once.
    """

    searched: SearchedOptimizer
    runs: Path
    count: int

    @cached_property
    def draws(self) -> list[dict[str, Any]]:
        return self.searched.draws(self.count)

    @property
    def _trials(self) -> list[list[Trial]]:
        """The trials of each draw."""
        return self.searched.drawn(self.count)

    @cached_property
    def numbers(self) -> list[int]:
        """The number of the setting, among those that differ, that each draw is."""
        known: dict[str, int] = {}
        return [known.setdefault(trials[0].setting_hash, len(known)) for trials in self._trials]

    @cached_property
    def _first(self) -> list[int]:
        """The first draw of each setting."""
        first = {number: draw for draw, number in reversed([*enumerate(self.numbers)])}
        return [first[number] for number in range(len(first))]

    @cached_property
    def settings(self) -> list[list[Trial]]:
        """The trials of each setting, in the order of their first draws."""
        return [self._trials[draw] for draw in self._first]

    @cached_property
    def words(self) -> dict[str, str]:
        """The options of the setting of each run folder, in few words."""
        return {
            trial.folder: in_words(self.draws[draw])
            for draw in self._first
            for trial in self._trials[draw]
        }

    @property
    def trials(self) -> list[Trial]:
        """All trials."""
        return [trial for trials in self.settings for trial in trials]

    @property
    def unpruned(self) -> list[Trial]:
        """The trials of settings that were not left at a rung so far."""
        left = self.bracket.left()
        return [t for number, each in enumerate(self.settings) if number not in left for t in each]

    @cached_property
    def bracket(self) -> Bracket:
        """The settings as they are halved; with one rung, the last, if they are not."""
        search, rounds = self.searched.search, self.searched.least_rounds
        rungs = rungs_of(len(self.settings), rounds, halves=search.pruner == "halving")
        return Bracket(self.settings, self.runs, search.metric, self.searched.minimizes, rungs)

    @property
    def is_halved(self) -> bool:
        """True if settings are given up at rungs."""
        return len(self.bracket.rungs) > 1

    def leaderboard(self) -> Leaderboard:
        """Read the run folders of all draws."""
        planned, left = iter(look_up(self.trials, self.runs)), self.bracket.left()
        there = [[next(planned) for _ in trials] for trials in self.settings]
        placed = [self._placed(number, each, left) for number, each in enumerate(there)]
        settings = [
            replace(placed[number], tried=replace(placed[number].tried, number=draw))
            for draw, number in enumerate(self.numbers)
        ]
        return Leaderboard(self.searched, settings)

    def _placed(self, number: int, planned: Sequence[Planned], left: Container[int]) -> Placed:
        metric = self.searched.search.metric
        state, values = _state(planned, was_left=number in left), []
        if state is DrawState.FINISHED:
            values = [value_in(each.result["last"], metric) for each in planned if each.result]
            if None in values:
                state, values = DrawState.DIVERGED, []
        result = mean(values) if values else None
        tried = Tried(
            number, self.draws[self._first[number]], state, result.value if result else None
        )
        return Placed(tried, result, planned)


def _state(planned: Sequence[Planned], *, was_left: bool) -> DrawState:
    states = {each.state for each in planned}
    if states <= {State.FINISHED}:
        return DrawState.FINISHED
    if not was_left and not states <= {*ENDED}:
        return DrawState.OPEN
    if State.FAILED in states:
        return DrawState.FAILED
    return DrawState.DIVERGED if State.DIVERGED in states else DrawState.PRUNED
