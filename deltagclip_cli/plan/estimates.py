"""The time that trials take, by those that have ended, and the end of a sweep."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deltagclip_cli.spec.trial import stacks_with

if TYPE_CHECKING:
    from deltagclip_cli.plan.planned import Planned
    from deltagclip_cli.spec.trial import Trial

_Kind = tuple[Any, ...]


class Estimates:
    """The times that trials take, from finished ones of the same model on the same data.

    Others say nothing: of a trial that none of those is like, the time is unknown.
    """

    def __init__(self, planned: Iterable[Planned] = ()) -> None:
        # by the unit in which it is counted, the seconds that each took, and how many trials
        self._times: dict[_Kind, tuple[float, int]] = {}
        for each in planned:
            if each.result is not None:
                self.learn(each.trial, each.result)

    def learn(self, trial: Trial, result: Mapping[str, Any]) -> None:
        """Take ``result.json`` of a trial into account."""
        for unit in ("epoch", "step") if result["epochs"] else ():
            length = result[f"{unit}s"]
            if result.get("ended_early") is not None:  # as others like it may, of the same length
                length *= trial.length / result[f"{trial.unit}s"]
            each = result["seconds"]["epochs"] / length
            for kind in _kinds(trial):
                seconds, count = self._times.get((unit, *kind), (0.0, 0))
                self._times[unit, *kind] = seconds + each, count + 1

    def seconds(self, trial: Trial) -> float | None:
        """Return the time of a whole trial; None if none like it is finished.

        One of a stack takes as long as the stack, whose places cost the same when they are idle.
        """
        for kind in _kinds(trial):
            if (trial.unit, *kind) in self._times:
                seconds, count = self._times[trial.unit, *kind]
                return trial.length * seconds / count
        return None

    def of(self, unit: Iterable[Planned]) -> float | None:
        """Return the time of trials that run together; None if that of one is not known."""
        times = [self.seconds(each.trial) for each in unit]
        known = [each for each in times if each is not None]
        return max(known) if len(known) == len(times) else None


def _kinds(trial: Trial) -> tuple[_Kind, _Kind]:
    """Return what trials that take equally long have in common: first the closest, then all."""
    parts = (trial.canonical[key] for key in ("model", "data", "task", "precision"))
    ways = (trial.evaluate_every, trial.accumulate, trial.ema is None, trial.stack)
    ranks = (trial.devices, trial.nodes, trial.parallel)
    end = trial.early_stopping, trial.length if trial.early_stopping else None
    kin = (*parts, trial.certificate, *ways, *ranks, *end)
    return (trial.optimizer.name, *kin), kin


class Outlook:
    """The time that is left of a sweep, as far as that is known.

    Args:
        taken: says how many of the slots a trial takes.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        estimates: Estimates,
        slots: int,
        taken: Callable[[Trial], int] = lambda trial: 1,
    ) -> None:
        self._estimates = estimates
        self._slots, self._taken = slots, taken
        self._left = Counter(map(_length, trials))
        self._examples = {_length(trial): trial for trial in trials}

    def ended(self, trial: Trial, result: Mapping[str, Any] | None) -> None:
        """Count a trial that has ended, with a result if it came to one."""
        self._left[_length(trial)] -= 1
        if result is not None:
            self._estimates.learn(trial, result)

    def seconds(self, running: Sequence[tuple[Sequence[Trial], float | None]]) -> float | None:
        """Return how long it will take; None if that of one trial is not known.

        Trials that are ``running`` together come with the seconds that they say are left.
        """
        waiting = self._left - Counter(_length(trial) for unit, _ in running for trial in unit)
        times = [_times(seconds, self._taken(unit[0])) for unit, seconds in running]
        stacks = defaultdict[Hashable, _Stack](_Stack)
        for length, count in waiting.items():
            trial = self._examples[length]
            seconds = self._estimates.seconds(trial)
            if trial.stack is None or seconds is None:
                times.append(_times(seconds, count * self._taken(trial)))
            else:
                stacks[stacks_with(trial)].add(count, trial.stack, seconds)
        times += [each.seconds for each in stacks.values()]
        known = [each for each in times if each is not None]
        return sum(known) / self._slots if len(known) == len(times) else None


def _times(seconds: float | None, count: int) -> float | None:
    return None if seconds is None else count * seconds


@dataclass
class _Stack:
    """Trials that wait and stack with each other."""

    count: int = 0
    width: int = 1
    longest: float = 0.0  # of their times in seconds

    def add(self, count: int, width: int, seconds: float) -> None:
        self.count, self.width = self.count + count, width
        self.longest = max(self.longest, seconds)

    @property
    def seconds(self) -> float:
        return -(-self.count // self.width) * self.longest


def _length(trial: Trial) -> _Kind:
    return (trial.length, trial.unit, *_kinds(trial)[0])


def longest_first(trials: Sequence[Planned], estimates: Estimates) -> list[Planned]:
    """Order trials so that slots become free at about the same time; unknown ones come first."""

    def length(planned: Planned) -> float:
        seconds = estimates.seconds(planned.trial)
        return float("inf") if seconds is None else seconds

    return sorted(trials, key=length, reverse=True)


def spread(
    units: Sequence[tuple[float | None, int]], slots: int
) -> tuple[list[tuple[int, ...]], float | None]:
    """Give each unit, in order, to the slots that are free first.

    Args:
        units: the seconds that each takes, and how many slots.

    Returns:
        The slots of each unit, and when the last is done of which the time is known, as if there
        were no others; None if no time is known.
    """
    free = [(0.0, 0, slot) for slot in range(slots)]
    chosen = []
    for seconds, wanted in units:
        taken = [heapq.heappop(free) for _ in range(min(wanted, slots))]
        end = max(at for at, _, _ in taken) + (seconds or 0.0)
        chosen.append(tuple(sorted(slot for _, _, slot in taken)))
        for _, before, slot in taken:
            heapq.heappush(free, (end, before + 1, slot))
    known = any(seconds is not None for seconds, _ in units)
    return chosen, max(at for at, _, _ in free) if known else None
