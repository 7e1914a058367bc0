"""One ``tune --launcher slurm``: all stages are submitted at once, and the later ones wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from deltagclip_cli.core import ExitCode
from deltagclip_cli.plan.planned import look_up
from deltagclip_cli.search.tuning_session import Studies, TuningSession, check_measured, fresh_of
from deltagclip_cli.search.tuning_view import as_data, fresh_table
from deltagclip_cli.slurm.awaited import AwaitedTrial, awaited
from deltagclip_cli.tuning.choice import DrawState
from deltagclip_cli.tuning.lock import fixed_plan, valid_plan
from deltagclip_cli.tuning.stages import StudyChoice, drawn_trials, obstacle, slots

if TYPE_CHECKING:
    from deltagclip_cli.slurm.submit import SlurmLauncher
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.tuning.studies import Tuning


@dataclass(frozen=True)
class SubmittedTuning(TuningSession):
    """A protocol that jobs go through.

    The fresh seeds of what will be chosen are submitted with the draws; whoever runs the command
    again submits what is left.
    """

    launcher: SlurmLauncher

    def show(self) -> int:
        jobs = self.launcher.request.elsewhere()
        lock = valid_plan(self.spec, self.runs, is_begun=bool(jobs.awaited(self.spec.name)))
        tuning = self.spec if lock is None else self.spec.with_draws(lock.tuning.draws)
        studies = self.choices_of(tuning)
        told = as_data(
            tuning, lock, self.judged(tuning, studies, self.launcher.request.elsewhere())
        )
        return self.launcher.show(*_to_submit(tuning, studies), told)

    def run(self) -> int:
        launcher, name = self.launcher, self.spec.name
        jobs = launcher.request.elsewhere()
        lock, tuning = fixed_plan(self.spec, self.runs, is_begun=bool(jobs.awaited(name)))
        self.introduce(tuning, lock)
        drawn = look_up(drawn_trials(tuning), self.runs)
        check_measured(drawn, tuning.protocol.metric, lock.path)
        studies = self.choices_of(tuning)
        if any(_has_begun(each) for each in chain.from_iterable(studies)):
            self.tell_choices(tuning, studies)
        judged = self.judged(tuning, studies, jobs)
        if not (launcher.request.as_json or launcher.request.quiet):
            for study, of_study in enumerate(judged):
                if any(each.fresh for each in of_study):
                    launcher.request.console.print(fresh_table(tuning, study, of_study))
        launcher.run(*_to_submit(tuning, studies), as_data(tuning, lock, judged))
        if launcher.request.elsewhere().awaited(name):
            return ExitCode.OK
        return self.exit_code(drawn, list(chain.from_iterable(judged)))


def _to_submit(tuning: Tuning, studies: Studies) -> tuple[list[Trial], Sequence[AwaitedTrial]]:
    """Return the trials that are known, and the slots of those that will be."""
    later = {study for study, made in enumerate(studies) if _waits(made)}
    waiting = [slot for slot in slots(tuning) if slot.study in later]
    return [*drawn_trials(tuning), *fresh_of(tuning, studies)], awaited(tuning, waiting)


def _has_begun(choice: StudyChoice) -> bool:
    return choice.counts[DrawState.OPEN] < len(choice.draws)


def _waits(made: Sequence[StudyChoice]) -> bool:
    why = obstacle(made)
    return why is not None and why.waits
