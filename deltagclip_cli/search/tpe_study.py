"""One study of Optuna: what was tried for one optimizer, what came of it, what to try next.

Optuna's journal is the record. A setting stands in it, whole, from the moment it is drawn; what it
comes to after each epoch and how it ends follow. The next choice and every verdict depend on what
is written there and on nothing else, such as the moment at which an earlier search was killed.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from deltagclip_cli.core import RunFolderError, derive_seed, file_status, read_file
from deltagclip_cli.search.searched import Tried
from deltagclip_cli.spec.axes import (
    Choice,
    Distribution,
    Uniform,
    rounded,
)
from deltagclip_cli.spec.trial import differing_keys
from deltagclip_cli.tuning.stages import DrawState

if TYPE_CHECKING:
    from deltagclip_cli.search.searched import SearchedOptimizer

optuna.logging.set_verbosity(optuna.logging.WARNING)

OPTIONS = "options"  # the attributes of trials and studies that are ours
PREMISES = "premises"
KEPT_OF_HALVING = 3  # one in so many
DIGITS = 6

_MOST_BYTES = 2**30  # of a journal


class Study:
    """The settings that are tried for one optimizer.

    The journal is made or mended as need be. Only who has claimed the search may open it.
    """

    def __init__(self, searched: SearchedOptimizer, file: Path) -> None:
        self.searched = searched
        self._file = file
        with _writing(file):
            _cut_off_half_a_line(file)
            try:
                self._study = _load(searched, file)
            except KeyError:  # nothing was drawn for this optimizer
                self._study = optuna.create_study(
                    storage=_storage(file),
                    study_name=searched.label,
                    direction=searched.search.direction,
                    pruner=_pruner(searched),
                )
            if PREMISES not in self._study.user_attrs:
                self._study.set_user_attr(PREMISES, searched.premises)

    @property
    def begun(self) -> int:
        """The number of settings that were drawn."""
        return len(self._trials())

    @property
    def ended(self) -> int:
        """The number of those that have ended."""
        return sum(each.outcome is not DrawState.OPEN for each in self.tried())

    def tried(self) -> list[Tried]:
        """Everything that was drawn, in this order."""
        return list(map(_tried, self._trials()))

    def draw(self) -> Tried:
        """Choose the next setting and write down that it is begun."""
        search, space = self.searched.search, self.searched.space
        seed = derive_seed(search.seed, "search", self.searched.label, self.begun) % 2**32
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # options that older versions call experimental
            sampler = TPESampler(seed=seed, multivariate=True, constant_liar=True)
        # In memory, for the journal is to have all of a setting in one line, or nothing of it.
        memory = optuna.create_study(sampler=sampler, direction=search.direction)
        memory.add_trials(self._trials())
        drawn = memory.ask(as_optuna(space))
        options = chosen(space, drawn.params)
        begun = create_trial(
            state=TrialState.RUNNING,
            params=drawn.params,
            distributions=drawn.distributions,
            user_attrs={OPTIONS: options},
        )
        with _writing(self._file):
            self._study.add_trial(begun)
        return Tried(drawn.number, options, DrawState.OPEN, None)

    def report(self, number: int, step: int, value: float) -> bool:
        """Tell what a setting has come to at a step; return whether it is to be given up."""
        known = self._trials()[number].intermediate_values
        trial = Trial(self._study, self._trials()[number]._trial_id)
        if step not in known:
            with _writing(self._file):
                trial.report(value, step)
        # That it went on behind a step is decided, whatever others have come to since.
        return step >= max(known, default=0) and trial.should_prune()

    def finish(self, number: int, outcome: DrawState, value: float | None = None) -> None:
        """Tell what became of a setting; one that diverged is as bad as can be."""
        if outcome is DrawState.DIVERGED:
            value = math.inf if self.searched.minimizes else -math.inf
        with _writing(self._file):
            self._study.tell(number, value, state=_STATES[outcome])

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)


def read_tried(searched: SearchedOptimizer, file: Path) -> list[Tried]:
    """Read the settings tried so far, whether a search goes on or not."""
    try:
        file_status(file)
        study = _load(searched, file)
    except (FileNotFoundError, KeyError):  # there is no journal, or in it no study of this name
        return []
    except OSError as error:
        raise _no_journal(file, error.strerror) from None
    return list(map(_tried, study.get_trials(deepcopy=False)))


def _load(searched: SearchedOptimizer, file: Path) -> optuna.Study:
    """The study in a journal; a KeyError if there is none."""
    study = optuna.load_study(
        study_name=searched.label, storage=_storage(file), pruner=_pruner(searched)
    )
    then = study.user_attrs.get(PREMISES)
    if then is None and not study.get_trials(deepcopy=False):
        return study
    differences = ["all of it"] if then is None else differing_keys(then, searched.premises)
    if differences:
        raise RunFolderError(
            f"{file}: the search of {searched.label} there was made from another spec: "
            f"{', '.join(differences)}.\n"
            "  Move that file away to search anew, or name another folder with --runs DIR."
        )
    return study


def _tried(trial: FrozenTrial) -> Tried:
    diverged = trial.state is TrialState.COMPLETE and not math.isfinite(trial.values[0])
    outcome = DrawState.DIVERGED if diverged else _OUTCOMES.get(trial.state, DrawState.OPEN)
    value = trial.values[0] if outcome is DrawState.FINISHED else None
    return Tried(trial.number, trial.user_attrs[OPTIONS], outcome, value)


_OUTCOMES = {
    TrialState.COMPLETE: DrawState.FINISHED,
    TrialState.PRUNED: DrawState.PRUNED,
    TrialState.FAIL: DrawState.FAILED,
}
_STATES = {each: state for state, each in _OUTCOMES.items()} | {
    DrawState.DIVERGED: TrialState.COMPLETE
}


def _pruner(searched: SearchedOptimizer) -> BasePruner:
    """Steps are evaluations, counted through all seeds."""
    rounds = searched.least_rounds
    match searched.search.pruner:
        case "median":
            return MedianPruner(n_startup_trials=5, n_warmup_steps=math.ceil(rounds / 10))
        case "halving":
            return Halving(max(1, rounds * len(searched.seeds) // KEPT_OF_HALVING**3))
    return NopPruner()


class Halving(BasePruner):
    """Asynchronous successive halving that looks at nothing but the values told at its rungs.

    Optuna's own writes into the study which rungs a trial has passed, and takes one that is asked
    about again, after a kill, to have passed. From the ``first`` rung on, each is KEPT_OF_HALVING
    times as far as the one before.

    Source: Li et al. (2020), arXiv 1810.05934.
    """

    def __init__(self, first: int) -> None:
        self._rungs = {first * KEPT_OF_HALVING**rung for rung in range(32)}

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether a trial is not among the best that came to its last step."""
        step = trial.last_step
        if step is None or step not in self._rungs:
            return False
        sign = 1 if study.direction is optuna.study.StudyDirection.MINIMIZE else -1
        there = [each.intermediate_values for each in study.get_trials(deepcopy=False)]
        ranked = sorted(sign * each[step] for each in there if step in each)
        kept = max(1, len(ranked) // KEPT_OF_HALVING)
        return sign * trial.intermediate_values[step] > ranked[kept - 1]


def as_optuna(space: Mapping[str, Distribution]) -> dict[str, BaseDistribution]:
    """The distributions that Optuna draws from."""
    made: dict[str, BaseDistribution] = {}
    for option, distribution in space.items():
        match distribution:
            case Uniform(int(low), int(high), log):
                made[option] = IntDistribution(low, high, log=log)
            case Uniform(low, high, log):
                made[option] = FloatDistribution(low, high, log=log)
            case Choice(values):
                made[option] = CategoricalDistribution(list(_by_name(values)))
    return made


def chosen(space: Mapping[str, Distribution], params: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a choice of Optuna's stands for; real numbers with few digits."""
    options = dict(params)
    for option, distribution in space.items():
        match distribution:
            case Uniform(float(low), float(high)):
                options[option] = min(max(rounded(params[option], DIGITS), low), high)
            case Choice(values):
                options[option] = _by_name(values)[params[option]]
    return options


def _by_name(values: tuple[Any, ...]) -> dict[str, Any]:
    """Values by words of which no two are equal, as 1, 1.0 and true would be."""
    return {json.dumps(value, default=str): value for value in values}


class _Unlocked(JournalFileOpenLock):
    """No lock: who writes the journal has claimed the search."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None: ...


def _storage(file: Path) -> JournalStorage:
    try:
        return JournalStorage(JournalFileBackend(str(file), lock_obj=_Unlocked(str(file))))
    except OSError:
        raise
    except Exception as error:  # whatever Optuna meets in records that it has not written
        raise _no_journal(file, error) from None


def _no_journal(file: Path, why: object) -> RunFolderError:
    return RunFolderError(
        f"{file}: not a journal of a search: {why}.\n"
        "  Move it away; the same search then reads what its run folders hold, and goes on."
    )


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunFolderError(
            f"{file}: the journal of the search cannot be written: {error.strerror}.\n"
            "  Free space or permissions there; the same command then goes on."
        ) from None


def _cut_off_half_a_line(file: Path) -> None:
    """Mend a journal that a killed process was writing; Optuna would append and never read again.

    What the line told is told anew, from the run folders.
    """
    try:
        data = read_file(file, _MOST_BYTES)
    except FileNotFoundError:
        return
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with file.open("r+b") as journal:
            journal.truncate(whole)
            os.fsync(journal.fileno())
