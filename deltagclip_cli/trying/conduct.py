"""One ``try`` from its beginning to the exit code: what is run, and what is printed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deltagclip_cli.core import ExitCode, SpecError, plural
from deltagclip_cli.launch.launcher import SweepRequest
from deltagclip_cli.launch.local import MOST_DEFAULT_JOBS, LocalLauncher, available_cores
from deltagclip_cli.launch.sweep_view import LiveView, QuietView
from deltagclip_cli.plan.estimates import Estimates, Outlook
from deltagclip_cli.runs.folder import State
from deltagclip_cli.terminal.compare_view import print_tables
from deltagclip_cli.terminal.console import print_json
from deltagclip_cli.trying.answer import TryAnswer
from deltagclip_cli.trying.candidate import reworded
from deltagclip_cli.trying.protocol import PROBLEMS, RIVALS, scanned_rates, stored
from deltagclip_cli.trying.tryout import Tryout, TryoutQueue

if TYPE_CHECKING:
    from rich.console import Console

    from deltagclip_cli.spec.load import Spec
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.trying.candidate import Newcomer

_AS_HOPED = (State.FINISHED, State.DIVERGED, State.PRUNED)  # rates that are too high were expected
_GOES_ON = "Not finished: the same command goes on."


class TryLauncher(LocalLauncher):
    """Runs trials in worker processes, and on a terminal shows how they go on."""

    total = 0

    def _view(self, trials: Sequence[Trial], estimates: Estimates) -> QuietView:
        console, view = self.request.console, QuietView(self.request.console, self.total)
        if not self.request.quiet and console.is_terminal:
            outlook = Outlook(trials, estimates, len(self.runner.slots))
            view = LiveView(console, self.total, outlook)
        view.as_hoped = _AS_HOPED
        return view


@dataclass(frozen=True)
class Conduct:
    """A try of one optimizer, and the launcher that runs its trials."""

    tryout: Tryout
    candidate: Newcomer
    launcher: TryLauncher

    @classmethod
    def of(
        cls,
        spec: Spec,
        candidate: Newcomer,
        console: Console,
        *,
        runs: Path,
        rounds: int,
        jobs: int | None,
        as_json: bool,
        quiet: bool,
    ) -> Conduct:
        """Plan a try against the rivals that are stored, on the CPU."""
        problems = stored()
        rates = {
            name: {rival: each.rivals[rival].rates for rival in RIVALS}
            for name, each in problems.items()
        }
        progress = {name: each.progress for name, each in problems.items()}
        tryout = Tryout(spec, runs, PROBLEMS, [candidate.method], rounds, rates, progress)
        request = SweepRequest(
            spec=spec,
            runs=runs,
            data=Path(),
            console=console,
            words=candidate.words,
            jobs=jobs or min(available_cores(), MOST_DEFAULT_JOBS),
            as_json=as_json,
            quiet=quiet,
        )
        return cls(tryout, candidate, TryLauncher(request))

    @property
    def _check(self) -> str:
        return shlex.join(["deltagclip", "check", self.candidate.name])

    @property
    def _outline(self) -> str:
        tryout, there = self.tryout, self.tryout.ended()
        on = plural(len(self.launcher.runner.slots), "slot")
        return (
            f"{plural(tryout.rounds, 'round')} on {plural(len(tryout.problems), 'problem')}: at"
            f" most {plural(tryout.most() - there, 'trial')} to run on {on}, {there} are there."
        )

    def show(self) -> int:
        """Print what would be run, start nothing, and return the exit code."""
        method, say = self.candidate.method, self.launcher.say
        rates = [] if method.middle is None else scanned_rates(method.middle)
        if self.launcher.request.as_json:
            words = {"optimizer": self.candidate.name, "label": method.label, "scanned": rates}
            counts = {"trials": self.tryout.most(), "there": self.tryout.ended()}
            print_json({**words, "rounds": self.tryout.rounds, **counts})
            return ExitCode.OK
        if rates:
            say(f"{method.label}: lr is scanned at {', '.join(f'{rate:g}' for rate in rates)}")
        for remark in self.candidate.remarks:
            say(remark)
        say(self._outline)
        return ExitCode.OK

    def run(self) -> int:
        """Run what is not there yet, print the answer, and return the exit code."""
        launcher, tryout = self.launcher, self.tryout
        queue = TryoutQueue(tryout)
        if not queue.is_over():
            self._launch(queue)
        if launcher.stop():
            launcher.say(_GOES_ON)
            return launcher.stop.exit_code
        if tryout.failures:
            return self._tell_failure()
        if tryout.missing():
            launcher.say(f"{_GOES_ON} deltagclip status shows why.")
            return ExitCode.STOPPED
        answer = TryAnswer(self.candidate, tryout, stored(), len(launcher.runner.slots))
        self._print(answer)
        return ExitCode.OK if answer.trained else ExitCode.FAILED

    def _launch(self, queue: TryoutQueue) -> None:
        tryout, launcher = self.tryout, self.launcher
        launcher.say(self._outline)
        launcher.total = tryout.most() - tryout.ended()
        trials = tryout.missing()
        stand_ins = trials[:1] * (launcher.total - len(trials))  # for those that are not drawn yet
        try:
            # Each experiment keeps a copy of the code of its own.
            launcher.launch(queue, [*trials, *stand_ins], Estimates(), tryout.examples())
        except SpecError as error:
            label = self.candidate.method.label
            message = reworded(str(error), self.candidate.name, label)
            raise SpecError(f"{message}\n  {self._check} tries it out, line by line.") from None

    def _tell_failure(self) -> int:
        folder, reason = next(iter(self.tryout.failures.items()))
        if self.launcher.request.as_json:
            failed = {"folder": folder, "reason": reason}
            print_json({"optimizer": self.candidate.name, "trains": False, "failed": failed})
        label = self.candidate.method.label
        self.launcher.say(f"{label} does not train: {folder} failed: {reason}")
        self.launcher.say(f"  {self._check} looks for the reason.")
        return ExitCode.FAILED

    def _print(self, answer: TryAnswer) -> None:
        request, say = self.launcher.request, self.launcher.say
        if request.as_json:
            print_json(answer.as_data())
            return
        if not request.quiet:
            print_tables(request.console, answer.tables())
        for sentence in answer.sentences():
            say(sentence)
        if answer.trained:
            say(f"report: {self.launcher.command_for('report', PROBLEMS)}")
