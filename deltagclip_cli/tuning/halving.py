"""Successive halving: which settings train on, as a function of what their run folders hold.

All settings train up to the first rung; when all are there, one in three of them, the best, trains
on to the next, and so on. What stands at a rung, and who is promoted, follows from the values of
that rung alone: not from what came to pass behind it, nor from the order in which settings got
there. So every process that looks finds the same, however often others were killed.

Source: Jamieson and Talwalkar (2016), arXiv 1502.07943, in rounds of evaluation.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import EVALUATED, UsageError
from deltagclip_cli.runs.folder import RunFolder, State

if TYPE_CHECKING:
    from deltagclip_cli.spec.trial import Course, Trial


_PROOF_OF_EVALUATION = "test/loss"  # of a record that has all metrics of its task


def rounds_in(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the records that end with an evaluation, or with a divergence."""
    return [record for record in folder.metrics() if "train/loss" in record]


def course_of(trial: Trial, record: Mapping[str, Any]) -> Course:
    """Return the way of a training, by one of its records."""
    return trial.course(max(1, round(record["step"] / record["epoch"])))


def value_in(record: Mapping[str, Any], metric: str) -> float | None:
    """Return the value of a metric in a record or a result; None if it is not finite.

    Raises:
        UsageError: such trials do not measure it.
    """
    if metric not in record and record.get(_PROOF_OF_EVALUATION) is not None:
        sets = ("train", *EVALUATED)
        there = ", ".join(name for name in record if name.partition("/")[0] in sets)
        raise UsageError(
            f"search.metric: {metric} is not measured by these trials.\n  metrics: {there}"
        )
    value = record.get(metric)
    return value if value is not None and math.isfinite(value) else None


ETA = 3  # one in so many is promoted
_MOST_PROMOTIONS = 3  # before less than 1/27 of a training, values say little of its end


@dataclass(frozen=True)
class Rung:
    """A place in the training at which settings are compared; the last one is its end."""

    number: int  # from 0
    slots: int  # how many settings train up to it at most
    part: int  # it lies where one in so many evaluations are made

    @property
    def is_last(self) -> bool:
        """True of the end of the training."""
        return self.part == 1


def rungs_of(settings: int, rounds: int, *, halves: bool = True) -> tuple[Rung, ...]:
    """Return the rungs for so many settings; where nothing is halved, there is only the last.

    Args:
        rounds: how many evaluations a training has, or the least number, where the data must tell.
    """
    promotions = 0
    while halves and promotions < _MOST_PROMOTIONS and ETA ** (promotions + 1) <= rounds:
        promotions += 1
    if halves and rounds == 2:
        promotions = 1
    return tuple(
        Rung(number, max(1, settings // ETA**number), ETA ** (promotions - number))
        for number in range(promotions + 1)
    )


def part_of(rounds: int, part: int) -> int:
    """Return how many of the evaluations of a training one in so many are: one at least."""
    return max(1, rounds // part)


@dataclass(frozen=True)
class AtRung:
    """The value that a setting, or one seed of it, has come to at a rung."""

    value: float | None  # of the metric; None if it is not finite
    lives: bool  # whether it can train on: it has not diverged or failed on the way
    place: str = ""  # in words, such as ``epoch 3/27``


_ENDED = AtRung(None, lives=False)


@dataclass(eq=False)
class Bracket:
    """The settings of one optimizer that are halved together.

    What is known of a rung is kept: it stays as it is.

    Args:
        settings: each with its trials, one for each seed; no two are the same.
        runs: the runs folder.
        metric: whose mean over the seeds is compared.
        minimizes: whether less is better.
        rungs: as :func:`rungs_of` returns them.
    """

    settings: Sequence[Sequence[Trial]]
    runs: Path
    metric: str
    minimizes: bool
    rungs: Sequence[Rung]
    _known: dict[tuple[int, str], AtRung] = field(default_factory=dict, init=False)
    _members: dict[int, list[int]] = field(default_factory=dict, init=False)

    def at(self, trial: Trial, rung: Rung) -> AtRung | None:
        """Return what a trial has come to at a rung; None if it is not there yet."""
        key = (rung.number, trial.folder)
        if key not in self._known:
            there = standing(trial, self.runs, rung, self.metric)
            if there is None:
                return None
            self._known[key] = there
        return self._known[key]

    def open(self, rung: Rung) -> list[Trial]:
        """Return the trials that have not come to a rung, of the settings that are to."""
        return [
            trial
            for number in self.members(rung) or ()
            for trial in self.settings[number]
            if self.at(trial, rung) is None
        ]

    def members(self, rung: Rung) -> list[int] | None:
        """Return the settings that train up to a rung, by their numbers; None if that is open.

        They are not more than its ``slots``, and a setting's place among them is its slot.
        """
        if rung.number not in self._members:
            if rung.number == 0:
                found: list[int] | None = list(range(len(self.settings)))
            else:
                found = self._promoted(self.rungs[rung.number - 1], rung.slots)
            if found is None:
                return None
            self._members[rung.number] = found
        return self._members[rung.number]

    def _promoted(self, rung: Rung, slots: int) -> list[int] | None:
        members = self.members(rung)
        if members is None or self.open(rung):
            return None
        there = {number: self.standing(number, rung) for number in members}
        return best({number: each for number, each in there.items() if each}, slots, self.minimizes)

    def standing(self, number: int, rung: Rung) -> AtRung | None:
        """Return what a setting has come to at a rung, over all of its seeds; None if open."""
        seeds = [self.at(trial, rung) for trial in self.settings[number]]
        there = [each for each in seeds if each is not None]
        if len(there) < len(seeds):
            return None
        values = [each.value for each in there if each.value is not None]
        value = statistics.fmean(values) if len(values) == len(there) else None
        return AtRung(value, all(each.lives for each in there), there[0].place)

    def current(self) -> Rung:
        """Return the rung that settings train up to now; the last one if all have ended."""
        for rung in self.rungs:
            if self.open(rung):
                return rung
        return self.rungs[-1]

    def left(self) -> dict[int, Rung]:
        """Return the settings that were not promoted, by their numbers, with their last rungs."""
        found: dict[int, Rung] = {}
        for rung, following in pairwise(self.rungs):
            promoted = self.members(following)
            if promoted is None:
                break
            found |= dict.fromkeys({*(self.members(rung) or ())} - {*promoted}, rung)
        return found

    def why_left(self, number: int, rung: Rung) -> str:
        """Say why a setting was not promoted at a rung."""
        there, members = self.standing(number, rung), self.members(rung) or ()
        assert there is not None, "whoever is left has come to the rung"
        value = "not finite" if there.value is None else f"{there.value:.4g}"
        slots = min(self.rungs[rung.number + 1].slots, len(members))
        best_of = f"the best {slots} of {len(members)}" if slots > 1 else f"best of {len(members)}"
        among = "among " if slots > 1 else "the "
        place = f" at {there.place}" if there.place else ""
        return f"search: {self.metric} {value}{place} is not {among}{best_of}"


def best(there: Mapping[int, AtRung], slots: int, minimizes: bool) -> list[int]:
    """Return the numbers of the best settings that can train on, in their order.

    A value that is not finite is worse than any; of equal ones, the first drawn is better.
    """
    sign = 1 if minimizes else -1

    def rank(number: int) -> tuple[float, int]:
        value = there[number].value
        return (math.inf if value is None else sign * value, number)

    alive = [number for number, each in there.items() if each.lives]
    return sorted(sorted(alive, key=rank)[:slots])


def standing(trial: Trial, runs: Path, rung: Rung, metric: str) -> AtRung | None:
    """Read what a trial has come to at a rung; None if it is not there yet.

    What it comes to behind the rung changes nothing of that.
    """
    folder = RunFolder.of(runs, trial)
    result = folder.result()
    if result is not None and result.get("identity") != trial.identity:
        return None  # another trial's, as the worker will say
    if rung.is_last:
        if result is not None and result["status"] == State.FINISHED:
            return AtRung(value_in(result["last"], metric), lives=True)
        return _ENDED if result is not None or folder.state is State.FAILED else None
    records = rounds_in(folder)
    if records:
        course = course_of(trial, records[0])
        number = part_of(course.rounds(course.steps), rung.part)
        status = None if result is None else result["status"]
        if status == State.FINISHED:  # perhaps before, as it became no better
            number = min(number, len(records))
        if len(records) >= number and not (status == State.DIVERGED and len(records) == number):
            record = records[number - 1]
            place = course.told(record["step"]).partition("/")[0]
            return AtRung(value_in(record, metric), lives=True, place=place)
    return _ENDED if result is not None or folder.state is State.FAILED else None
