"""The trials that there are to run, their states and units, and what else a runs folder holds.

Torch is not needed to know it: 10,000 trials are looked up in a second.
"""

from __future__ import annotations

import math
import os
import re
import statistics
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from deltagclip_cli.core import RunFolderError, UsageError, plural, standard_error, subfolders
from deltagclip_cli.runs.folder import (
    ENDED,
    Heartbeat,
    RunFolder,
    State,
    is_worked_on,
    last_heartbeat,
    read_heartbeat,
)
from deltagclip_cli.spec.ranks_settings import said_of_ranks
from deltagclip_cli.spec.trial import Trial, distinguished, stacks_with
from deltagclip_cli.tuning.lock import read_lock

_OUTSIDE = "settings outside of the spec"
_RUN = re.compile(r"seed-(\d+)-[0-9a-f]{8}")


@dataclass(frozen=True)
class QueueState:
    """The state of a trial by its files and by what else works on it."""

    state: State
    reason: str = ""  # why, if the queue knows that better than the files; else empty
    in_a_job: bool = False  # whether it waits or runs in a job, or may do so
    where: str = ""  # the machine that it runs on, as far as that is known
    # What the queue tells of the job, for programs; None if it tells nothing
    job: Mapping[str, Any] | None = None

    def reason_in(self, folder: RunFolder) -> str:
        """Say why it is in that state, in a line; empty if there is nothing to be said."""
        is_plain = self.state in (State.NEW, State.RUNNING)
        return self.reason or ("" if is_plain else folder.reason)


@dataclass(frozen=True)
class Elsewhere:
    """Trials that others were told to run; in itself none. The queue of a cluster says which."""

    problem: str = ""  # why the queue cannot be asked; empty if it was, or need not be
    unread: Sequence[str] = ()  # lists of trials that cannot be read, a sentence each

    @property
    def experiments(self) -> Sequence[str]:
        """The names of the experiments that these trials are of."""
        return ()

    def awaited(self, experiment: str) -> Sequence[str]:
        """The run folders, relative to the runs folder, of trials that wait or run."""
        return ()

    def standing(self, name: str, folder: RunFolder, state: State) -> QueueState:
        """Add what is known of a trial, ``name`` below the runs folder, to what its files say."""
        return QueueState(state)

    def hint(self, waiting: Sequence[QueueState]) -> str:
        """Say how trials that wait for the same reason are let go; empty if they need no help."""
        return ""


NOBODY = Elsewhere()


@dataclass(frozen=True)
class Planned:
    """A trial, its folder, and what was known of it when it was planned."""

    trial: Trial
    folder: RunFolder
    standing: QueueState  # by its files, or what the queue of a cluster knows better
    # What tells its setting from others of the same optimizer, such as ``lr=0.1``
    variant: str = ""
    # What ``result.json`` holds, if the trial is finished or diverged
    result: Mapping[str, Any] | None = None
    # Delete what is in the folder and start again, once nothing speaks against it
    afresh: bool = False
    # Train until one in so many of its evaluations is made, and stop there with a checkpoint
    part: int = 1

    @property
    def state(self) -> State:
        return self.standing.state

    @property
    def reason(self) -> str:
        """The reason of its state, in one line; empty if there is nothing to be said."""
        return self.standing.reason_in(self.folder)

    @property
    def label(self) -> str:
        return self.trial.label

    @cached_property
    def stack_key(self) -> Hashable | None:
        """The mark of those that may train in one stack with it; None if it trains alone."""
        key = stacks_with(self.trial)
        return key and (key, self.afresh, self.part)  # which are one for all that a worker runs

    @property
    def name(self) -> str:
        """The name that is shown to people."""
        return f"{self.trial.experiment} · {self.short_name}"

    @property
    def short_name(self) -> str:
        """The name where the experiment is known."""
        variant = f" · {self.variant}" if self.variant else ""
        return f"{self.trial.label} · seed {self.trial.seed}{variant}"


def look_up(trials: Sequence[Trial], runs: Path, elsewhere: Elsewhere = NOBODY) -> list[Planned]:
    """Look up what has become of all trials of a plan.

    A result that belongs to another trial counts as none; the worker will say what differs.
    """
    names_in = cache(_names)
    settings = distinguished(trials)
    planned = []
    for trial in trials:
        folder = RunFolder.of(runs, trial)
        names = names_in(folder.path.parent)
        state, result = _state(trial, folder, names is None or folder.path.name in names)
        words = settings[trial.experiment, trial.label, trial.setting_hash]
        standing = elsewhere.standing(str(trial.folder), folder, state)
        planned.append(Planned(trial, folder, standing, words, result))
    return planned


def _names(folder: Path) -> frozenset[str] | None:
    """List a folder; None where that cannot be done, of which each run folder tells the reason."""
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
    """Choose the trials to run: those that have not ended, and failed ones or all if so asked.

    What is in the queue of a cluster is left to it. ``force`` begins all of them afresh.
    """
    skipped = set(ENDED) - ({State.FAILED} if retry_failed else set())
    return [
        replace(each, afresh=force)
        for each in planned
        if (force or each.state not in skipped) and not each.standing.in_a_job
    ]


Unit = tuple[Planned, ...]
"""Trials that train in one stack, or a single one; empty where there is none."""

Fits = Callable[[Planned], bool]
"""Says whether there is room for a trial at the moment."""


def has_room(planned: Planned) -> bool:
    """Say of any trial that there is room for it."""
    return True


@dataclass(frozen=True)
class Assignment:
    """The place of a trial in a plan; trials of one ``unit`` train in one stack."""

    unit: int  # its number, from 1, in the order of starting
    is_stack: bool
    slot: str
    seconds: float | None  # that the unit takes, if that is known

    def __str__(self) -> str:
        return f"{self.slot} (stack {self.unit})" if self.is_stack else self.slot


def take_unit(
    pending: deque[Planned],
    is_ours: Callable[[Planned], bool] = lambda each: True,
    fits: Fits = has_room,
) -> Unit:
    """Take the first trial of a queue that fits, and those behind it that stack with it.

    Args:
        is_ours: asked of each that is taken; what it says no to is left out.
        fits: asked of each in its order; what it says no to keeps its place.
    """
    unit: list[Planned] = []
    others: deque[Planned] = deque()
    while pending and len(unit) < (unit[0].trial.stack or 1 if unit else 1):
        each = pending.popleft()
        if (unit and each.stack_key != unit[0].stack_key) or not (unit or fits(each)):
            others.append(each)
        elif is_ours(each):
            unit.append(each)
    pending.extendleft(reversed(others))
    return tuple(unit)


def units_of(planned: Iterable[Planned]) -> list[Unit]:
    """Return all units of some trials, in the order of their first members."""
    pending, units = deque(planned), []
    while pending:
        units.append(take_unit(pending))
    return units


def name_of(unit: Unit) -> str:
    """Return the name of a unit that is shown to people: its first member, and how many more."""
    others = len(unit) - 1
    return f"{unit[0].name}{f' + {others} stacked' if others else ''}"


def said_of_units(units: Iterable[Unit]) -> str:
    """Say, behind a number of trials, how many are stacked or on several devices, if any are."""
    units = list(units)
    stacks = [unit for unit in units if unit[0].trial.stack is not None]
    words = [f"{sum(map(len, stacks))} in {plural(len(stacks), 'stack')}"] if stacks else []
    wide = Counter(said_of_ranks(unit[0].trial) for unit in units if unit[0].trial.ranks > 1)
    words += [f"{count} on {where} each" for where, count in wide.items()]
    return f" ({', '.join(words)})" if words else ""


@dataclass(frozen=True)
class RunStatus:
    """A run folder as it is met on the disk, its trial unread."""

    experiment: str
    label: str
    seed: int
    name: str  # label, setting as far as it is known, and seed, as shown to people
    folder: RunFolder
    standing: QueueState
    kin: str = ""  # which of those it is that are no trial of the spec; empty if it is one
    on: str = ""  # several devices, if it trains on them and is one

    @property
    def state(self) -> State:
        return self.standing.state

    @property
    def reason(self) -> str:
        """The reason for that state, in one line; empty if there is nothing to be said."""
        return self.standing.reason_in(self.folder)

    @cached_property
    def beat(self) -> Heartbeat | None:
        """Say how far it is, if it is running and has said so."""
        if self.state is not State.RUNNING:
            return None
        # Of what runs in a job, claims are not seen from here.
        return (last_heartbeat if self.standing.in_a_job else read_heartbeat)(self.folder)


@dataclass(frozen=True)
class Status:
    """Everything that a runs folder and a spec have."""

    planned: Sequence[Planned]  # the trials of the spec
    trials: Sequence[RunStatus]  # one for each of those, then one for each other run folder
    elsewhere: Elsewhere = NOBODY  # was asked which trials wait or run in jobs
    # Folders and lists that may hold more, but cannot be read; a sentence each
    unlisted: Sequence[str] = ()

    @property
    def others(self) -> Sequence[RunStatus]:
        """Run folders that belong to no trial of the spec: other settings, or a search's."""
        return self.trials[len(self.planned) :]

    @property
    def going_on(self) -> int:
        """The number of trials that have not ended; one that a search gave up has."""
        ended = (*ENDED, State.PRUNED)
        return sum(each.state not in ended for each in self.trials)


def find_status(
    runs: Path,
    planned: Sequence[Planned],
    experiments: Iterable[str],
    elsewhere: Elsewhere = NOBODY,
) -> Status:
    """Look at every run folder of some experiments, which need not exist."""
    known = {each.folder.path for each in planned}
    trials = [
        RunStatus(
            *(each.trial.experiment, each.label, each.trial.seed),
            *(each.short_name, each.folder, each.standing),
            on=said_of_ranks(each.trial) if each.trial.ranks > 1 else "",
        )
        for each in planned
    ]
    unlisted = list(elsewhere.unread)
    for experiment in experiments:
        kin_of = _kinship(runs, experiment, unlisted)
        for folder in _run_folders(runs, experiment, elsewhere, unlisted):
            if folder.path not in known:
                status = _unplanned_status(folder, runs, elsewhere)
                trials.append(replace(status, kin=kin_of(status)))
    return Status(planned, trials, elsewhere, unlisted)


def _kinship(runs: Path, experiment: str, unlisted: list[str]) -> Callable[[RunStatus], str]:
    """Return what says which kind a trial is of that is none of the spec."""
    drawn: set[Path] = set()
    fresh: set[int] = set()
    try:
        if (lock := read_lock(runs, experiment)) is not None:
            tuning = lock.tuning
            drawn = {runs / each.folder for each in tuning.drawn_trials}
            studies = range(tuning.protocol.studies)
            fresh = {seed for study in studies for seed in tuning.fresh_seeds(study)}
    except RunFolderError as error:
        unlisted.append(str(error))

    def kin(status: RunStatus) -> str:
        if status.folder.path in drawn:
            return "draws of the protocol"
        return "fresh seeds of the protocol" if status.seed in fresh else _OUTSIDE

    return kin


def _unplanned_status(folder: RunFolder, runs: Path, elsewhere: Elsewhere) -> RunStatus:
    experiment, label, run = folder.path.parts[-3:]
    is_running = folder.result() is None and is_worked_on(folder)
    state = State.RUNNING if is_running else folder.state
    standing = elsewhere.standing(str(folder.path.relative_to(runs)), folder, state)
    seed = int(run.split("-")[1])
    return RunStatus(experiment, label, seed, f"{label} · {run}", folder, standing)


def experiments_in(runs: Path, elsewhere: Elsewhere = NOBODY) -> list[str]:
    """Name the experiments that have run folders, may have, or will have when their jobs begin."""
    unlisted: list[str] = []
    folders = _folders(runs, unlisted)
    if unlisted:
        raise UsageError(f"{unlisted[0]}\n  Name another folder with --runs DIR.")
    there = []
    for path in folders:
        before = len(unlisted)
        if _run_folders(runs, path.name, elsewhere, unlisted) or len(unlisted) > before:
            there.append(path.name)
    return list(dict.fromkeys([*there, *elsewhere.experiments]))


def _run_folders(
    runs: Path, experiment: str, elsewhere: Elsewhere, unlisted: list[str]
) -> list[RunFolder]:
    """Find the run folders that are there, and those that jobs will make when they begin."""
    there = [
        path
        for label in _folders(runs / experiment, unlisted)
        for path in _folders(label, unlisted)
        if _RUN.fullmatch(path.name)
    ]
    there += [runs / name for name in elsewhere.awaited(experiment)]
    return [RunFolder(path) for path in dict.fromkeys(there)]


def _folders(path: Path, unlisted: list[str]) -> list[Path]:
    try:
        return [path / name for name in subfolders(path)]
    except FileNotFoundError:
        return []
    except OSError as error:
        unlisted.append(f"{path}: cannot be listed: {error.strerror}.")
        return []


@dataclass(frozen=True)
class Mean:
    """A mean over seeds, with its standard error s/√n, where s has n - 1 degrees of freedom."""

    n: int  # how many values there were
    value: float
    standard_error: float | None  # None for a single value


@dataclass(frozen=True)
class SettingSummary:
    """One optimizer setting of an experiment, with what became of its seeds."""

    experiment: str
    label: str
    variant: str  # what tells it from other settings of the label; may be empty
    states: Mapping[State, int]  # how many trials are in which state
    # Over the finished trials, at their last epoch. A diverged trial has no last value, so that
    # ``states`` has to be shown beside them
    metrics: Mapping[str, Mean]


def summarize(planned: Iterable[Planned]) -> list[SettingSummary]:
    """Group trials by their setting, in the order of their first trials."""
    groups: dict[tuple[str, str, str], list[Planned]] = {}
    for each in planned:
        key = (each.trial.experiment, each.trial.label, each.trial.setting_hash)
        groups.setdefault(key, []).append(each)
    summaries = []
    for (experiment, label, _), group in groups.items():
        states = Counter(each.state for each in group)
        finished = [each.result for each in group if each.state is State.FINISHED and each.result]
        names = dict.fromkeys(name for result in finished for name in result["last"])
        means = {name: mean([result["last"].get(name) for result in finished]) for name in names}
        summaries.append(SettingSummary(experiment, label, group[0].variant, states, means))
    return summaries


def mean(values: Sequence[float | None]) -> Mean:
    """Return the mean of the values that are there, and its standard error."""
    there = [value for value in values if value is not None]
    return Mean(len(there), statistics.fmean(there) if there else math.nan, standard_error(there))
