"""What there is to run: every trial of some experiments, what has become of it, how long it takes.

Torch is not needed to know it: 10,000 trials are looked up in a second.
"""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deltagclip_cli.runs.folder import ENDED, RunFolder, State
from deltagclip_cli.runs.heartbeat import is_worked_on
from deltagclip_cli.spec.trial import Trial, distinguished


@dataclass(frozen=True)
class QueueState:
    """The state of a trial by its files and by what else works on it.

    Args:
        state: of the trial.
        reason: why, if the queue knows that better than the files; else empty.
        in_a_job: whether it waits or runs in a job, or may do so.
        where: the machine that it runs on, as far as that is known.
        job: what the queue tells of the job, for programs; None if it tells nothing.
    """

    state: State
    reason: str = ""
    in_a_job: bool = False
    where: str = ""
    job: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Elsewhere:
    """Trials that others were told to run; in itself none. The queue of a cluster says which.

    Args:
        problem: why the queue cannot be asked; empty if it was, or need not be.
        unread: lists of trials that cannot be read, a sentence each.
    """

    problem: str = ""
    unread: Sequence[str] = ()

    @property
    def experiments(self) -> Sequence[str]:
        """The names of the experiments that these trials are of."""
        return ()

    def awaited(self, experiment: str) -> Sequence[str]:
        """The run folders, relative to the runs folder, of trials that wait or run."""
        return ()

    def standing(self, name: str, folder: RunFolder, state: State) -> QueueState:
        """Add what is known of a trial to what its files say.

        Args:
            name: of its run folder, relative to the runs folder.
            folder: its run folder.
            state: what the files there say.
        """
        return QueueState(state)

    def hint(self, waiting: Sequence[QueueState]) -> str:
        """Say how trials that wait for the same reason are let go; empty if they need no help."""
        return ""


NOBODY = Elsewhere()


@dataclass(frozen=True)
class Planned:
    """A trial, its folder, and what the files there said when it was planned.

    Args:
        trial: what to run.
        folder: where.
        state: of the folder; or what the queue of a cluster knows better.
        settings: what tells its setting from others of the same optimizer, such as ``lr=0.1``.
        result: what ``result.json`` holds, if the trial is finished or diverged.
        standing: with the queue; None if nobody has asked.
        afresh: delete what is in the folder and start again, once nothing speaks against it.
    """

    trial: Trial
    folder: RunFolder
    state: State
    settings: str = ""
    result: Mapping[str, Any] | None = None
    standing: QueueState | None = None
    afresh: bool = False

    @property
    def reason(self) -> str:
        """Why it is in that state, in one line; empty if there is nothing to be said."""
        if self.standing is not None and self.standing.reason:
            return self.standing.reason
        return "" if self.state in (State.NEW, State.FINISHED) else self.folder.reason

    @property
    def in_a_job(self) -> bool:
        """Whether it waits or runs in a job of a cluster, or may do so."""
        return self.standing is not None and self.standing.in_a_job

    @property
    def label(self) -> str:
        """Of the optimizer."""
        return self.trial.label

    @property
    def name(self) -> str:
        """As shown to people."""
        return f"{self.trial.experiment} · {self.short_name}"

    @property
    def short_name(self) -> str:
        """As shown where the experiment is known."""
        settings = f" · {self.settings}" if self.settings else ""
        return f"{self.trial.label} · seed {self.trial.seed}{settings}"


def look_up(trials: Sequence[Trial], runs: Path, elsewhere: Elsewhere = NOBODY) -> list[Planned]:
    """Look up what has become of trials.

    A result that belongs to another trial counts as none; the worker will say what differs.

    Args:
        trials: all of a plan.
        runs: the runs folder.
        elsewhere: knows which of them wait or run in jobs.
    """
    there: dict[Path, frozenset[str] | None] = {}
    settings = distinguished(trials)
    planned = []
    for trial in trials:
        folder = RunFolder.of(runs, trial)
        parent = folder.path.parent
        if parent not in there:
            there[parent] = _names(parent)
        names = there[parent]
        state, result = _state(trial, folder, names is None or folder.path.name in names)
        words = settings[trial.experiment, trial.label, trial.setting_hash]
        standing = elsewhere.standing(str(trial.folder), folder, state)
        planned.append(Planned(trial, folder, standing.state, words, result, standing))
    return planned


def _names(folder: Path) -> frozenset[str] | None:
    """What is in a folder, of which each run folder tells why where that cannot be known."""
    try:
        return frozenset(os.listdir(folder))
    except FileNotFoundError:
        return frozenset()
    except OSError:
        return None


def _state(trial: Trial, folder: RunFolder, exists: bool) -> tuple[State, Mapping[str, Any] | None]:
    if not exists:
        return State.NEW, None
    result = folder.result()
    if result is None:
        return State.RUNNING if is_worked_on(folder) else folder.state, None
    if result.get("identity") != trial.identity:
        return State.NEW, None
    return State(result["status"]), result


def pending(
    planned: Iterable[Planned], *, retry_failed: bool = False, force: bool = False
) -> list[Planned]:
    """The trials that are to be run: all but those that ended, as far as nothing else is asked.

    What is in the queue of a cluster is left to it, whatever is asked.

    Args:
        planned: the trials.
        retry_failed: also those that failed.
        force: all of them, from their beginnings.
    """
    skipped = set(ENDED) - ({State.FAILED} if retry_failed else set())
    return [
        replace(each, afresh=force)
        for each in planned
        if (force or each.state not in skipped) and not each.in_a_job
    ]


class Estimates:
    """How long trials take, from finished ones of the same model on the same data.

    Others say nothing: of a trial that none of those is like, the time is unknown.

    Args:
        planned: trials, of which the finished ones are learnt from.
    """

    def __init__(self, planned: Iterable[Planned] = ()) -> None:
        self._times: dict[_Kind, tuple[float, int]] = {}  # seconds of epochs, and how many
        for each in planned:
            if each.result is not None:
                self.learn(each.trial, each.result)

    def learn(self, trial: Trial, result: Mapping[str, Any]) -> None:
        """Take what ``result.json`` says of a trial into account."""
        if result["epochs"]:
            epoch = result["seconds"]["epochs"] / result["epochs"]
            for kind in _kinds(trial):
                seconds, count = self._times.get(kind, (0.0, 0))
                self._times[kind] = seconds + epoch, count + 1

    def seconds(self, trial: Trial) -> float | None:
        """The time of a whole trial; None if none like it is finished."""
        for kind in _kinds(trial):
            if kind in self._times:
                seconds, count = self._times[kind]
                return trial.epochs * seconds / count
        return None


_Kind = tuple[Any, ...]


def _kinds(trial: Trial) -> tuple[_Kind, _Kind]:
    """What trials that take equally long have in common: first the closest kin, then all kin."""
    parts = (trial.canonical[key] for key in ("model", "data", "task", "precision"))
    kin = (*parts, trial.certificate)
    return (trial.optimizer.name, *kin), kin


class Outlook:
    """When a sweep will be done, as far as that is known.

    Args:
        trials: that are to be run, or as many that take as long.
        estimates: of their times, which are bettered by every trial that ends.
        slots: how many run at once.
    """

    def __init__(self, trials: Sequence[Trial], estimates: Estimates, slots: int) -> None:
        self._estimates = estimates
        self._slots = slots
        self._left = Counter(map(_length, trials))
        self._examples = {_length(trial): trial for trial in trials}

    def ended(self, trial: Trial, result: Mapping[str, Any] | None) -> None:
        """A trial has ended, with a result if it came to one."""
        self._left[_length(trial)] -= 1
        if result is not None:
            self._estimates.learn(trial, result)

    def seconds(self, running: Sequence[tuple[Trial, float | None]]) -> float | None:
        """How long it will take; None if that of one trial is not known.

        Args:
            running: the trials that run now, each with the seconds that it says are left.
        """
        waiting = self._left - Counter(_length(trial) for trial, _ in running)
        times = [seconds for _, seconds in running]
        for length, count in waiting.items():
            seconds = self._estimates.seconds(self._examples[length])
            times.append(None if seconds is None else count * seconds)
        known = [each for each in times if each is not None]
        return sum(known) / self._slots if len(known) == len(times) else None


def _length(trial: Trial) -> _Kind:
    return (trial.epochs, *_kinds(trial)[0])


def longest_first(trials: Sequence[Planned], estimates: Estimates) -> list[Planned]:
    """Order trials so that slots become free at about the same time; unknown ones come first."""

    def length(planned: Planned) -> float:
        seconds = estimates.seconds(planned.trial)
        return float("inf") if seconds is None else seconds

    return sorted(trials, key=length, reverse=True)


def spread(seconds: Sequence[float | None], slots: int) -> tuple[list[int], float | None]:
    """Give each trial, in order, to the slot that is free first.

    Args:
        seconds: the time of each trial; those that are unknown are dealt out in turn.
        slots: how many run at once.

    Returns:
        The slot of each trial, and when the last is done of which the time is known, as if there
        were no others; None if no time is known.
    """
    free = [(0.0, 0, slot) for slot in range(slots)]
    chosen = []
    for each in seconds:
        at, trials, slot = heapq.heappop(free)
        chosen.append(slot)
        heapq.heappush(free, (at + (each or 0.0), trials + 1, slot))
    known = any(each is not None for each in seconds)
    return chosen, max(at for at, _, _ in free) if known else None
