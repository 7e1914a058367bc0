"""A search whose draws are known beforehand: a plan of trials, that any launcher runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import TYPE_CHECKING

from deltagclip_cli.core import ExitCode, check_writable, plural
from deltagclip_cli.launch.launcher import StayingLauncher
from deltagclip_cli.plan.planned import Planned, look_up
from deltagclip_cli.search.drawn import Drawn
from deltagclip_cli.search.draws_queue import DrawsQueue
from deltagclip_cli.search.searched import check_journals
from deltagclip_cli.search.session import SearchSession
from deltagclip_cli.slurm.awaited import AwaitedTrial, halved
from deltagclip_cli.slurm.rungs import FOLDER, prune_left, write_bracket
from deltagclip_cli.slurm.submit import SlurmLauncher

if TYPE_CHECKING:
    from deltagclip_cli.spec.trial import Trial


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
        tried = [[each.tried for each in board.settings] for board in boards]
        if isinstance(self.sweep, SlurmLauncher):
            trials, later, parts = self._to_submit()
            return self.sweep.show(trials, later, parts=parts)
        assert isinstance(self.sweep, StayingLauncher), "there are no others"
        if self.sweep.request.as_json:
            rows = zip(self.optimizers, tried, strict=True)
            self.print_as_json(
                {"space": searched.premises["space"], "tried": [asdict(each) for each in some]}
                for searched, some in rows
            )
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
