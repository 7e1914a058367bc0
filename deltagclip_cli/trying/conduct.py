"""One ``try``: what is run, what is printed, and the exit code."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from deltagclip_cli.core import ExitCode, SpecError, plural
from deltagclip_cli.launch.launcher import SweepRequest
from deltagclip_cli.launch.local import MOST_DEFAULT_JOBS, LocalLauncher, available_cores
from deltagclip_cli.launch.sweep_view import LiveView, QuietView
from deltagclip_cli.plan.estimates import Estimates, Outlook
from deltagclip_cli.runs.folder import State
from deltagclip_cli.spec.load import Spec
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.terminal.compare_view import print_tables
from deltagclip_cli.terminal.console import print_json
from deltagclip_cli.trying.answer import Answer, Candidate
from deltagclip_cli.trying.candidate import reworded
from deltagclip_cli.trying.protocol import PROBLEMS, RIVALS, stored
from deltagclip_cli.trying.study import Study, StudyQueue

_AS_HOPED = (State.FINISHED, State.DIVERGED, State.PRUNED)  # rates that are too high were expected


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


def try_out(
    spec: Spec,
    candidate: Candidate,
    *,
    runs: Path,
    rounds: int,
    jobs: int | None,
    console: Console,
    as_json: bool,
    quiet: bool,
) -> int:
    """Run what is not there yet, print the answer, and return the exit code."""
    problems = stored()
    study = Study(
        spec,
        runs,
        PROBLEMS,
        [candidate.method],
        rounds,
        {
            name: {rival: each.rivals[rival].rates for rival in RIVALS}
            for name, each in problems.items()
        },
        {name: each.progress for name, each in problems.items()},
    )
    slots = jobs or min(available_cores(), MOST_DEFAULT_JOBS)
    launcher = TryLauncher(
        SweepRequest(
            spec=spec,
            runs=runs,
            data=Path(),
            console=console,
            jobs=slots,
            as_json=as_json,
            quiet=quiet,
        )
    )
    queue = StudyQueue(study)
    if not queue.is_over():
        _run(launcher, queue, study, candidate)
    if launcher.stop():
        launcher.say("Not finished: the same command goes on.")
        return launcher.stop.exit_code
    if study.failures:
        return _failed(launcher, study, candidate)
    if study.needed_but_missing():
        launcher.say("Not finished: the same command goes on. deltagclip status shows why.")
        return ExitCode.STOPPED
    answer = Answer(candidate, study, problems, slots)
    if as_json:
        print_json(answer.as_data())
    elif not quiet:
        print_tables(console, answer.tables())
        for sentence in answer.sentences():
            launcher.say(sentence)
        if answer.trained:
            launcher.say(f"report  {launcher.command_for('report', PROBLEMS)}")
    return ExitCode.OK if answer.trained else ExitCode.FAILED


def _run(launcher: TryLauncher, queue: StudyQueue, study: Study, candidate: Candidate) -> None:
    there, most = study.ended(), study.most()
    launcher.total = most - there
    launcher.say(
        f"{candidate.method.label}: at most {plural(most - there, 'trial')} on"
        f" {plural(len(launcher.runner.slots), 'core')}; {there} are there."
    )
    trials = study.needed()
    try:
        launcher.launch(
            queue, [*trials, *[trials[0]] * (launcher.total - len(trials))], Estimates()
        )
    except SpecError as error:
        label = candidate.method.label
        check = shlex.join(["deltagclip", "check", candidate.name])
        message = reworded(str(error), candidate.name, label)
        raise SpecError(f"{message}\n  {check} tries it out, line by line.") from None


def _failed(launcher: TryLauncher, study: Study, candidate: Candidate) -> int:
    folder, reason = next(iter(study.failures.items()))
    if launcher.request.as_json:
        print_json({"optimizer": candidate.name, "trains": False, "failed": {folder: reason}})
    check = shlex.join(["deltagclip", "check", candidate.name])
    launcher.say(f"{candidate.method.label} does not train: {folder} failed: {reason}")
    launcher.say(f"  {check} looks for the reason.")
    return ExitCode.FAILED
