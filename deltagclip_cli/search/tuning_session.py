"""One ``tune``: its stages, here or submitted to Slurm, what is printed, and the exit code."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from deltagclip_cli.core import ExitCode, UsageError
from deltagclip_cli.launch.supervisor import End, PlannedQueue
from deltagclip_cli.plan.planned import Elsewhere, Planned, look_up
from deltagclip_cli.runs.folder import State
from deltagclip_cli.search.tuning_view import (
    MEASURED_SETS,
    Judgement,
    as_data,
    choice_table,
    fresh_table,
    plan_table,
    title,
    totals,
)
from deltagclip_cli.slurm.awaited import AwaitedTrial, awaited
from deltagclip_cli.terminal.console import print_json
from deltagclip_cli.tuning.lock import fixed_plan, valid_plan
from deltagclip_cli.tuning.stages import (
    DrawState,
    StudyChoice,
    choices,
    fresh_trials,
    obstacle,
    slots,
)

if TYPE_CHECKING:
    from deltagclip_cli.launch.launcher import Launcher, StayingLauncher
    from deltagclip_cli.slurm.submit import SlurmLauncher
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.tuning.lock import Lock
    from deltagclip_cli.tuning.studies import Tuning


Studies = Sequence[Sequence[StudyChoice]]  # by study, then by label


@dataclass(frozen=True)
class TuningSession(ABC):
    """A protocol that is gone through as far as it is not yet.

    Args:
        spec: the tuning as the spec has it now; a lock that is there already must be of it.
    """

    launcher: Launcher
    spec: Tuning

    @abstractmethod
    def show(self) -> int:
        """Print the plan and how it stands, start nothing, and return the exit code."""

    @abstractmethod
    def run(self) -> int:
        """Go through the stages, and return the exit code."""

    @property
    def runs(self) -> Path:
        """The runs folder."""
        return self.launcher.request.runs

    def choices_of(self, tuning: Tuning) -> Studies:
        """Read what each study chooses."""
        studies = range(tuning.protocol.studies)
        return [choices(tuning, self.runs, study) for study in studies]

    def judged(
        self, tuning: Tuning, studies: Studies, elsewhere: Elsewhere
    ) -> list[list[Judgement]]:
        """Look up what became of the settings that were chosen."""
        judged = []
        for made in studies:
            goes_on = obstacle(made) is None
            fresh = [fresh_trials(tuning, each) if goes_on else [] for each in made]
            found = [look_up(trials, self.runs, elsewhere) for trials in fresh]
            judged.append([Judgement(*each) for each in zip(made, found, strict=True)])
        return judged

    def valid_plan(self, *, is_begun: bool = False) -> tuple[Lock | None, Tuning]:
        """Return the lock that there is, and what is planned, nothing written."""
        lock = valid_plan(self.spec, self.runs, is_begun=is_begun)
        return lock, self.spec if lock is None else self.spec.with_draws(lock.tuning.draws)

    def introduce(self, tuning: Tuning, lock: Lock | None) -> None:
        """Print the plan."""
        request = self.launcher.request
        if request.quiet:
            return
        request.console.print(plan_table(tuning))
        self.launcher.say(totals(tuning))
        if lock is not None:
            words = f"planned at {lock.made}, {lock.path}, hash {lock.hash}"
            self.launcher.say(words)

    def tell_choices(self, tuning: Tuning, studies: Studies) -> None:
        """Print what was chosen; and, however quietly, why something is not."""
        request = self.launcher.request
        for study, made in enumerate(studies):
            if not (request.quiet or request.as_json):
                request.console.print(choice_table(tuning, study, made))
            why = obstacle(made)
            if why is not None and why.waits:
                self.launcher.say(f"{title(tuning, study)}: {why.why}")
                continue
            lacks = [f"{each.lack}." for each in made if each.lack] if why is None else [why.why]
            for words in lacks:
                line = Text(f"{title(tuning, study)}: {words}", "yellow")
                request.console.print(line, soft_wrap=True)

    def tell_fresh(self, tuning: Tuning, judged: Sequence[Sequence[Judgement]]) -> None:
        """Print what became of the chosen settings on fresh seeds, of studies that have begun."""
        for study, of_study in enumerate(judged):
            if any(each.fresh for each in of_study):
                self.launcher.request.console.print(fresh_table(tuning, study, of_study))

    def exit_code(self, drawn: Sequence[Planned], judged: Sequence[Judgement]) -> int:
        """Return the exit code; that a draw diverged is a finding, and no fault."""
        stop = self.launcher.stop
        if stop():
            return stop.exit_code
        fresh = {state for each in judged for state in each.states}
        is_refused = any(each.choice.refusal or each.choice.lack for each in judged)
        has_failed = State.FAILED in {each.state for each in drawn} | fresh
        if is_refused or has_failed or State.DIVERGED in fresh:
            return ExitCode.FAILED
        is_whole = all(each.fresh for each in judged) and fresh <= {State.FINISHED}
        return ExitCode.OK if is_whole else ExitCode.STOPPED


@dataclass(frozen=True)
class StayingTuning(TuningSession):
    """A protocol that is gone through in this process."""

    launcher: StayingLauncher

    def show(self) -> int:
        lock, tuning = self.valid_plan()
        studies = self.choices_of(tuning)
        if self.launcher.request.as_json:
            print_json(as_data(tuning, lock, self.judged(tuning, studies, self.launcher.elsewhere)))
            return ExitCode.OK
        self.introduce(tuning, lock)
        self.launcher.outline([*tuning.drawn_trials, *fresh_of(tuning, studies)])
        return ExitCode.OK

    def run(self) -> int:
        """Go through the stages, and return the exit code."""
        launcher, metric = self.launcher, self.spec.protocol.metric
        waits = bool(launcher.elsewhere.awaited(self.spec.name))
        lock, tuning = fixed_plan(self.spec, self.runs, is_begun=waits)
        self.introduce(tuning, lock)
        trials = tuning.drawn_trials
        check_measured(look_up(trials, self.runs), metric, lock.path)
        launcher.say("\n1 of 2: every draw")
        drawn, failed = launcher.finish(
            trials, lambda todo: _MeasuredQueue(todo, metric, lock.path)
        )
        studies = self.choices_of(tuning)
        self.tell_choices(tuning, studies)
        is_over = launcher.stop() or (failed and launcher.request.fail_fast)
        if not is_over and (fresh := fresh_of(tuning, studies)):
            launcher.say("2 of 2: the chosen settings, on fresh seeds")
            launcher.finish(fresh)
        judged = self.judged(tuning, studies, launcher.elsewhere)
        if launcher.request.as_json:
            print_json(as_data(tuning, lock, judged))
        elif not launcher.request.quiet:
            self.tell_fresh(tuning, judged)
            tried = chain.from_iterable(each.fresh for study in judged for each in study)
            for line in launcher.next_commands([*drawn, *tried]):
                launcher.say(line)
        return self.exit_code(drawn, list(chain.from_iterable(judged)))


def make_session(launcher: Launcher, tuning: Tuning) -> TuningSession:
    """Return what goes through a protocol where a launcher runs trials."""
    from deltagclip_cli.launch.launcher import StayingLauncher
    from deltagclip_cli.slurm.submit import SlurmLauncher

    if isinstance(launcher, StayingLauncher):
        return StayingTuning(launcher, tuning)
    assert isinstance(launcher, SlurmLauncher), "there are no others"
    return SubmittedTuning(launcher, tuning)


def fresh_of(tuning: Tuning, studies: Studies) -> list[Trial]:
    """Return the trials on fresh seeds of all studies that have chosen."""
    ready = [made for made in studies if obstacle(made) is None]
    return [trial for made in ready for each in made for trial in fresh_trials(tuning, each)]


class _MeasuredQueue(PlannedQueue):
    """Trials of which the first that ends without the metric of the choice ends all."""

    def __init__(self, pending: Iterable[Planned], metric: str, lock: Path) -> None:
        super().__init__(pending)
        self._metric, self._lock = metric, lock

    def ended(self, planned: Planned, end: End) -> None:
        super().ended(planned, end)
        if end.state is State.FINISHED:
            check_measured(
                look_up([planned.trial], self._lock.parents[1]), self._metric, self._lock
            )


def check_measured(planned: Iterable[Planned], metric: str, lock: Path) -> None:
    """Refuse to choose by a metric that trials do not record.

    Raises:
        UsageError: one that is finished has not; with those that it has.
    """
    for each in planned:
        if each.state is State.FINISHED and each.result and metric not in each.result["last"]:
            names = each.result["last"]
            there = [name for name in names if name.partition("/")[0] in MEASURED_SETS]
            raise UsageError(
                f"protocol.metric: {metric} is not measured by these trials.\n"
                f"  metrics: {', '.join(there)}\n"
                f"  The plan in {lock} stays as it is. Write another metric under another name\n"
                "  of the experiment, or name another folder with --runs DIR."
            )


@dataclass(frozen=True)
class SubmittedTuning(TuningSession):
    """A protocol that jobs go through.

    The fresh seeds of what will be chosen are submitted with the draws; whoever runs the command
    again submits what is left.
    """

    launcher: SlurmLauncher

    def show(self) -> int:
        jobs = self.launcher.request.elsewhere()
        lock, tuning = self.valid_plan(is_begun=bool(jobs.awaited(self.spec.name)))
        studies = self.choices_of(tuning)
        told = as_data(tuning, lock, self.judged(tuning, studies, jobs))
        return self.launcher.show(*_to_submit(tuning, studies), told)

    def run(self) -> int:
        launcher, name = self.launcher, self.spec.name
        jobs = launcher.request.elsewhere()
        lock, tuning = fixed_plan(self.spec, self.runs, is_begun=bool(jobs.awaited(name)))
        self.introduce(tuning, lock)
        drawn = look_up(tuning.drawn_trials, self.runs)
        check_measured(drawn, tuning.protocol.metric, lock.path)
        studies = self.choices_of(tuning)
        if any(_has_begun(each) for each in chain.from_iterable(studies)):
            self.tell_choices(tuning, studies)
        judged = self.judged(tuning, studies, jobs)
        if not (launcher.request.as_json or launcher.request.quiet):
            self.tell_fresh(tuning, judged)
        launcher.run(*_to_submit(tuning, studies), as_data(tuning, lock, judged))
        if launcher.request.elsewhere().awaited(name):
            return ExitCode.OK
        return self.exit_code(drawn, list(chain.from_iterable(judged)))


def _to_submit(tuning: Tuning, studies: Studies) -> tuple[list[Trial], Sequence[AwaitedTrial]]:
    """Return the trials that are known, and the slots of those that will be."""
    later = {study for study, made in enumerate(studies) if _waits(made)}
    waiting = [slot for slot in slots(tuning) if slot.study in later]
    return [*tuning.drawn_trials, *fresh_of(tuning, studies)], awaited(tuning, waiting)


def _has_begun(choice: StudyChoice) -> bool:
    return choice.counts[DrawState.OPEN] < len(choice.draws)


def _waits(made: Sequence[StudyChoice]) -> bool:
    why = obstacle(made)
    return why is not None and why.waits
