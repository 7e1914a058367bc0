"""One study of Optuna: what was tried for one optimizer, what came of it, what to try next.

Optuna thinks in memory; its journal is the record of what it has thought. What is told between the
beginning and the end of a setting is told anew, from run folders, when a search goes on. So the
next choice and every verdict depend on what the run folders hold and on nothing else, such as the
moment at which an earlier search was killed.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from deltagclip_cli.core import RunFolderError, derive_seed
from deltagclip_cli.search.journal import read_journal, writing
from deltagclip_cli.search.problem import Subject
from deltagclip_cli.search.space import as_optuna, chosen
from deltagclip_cli.spec.trial import differing_keys

optuna.logging.set_verbosity(optuna.logging.WARNING)

OPTIONS = "options"  # the attributes of trials and studies that are ours
PREMISES = "premises"
KEPT_OF_HALVING = 3  # one in so many


class Outcome(StrEnum):
    """What became of a setting."""

    FINISHED = "finished"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    FAILED = "failed"
    OPEN = "not finished"


@dataclass(frozen=True)
class Tried:
    """A setting that was tried, or is being tried.

    Args:
        number: in its study, from 0.
        options: of the optimizer.
        outcome: what became of it.
        value: of the metric, as a mean over seeds; None without one.
    """

    number: int
    options: dict[str, Any]
    outcome: Outcome
    value: float | None


class Study:
    """The settings that are tried for one optimizer.

    Args:
        subject: the optimizer and its space.
        file: the journal.
        storage: what the journal holds.

    Raises:
        RunFolderError: the study there is of something else.
    """

    def __init__(self, subject: Subject, file: Path, storage: JournalStorage) -> None:
        self.subject = subject
        self._file = file
        with writing(file):
            self._journal = _journal_of(subject, file, storage)
        self._study = optuna.create_study(
            sampler=RandomSampler(seed=0),  # until something is drawn
            pruner=_pruner(subject),
            direction=subject.search.direction,
        )
        self._told = [dict(each.intermediate_values) for each in self._journal.get_trials()]
        for each in self._journal.get_trials(deepcopy=False):
            self._study.add_trial(each if each.state.is_finished() else _begun(each))
        self._trials: dict[int, Trial] = {}

    @property
    def begun(self) -> int:
        """How many settings were drawn."""
        return len(self._told)

    @property
    def ended(self) -> int:
        """How many of them have ended."""
        return sum(each.outcome is not Outcome.OPEN for each in self.tried())

    def tried(self) -> list[Tried]:
        """Everything that was drawn, in this order."""
        return [_tried(each) for each in self._study.get_trials(deepcopy=False)]

    def draw(self) -> Tried:
        """Choose the next setting and write down that it is begun.

        Raises:
            RunFolderError: the journal cannot be written.
        """
        search = self.subject.search
        seed = derive_seed(search.seed, "search", self.subject.label, self.begun)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # options that older versions call experimental
            self._study.sampler = TPESampler(
                seed=seed % 2**32, multivariate=True, constant_liar=True
            )
        trial = self._study.ask(as_optuna(self.subject.space))
        options = chosen(self.subject.space, trial.params)
        trial.set_user_attr(OPTIONS, options)
        with writing(self._file):
            self._journal.add_trial(_begun(self._frozen(trial.number)))
        self._told.append({})
        return Tried(trial.number, options, Outcome.OPEN, None)

    def report(self, number: int, step: int, value: float) -> bool:
        """Tell what a setting has come to at a step; whether it is to be given up.

        Raises:
            RunFolderError: the journal cannot be written.
        """
        trial = self._trial(number)
        trial.report(value, step)
        pruned = trial.should_prune()
        known = self._told[number]
        # That it went on behind a step is decided, whatever others have come to since.
        pruned = pruned and step >= max(known, default=0)
        if step not in known:
            known[step] = value
            with writing(self._file):
                self._in_journal(number).report(value, step)
        return pruned

    def finish(self, number: int, outcome: Outcome, value: float | None = None) -> None:
        """Tell what became of a setting; one that diverged is as bad as can be.

        Raises:
            RunFolderError: the journal cannot be written.
        """
        worst = math.inf if self.subject.minimizes else -math.inf
        told = worst if outcome is Outcome.DIVERGED else value
        state = _STATES[outcome]
        with writing(self._file):
            for key, attribute in self._frozen(number).system_attrs.items():
                if key.startswith("completed_rung"):
                    self._in_journal(number).storage.set_trial_system_attr(
                        self._in_journal(number)._trial_id, key, attribute
                    )
            self._journal.tell(number, told, state=state)
        self._study.tell(number, told, state=state)

    def _trial(self, number: int) -> Trial:
        if number not in self._trials:
            self._trials[number] = Trial(self._study, self._frozen(number)._trial_id)
        return self._trials[number]

    def _frozen(self, number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]

    def _in_journal(self, number: int) -> Trial:
        return Trial(self._journal, self._journal.get_trials(deepcopy=False)[number]._trial_id)


def read_tried(subject: Subject, file: Path) -> list[Tried]:
    """What was tried so far, whether a search goes on or not.

    Raises:
        RunFolderError: the journal cannot be read, or is of something else.
    """
    try:
        journal = optuna.load_study(
            study_name=subject.label, storage=read_journal(file), sampler=RandomSampler(seed=0)
        )
    except KeyError:  # there is none of this name
        return []
    _check_premises(subject, file, journal)
    return [_tried(each) for each in journal.get_trials(deepcopy=False)]


def _journal_of(subject: Subject, file: Path, storage: JournalStorage) -> optuna.Study:
    journal = optuna.create_study(
        storage=storage,
        study_name=subject.label,
        direction=subject.search.direction,
        sampler=RandomSampler(seed=0),
        load_if_exists=True,
    )
    _check_premises(subject, file, journal)
    if PREMISES not in journal.user_attrs:
        journal.set_user_attr(PREMISES, subject.premises)
    return journal


def _check_premises(subject: Subject, file: Path, journal: optuna.Study) -> None:
    then = journal.user_attrs.get(PREMISES)
    if then is None and not journal.get_trials(deepcopy=False):
        return
    differences = ["all of it"] if then is None else differing_keys(then, subject.premises)
    if differences:
        raise RunFolderError(
            f"{file}: the search of {subject.label} there was made from another spec: "
            f"{', '.join(differences)}.\n"
            "  Move that file away to search anew, or name another folder with --runs DIR."
        )


def _begun(trial: FrozenTrial) -> FrozenTrial:
    """A trial as it was when it was drawn."""
    return create_trial(
        state=TrialState.RUNNING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=trial.user_attrs,
    )


def _tried(trial: FrozenTrial) -> Tried:
    diverged = trial.state is TrialState.COMPLETE and not math.isfinite(trial.values[0])
    outcome = Outcome.DIVERGED if diverged else _OUTCOMES[trial.state]
    value = trial.values[0] if outcome is Outcome.FINISHED else None
    return Tried(trial.number, trial.user_attrs[OPTIONS], outcome, value)


_STATES = {
    Outcome.FINISHED: TrialState.COMPLETE,
    Outcome.DIVERGED: TrialState.COMPLETE,
    Outcome.PRUNED: TrialState.PRUNED,
    Outcome.FAILED: TrialState.FAIL,
}
_OUTCOMES = {
    TrialState.COMPLETE: Outcome.FINISHED,
    TrialState.PRUNED: Outcome.PRUNED,
    TrialState.FAIL: Outcome.FAILED,
    TrialState.RUNNING: Outcome.OPEN,
    TrialState.WAITING: Outcome.OPEN,
}


def _pruner(subject: Subject) -> BasePruner:
    """Steps are epochs, counted through all seeds."""
    epochs = subject.experiment.epochs
    match subject.search.pruner:
        case "median":
            return MedianPruner(n_startup_trials=5, n_warmup_steps=math.ceil(epochs / 10))
        case "halving":
            first = epochs * len(subject.seeds) // KEPT_OF_HALVING**3
            return SuccessiveHalvingPruner(
                min_resource=max(1, first), reduction_factor=KEPT_OF_HALVING
            )
    return NopPruner()
