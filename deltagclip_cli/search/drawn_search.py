"""A search whose draws are known beforehand: a plan of trials, that any launcher runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import ExitCode, UsageError, check_writable, plural
from deltagclip_cli.launch.launcher import StayingLauncher
from deltagclip_cli.launch.supervisor import PlannedQueue
from deltagclip_cli.plan.planned import Planned, look_up, mean
from deltagclip_cli.runs.folder import ENDED, State
from deltagclip_cli.search.searched import Tried, check_journals
from deltagclip_cli.search.session import Leaderboard, Placed, SearchSession
from deltagclip_cli.slurm.awaited import FOLDER, AwaitedTrial, halved, prune_left, write_bracket
from deltagclip_cli.slurm.submit import SlurmLauncher
from deltagclip_cli.spec.trial import options_in_words
from deltagclip_cli.tuning.halving import Bracket, rounds_in, rungs_of, value_in
from deltagclip_cli.tuning.stages import DrawState

if TYPE_CHECKING:
    from deltagclip_cli.launch.supervisor import End
    from deltagclip_cli.search.searched import SearchedOptimizer
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.tuning.halving import Rung


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
            trial.folder: options_in_words(self.draws[draw])
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


_SECONDS_BETWEEN_LOOKS = 1.0

Plan = Callable[["Sequence[Trial]"], "list[Planned]"]


class DrawsQueue(PlannedQueue):
    """The trials of brackets, each up to its next rung.

    When the last has come to a rung, here or in another process, those that are promoted go on
    from their checkpoints, and the others are recorded as pruned. A trial whose worker is killed
    keeps its rung open, for the next search to go on with.

    Args:
        plan: looks up how trials stand.
        ordered: chooses those that are to be run, and their order.
    """

    def __init__(
        self,
        brackets: Sequence[Bracket],
        plan: Plan,
        ordered: Callable[[Sequence[Planned]], Sequence[Planned]],
    ) -> None:
        super().__init__(())
        self._plan, self._ordered = plan, ordered
        # By the folders of trials that are to reach a rung
        self._towards: dict[str, tuple[Bracket, Rung]] = {}
        self._missing: dict[Bracket, set[str]] = {}  # the folders of those that have not reached it
        self._pruned: list[Planned] = []
        # By experiments of which nobody knows yet whether they measure it
        self._metrics = {each.settings[0][0].experiment: each.metric for each in brackets}
        self._asked_at = 0.0
        self._fault: UsageError | None = None
        for bracket in brackets:
            self._advance(bracket)

    def is_elsewhere(self, planned: Planned) -> bool:
        """Look whether another process works on a trial, on its way to the rung."""
        return not self._is_at_its_rung(planned) and super().is_elsewhere(planned)

    def has_ended(self, planned: Planned) -> bool:
        """Look whether another process has done what was planned of a trial."""
        return self._is_at_its_rung(planned) if planned.part > 1 else super().has_ended(planned)

    def give_up(self, planned: Planned) -> str:
        """Stop at the first evaluation whatever lacks the metric, for :meth:`ended` to say so."""
        now = time.monotonic()
        if now - self._asked_at > _SECONDS_BETWEEN_LOOKS:
            self._asked_at = now
            try:
                self._check_metric(planned)
            except UsageError as error:
                self._fault = error
        return str(self._fault or "")

    def _check_metric(self, planned: Planned) -> None:
        metric = self._metrics.get(planned.trial.experiment)
        if metric is not None:
            for record in rounds_in(planned.folder)[:1]:
                value_in(record, metric)
                del self._metrics[planned.trial.experiment]

    def ended(self, planned: Planned, end: End) -> None:
        if self._fault is not None:
            raise self._fault
        self._check_metric(planned)
        super().ended(planned, end)
        if not end.elsewhere:
            self._is_at_its_rung(planned)

    def ended_elsewhere(self) -> list[Planned]:
        """Return trials that others ended, and those that were pruned; each once."""
        others = [each for each in super().ended_elsewhere() if each.part == 1]
        told, self._pruned = [*others, *self._pruned], []
        return told

    def _is_at_its_rung(self, planned: Planned) -> bool:
        """Look whether a trial has come to its rung, and go on if it is the last one there."""
        if planned.part == 1:
            return False
        bracket, rung = self._towards[planned.trial.folder]
        missing = self._missing[bracket]
        if planned.trial.folder not in missing:
            return True
        if bracket.at(planned.trial, rung) is None:
            return False
        missing.remove(planned.trial.folder)
        if not missing:
            self._advance(bracket)
        return True

    def _advance(self, bracket: Bracket) -> None:
        """Take up the first rung that is not complete, and prune whoever was left before it."""
        self._pruned += self._plan(prune_left(bracket))
        rung = bracket.current()
        trials = [t for number in bracket.members(rung) or () for t in bracket.settings[number]]
        if not rung.is_last:
            trials = [each for each in trials if bracket.at(each, rung) is None]
            self._missing[bracket] = {each.folder for each in trials}
            self._towards |= {each.folder: (bracket, rung) for each in trials}
        planned = self._ordered(self._plan(trials))
        self.add(replace(each, part=rung.part) for each in planned)


class DrawnSearch(SearchSession):
    """A search whose trials are a function of the spec."""

    @cached_property
    def drawn(self) -> list[Drawn]:
        """The draws of each optimizer."""
        runs = self.sweep.request.runs
        return [Drawn(each, runs, self.budget) for each in self.optimizers]

    @property
    def trials(self) -> list[Trial]:
        """All trials."""
        return [trial for each in self.drawn for trial in each.trials]

    def show(self) -> int:
        check_journals(self.optimizers, self.sweep.request.runs)
        boards = [each.leaderboard() for each in self.drawn]
        if isinstance(self.sweep, SlurmLauncher):
            trials, later, parts = self._to_submit()
            return self.sweep.show(trials, later, parts=parts)
        assert isinstance(self.sweep, StayingLauncher), "there are no others"
        if self.sweep.request.as_json:
            tried = [[each.tried for each in board.settings] for board in boards]
            self.print_spaces([*zip(self.optimizers, tried, strict=True)])
            return ExitCode.OK
        begun = [[each.tried for each in board.settings if each.is_begun] for board in boards]
        self.print_spaces([*zip(self.optimizers, begun, strict=True)])
        self._say_rungs()
        return self.sweep.show(self.trials)

    def run(self) -> int:
        check_journals(self.optimizers, self.sweep.request.runs)
        if isinstance(self.sweep, StayingLauncher):
            failed = self._run_here(self.sweep)
            boards = [each.leaderboard() for each in self.drawn]
            self.print_boards(boards)
            return ExitCode.FAILED if failed else self.exit_code(boards)
        exit_code = self._submit()
        boards = [each.leaderboard() for each in self.drawn]
        if any(each.ranking for each in boards) and not self.sweep.request.as_json:
            self.print_boards(boards)
        return exit_code

    def _run_here(self, sweep: StayingLauncher) -> bool:
        """Run what is to be run; return whether a trial failed."""
        words = {folder: said for each in self.drawn for folder, said in each.words.items()}

        def plan(trials: Sequence[Trial]) -> list[Planned]:
            planned = look_up(trials, sweep.request.runs, sweep.elsewhere)
            return [replace(each, variant=words[each.trial.folder]) for each in planned]

        def make_queue(todo: Sequence[Planned]) -> DrawsQueue:
            brackets = [each.bracket for each in self.drawn]
            return DrawsQueue(brackets, plan, lambda planned: sweep.ordered(planned)[0])

        self._say_rungs()
        _, any_failed = sweep.finish([t for each in self.drawn for t in each.unpruned], make_queue)
        return any_failed

    def _say_rungs(self) -> None:
        for each in self.drawn:
            rungs = each.bracket.rungs
            if len(rungs) > 1:
                parts = [f"{rung.slots} up to 1/{rung.part}" for rung in rungs[:-1]]
                last = f"{rungs[-1].slots} to its end"
                self.sweep.say(
                    f"{each.searched.name} · {each.searched.label}: of the training, "
                    f"{plural(len(each.settings), 'setting')}: {', '.join(parts)}, {last}"
                )

    def _submit(self) -> int:
        """Submit what is left, with all rungs; return the exit code."""
        assert isinstance(self.sweep, SlurmLauncher), "there are no others"
        for each in self._halved:
            prune_left(each.bracket)
        self._say_rungs()
        trials, later, parts = self._to_submit()
        check_writable(self.sweep.request.runs / FOLDER)
        for each in self._halved:
            write_bracket(each.bracket)
        return self.sweep.run(trials, later, parts=parts)

    @property
    def _halved(self) -> list[Drawn]:
        return [each for each in self.drawn if each.is_halved]

    def _to_submit(self) -> tuple[list[Trial], list[AwaitedTrial], dict[str, int]]:
        """Return the trials that are known, the slots behind them, and where trials pause."""
        trials = [t for each in self.drawn if not each.is_halved for t in each.trials]
        later: list[AwaitedTrial] = []
        parts: dict[str, int] = {}
        for each in self._halved:
            found = halved(each.bracket)
            trials += found.trials
            parts |= {trial.folder: found.part for trial in found.trials}
            later += found.later
        return trials, later, parts
