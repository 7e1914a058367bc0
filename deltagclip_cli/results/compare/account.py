"""A plan beside the runs that there are: which are of it, which are missing, which were added."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from deltagclip_cli.core import measured_on
from deltagclip_cli.tuning.lock import Lock, read_lock
from deltagclip_cli.tuning.stages import StudyChoice, choices, fresh_trials

if TYPE_CHECKING:
    from deltagclip_cli.results.read.run import Group, Run
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.tuning.studies import Draw

_Key = tuple[str, str, int]


@dataclass(frozen=True, eq=False)
class Account:
    """The runs of an experiment in the light of its plan."""

    lock: Lock
    runs: Sequence[Run]  # all that are to be accounted for

    @classmethod
    def of(cls, experiment: str, runs: Sequence[Run]) -> Account | None:
        """Read the plan of some runs of an experiment; None if there is none, or none for all.

        Raises:
            RunFolderError: it is damaged, or was changed.
        """
        folders = {_runs_folder(run) for run in runs if run.trial is not None}
        if len(folders) != 1:
            return None
        lock = read_lock(folders.pop(), experiment)
        return None if lock is None else cls(lock, runs)

    @property
    def unequal(self) -> str | None:
        """The reason of the plan for drawing more of some optimizers than of others, if it does."""
        return self.lock.tuning.protocol.unequal

    def budget(self, label: str) -> int:
        """Return how many draws each study has of an optimizer."""
        return self.lock.tuning.protocol.draws_of(label, self.lock.tuning.fixed)

    @cached_property
    def _by_trial(self) -> Mapping[_Key, Run]:
        return {_key(run.trial): run for run in self.runs if run.trial is not None}

    def _there(self, trials: Iterable[Trial]) -> list[Run]:
        return [run for each in trials if (run := self._by_trial.get(_key(each))) is not None]

    @cached_property
    def draws(self) -> Sequence[tuple[Draw, Sequence[Run]]]:
        """Every planned draw with those of its runs that are there, by the seeds of its study."""
        tuning = self.lock.tuning
        return [
            (draw, self._there(tuning.trials(draw, tuning.search_seeds(draw.study))))
            for draw in tuning.draws
        ]

    @cached_property
    def choices(self) -> Sequence[StudyChoice]:
        """The choice of each study for each optimizer, as far as its draws have ended."""
        tuning, runs = self.lock.tuning, self.lock.path.parents[1]
        studies = range(tuning.protocol.studies)
        return [choice for study in studies for choice in choices(tuning, runs, study)]

    @cached_property
    def chosen(self) -> Sequence[Group]:
        """The settings that studies chose; none of an optimizer whose draws have not all ended."""
        best = [each.best.draw for each in self.choices if each.best and not each.is_open]
        return [runs[0].group for draw, runs in self.draws if runs and draw in best]

    def chooser(self, otherwise: str, optimizers: Iterable[str]) -> str:
        """Return the metric that chose settings: the plan's, of optimizers of which it chose any.

        It has not as long as draws are open, nor where none has a value: these are chosen
        ``otherwise``. Of two metrics that chose, that of the test set is told.
        """
        chosen, planned = {group.optimizer for group in self.chosen}, self.lock.tuning.protocol
        made = [planned.metric if each in chosen else otherwise for each in optimizers]
        return next((each for each in made if measured_on(each) == "test"), [*made, otherwise][0])

    @cached_property
    def fresh(self) -> Mapping[tuple[int, str], Sequence[Run]]:
        """The runs of what was chosen on fresh seeds, by study and optimizer."""
        return {
            (choice.study, choice.label): self._there(fresh_trials(self.lock.tuning, choice))
            for choice in self.choices
        }

    @cached_property
    def choosing(self) -> Sequence[Run]:
        """The runs that a setting was chosen by which has run on fresh seeds since."""
        judged = [each for each in self.choices if self.fresh[each.study, each.label]]
        best = [each.best.draw for each in judged if each.best]
        return [run for draw, runs in self.draws if draw in best for run in runs]

    @cached_property
    def added(self) -> Sequence[Run]:
        """The runs that the plan does not have."""
        planned = [*(runs for _, runs in self.draws), *self.fresh.values()]
        own = {id(run) for runs in planned for run in runs}
        return [run for run in self.runs if id(run) not in own]


def _runs_folder(run: Run) -> Path:
    return Path(os.path.abspath(run.folder)).parents[2]


def _key(trial: Trial) -> _Key:
    return trial.label, trial.setting_hash, trial.seed
