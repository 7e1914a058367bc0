"""The stages of a protocol, as functions of its plan and of run folders alone.

1. Every draw is trained with every seed of its study (``drawn_trials`` of a tuning).
2. In each study, of each optimizer, a setting is chosen (:func:`choices`).
3. What was chosen is trained with fresh seeds: :func:`slots` are known before, since how many there
   will be is, and :func:`resolve` says of each which trial it is, once that can be said.

Whoever asks gets the same answer, at any time, in any process, so that any of them can go on.
"""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from deltagclip_cli.core import listed, plural, standard_error
from deltagclip_cli.runs.folder import RunFolder, State

if TYPE_CHECKING:
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.tuning.studies import Draw, Tuning


class DrawState(StrEnum):
    """States of a draw, over all of its seeds."""

    FINISHED = "finished"
    PRUNED = "pruned"  # by a search, before the end of the training
    DIVERGED = "diverged"  # at one seed at least, or its value is not finite
    FAILED = "failed"  # at one seed at least
    OPEN = "not finished"
    UNMEASURED = "without the metric"


@dataclass(frozen=True)
class JudgedDraw:
    """A draw in the light of its run folders."""

    draw: Draw
    state: DrawState
    value: float | None  # the mean of the metric over its seeds; None unless all finished
    values: Sequence[float] = ()  # at each seed
    trials: Sequence[State] = ()  # what became of each seed

    @property
    def standard_error(self) -> float | None:
        """The standard error of the value over seeds; None for one seed."""
        return standard_error(self.values)


def judged(
    tuning: Tuning, draw: Draw, runs: Path, there: Collection[str] | None = None
) -> JudgedDraw:
    """Read what has become of a draw.

    Args:
        there: the names of the run folders of its label; None if nobody has listed them.
    """
    trials = tuning.trials(draw, tuning.search_seeds(draw.study))
    folders = [RunFolder.of(runs, trial) for trial in trials]
    begun = [
        folder.path.exists() if there is None else folder.path.name in there for folder in folders
    ]
    results = [
        folder.result() if each else None for folder, each in zip(folders, begun, strict=True)
    ]
    states = [
        State(result["status"]) if result else folder.state if each else State.NEW
        for folder, result, each in zip(folders, results, begun, strict=True)
    ]
    metric = tuning.protocol.metric
    finished = [
        result["last"]
        for result, state in zip(results, states, strict=True)
        if result and state is State.FINISHED
    ]
    values = [last.get(metric) for last in finished]
    state = _state(states, values, any(metric not in last for last in finished))
    if state is not DrawState.FINISHED:
        return JudgedDraw(draw, state, None, (), states)
    known = [value for value in values if value is not None]
    return JudgedDraw(draw, state, statistics.fmean(known), known, states)


def _state(states: Sequence[State], values: Sequence[float | None], unmeasured: bool) -> DrawState:
    if unmeasured:
        return DrawState.UNMEASURED
    if not all(state in (State.FINISHED, State.DIVERGED, State.FAILED) for state in states):
        return DrawState.OPEN
    if State.FAILED in states:
        return DrawState.FAILED
    if State.DIVERGED in states or None in values:
        return DrawState.DIVERGED
    return DrawState.FINISHED


def best_of(draws: Sequence[JudgedDraw], *, minimizes: bool) -> JudgedDraw | None:
    """Return the best of the draws that have a value; of equal ones, the first drawn."""
    there = [each for each in draws if each.value is not None]
    sign = 1 if minimizes else -1
    return min(there, key=lambda each: (sign * (each.value or 0.0), each.draw.number), default=None)


class FreshSlot(NamedTuple):
    """A place for a trial of the setting that will be chosen."""

    study: int
    label: str
    place: int  # among the fresh seeds of the study, from 0


@dataclass(frozen=True)
class Unresolved:
    """Says why a slot has no trial: not yet if it waits, else never as things are."""

    why: str  # in a sentence
    waits: bool


@dataclass(frozen=True)
class StudyChoice:
    """The setting that a study chooses for an optimizer, as far as its draws have ended."""

    study: int
    label: str
    draws: Sequence[JudgedDraw]
    minimizes: bool

    @cached_property
    def best(self) -> JudgedDraw | None:
        """The best of the draws that are finished; None if none is."""
        return best_of(self.draws, minimizes=self.minimizes)

    @cached_property
    def counts(self) -> Mapping[DrawState, int]:
        """The number of draws in each state."""
        return Counter(each.state for each in self.draws)

    @property
    def is_open(self) -> bool:
        """True as long as a draw has not ended."""
        return self.counts[DrawState.OPEN] > 0

    @cached_property
    def failures(self) -> int:
        """The number of trials that failed."""
        return sum(each.trials.count(State.FAILED) for each in self.draws)

    @property
    def refusal(self) -> str:
        """Say why nothing may follow from such draws; empty if something may."""
        trials = sum(len(each.trials) for each in self.draws)
        if self.failures and 2 * self.failures >= trials:
            failed = f"{self.failures} of {plural(trials, 'trial')} of {self.label} failed"
            return f"{failed}: a choice among the others would be of what happened to work"
        return ""

    @property
    def lack(self) -> str:
        """Say why there is no setting to choose; empty if there is one, or may still be."""
        if self.is_open or self.best is not None:
            return ""
        ends = [f"{n} {state}" for state, n in self.counts.items() if n]
        return f"no draw of {self.label} has a value ({listed(ends)})"


def choices(tuning: Tuning, runs: Path, study: int) -> list[StudyChoice]:
    """Read what a study chooses for each optimizer."""
    return [
        StudyChoice(
            study,
            label,
            [judged(tuning, draw, runs, there) for draw in tuning.draws_of(study, label)],
            tuning.minimizes,
        )
        for label in tuning.labels
        for there in [_names(runs / tuning.name / label)]
    ]


def _names(folder: Path) -> frozenset[str] | None:
    """List a folder; None if it cannot be, whose run folders are then looked at one by one."""
    try:
        return frozenset(os.listdir(folder))
    except FileNotFoundError:
        return frozenset()
    except OSError:
        return None


def obstacle(made: Sequence[StudyChoice]) -> Unresolved | None:
    """Return why a study goes no further than its draws; None if it does."""
    refusals = [each.refusal for each in made if each.refusal]
    if refusals:
        return Unresolved(f"{'; '.join(refusals)}.", waits=False)
    unmeasured = [each.label for each in made if each.counts[DrawState.UNMEASURED]]
    if unmeasured:
        why = f"the metric was not recorded by trials of {listed(unmeasured)}."
        return Unresolved(why, waits=False)
    left = sum(each.counts[DrawState.OPEN] for each in made)
    if left:
        total = sum(len(each.draws) for each in made)
        return Unresolved(f"{left} of {plural(total, 'draw')} are not finished.", waits=True)
    return None


def slots(tuning: Tuning) -> list[FreshSlot]:
    """Return the places of all trials on fresh seeds."""
    return [
        FreshSlot(study, label, place)
        for study in range(tuning.protocol.studies)
        for label in tuning.labels
        for place in range(tuning.protocol.fresh_seeds)
    ]


def resolve(tuning: Tuning, runs: Path, slot: FreshSlot) -> Trial | Unresolved:
    """Return the trial of a slot, or why there is none.

    It is the same for everybody from the moment at which the last draw of the study has ended.
    """
    return trial_in(tuning, choices(tuning, runs, slot.study), slot)


def trial_in(tuning: Tuning, made: Sequence[StudyChoice], slot: FreshSlot) -> Trial | Unresolved:
    """Return the trial of a slot by the choices of its study, or why there is none."""
    if (why := obstacle(made)) is not None:
        return why
    (choice,) = [each for each in made if each.label == slot.label]
    if choice.best is None:
        return Unresolved(f"{choice.lack}.", waits=False)
    return fresh_trials(tuning, choice)[slot.place]


def fresh_trials(tuning: Tuning, choice: StudyChoice) -> list[Trial]:
    """Return the trials of what was chosen, on fresh seeds; none if nothing was."""
    if choice.best is None:
        return []
    return tuning.trials(choice.best.draw, tuning.fresh_seeds(choice.study))
