"""What a runs folder holds: trials of a spec, others, and which of them are running."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deltagclip_cli.core import UsageError, subfolders
from deltagclip_cli.plan.planned import NOBODY, Elsewhere, Planned, QueueState
from deltagclip_cli.runs.folder import RunFolder, State
from deltagclip_cli.runs.heartbeat import Heartbeat, is_worked_on, last_heartbeat, read_heartbeat

_RUN = re.compile(r"seed-(\d+)-[0-9a-f]{8}")


@dataclass(frozen=True)
class RunStatus:
    """A run folder as it is met on the disk, its trial unread.

    Args:
        experiment: its name.
        label: of the optimizer.
        seed: of the trial.
        name: label, setting as far as it is known, and seed, as shown to people.
        folder: the run folder.
        state: what its files say.
        beat: how far it is, if it is running and has said so.
        standing: with the queue of a cluster; None if nobody has asked.
    """

    experiment: str
    label: str
    seed: int
    name: str
    folder: RunFolder
    state: State
    beat: Heartbeat | None
    standing: QueueState | None = None

    @property
    def reason(self) -> str:
        """Why it is in that state, in one line; empty if there is nothing to be said."""
        if self.standing is not None and self.standing.reason:
            return self.standing.reason
        silent = self.state in (State.NEW, State.RUNNING, State.FINISHED)
        return "" if silent else self.folder.reason


@dataclass(frozen=True)
class Status:
    """What there is.

    Args:
        planned: the trials of the spec.
        trials: one for each of those, then one for each other run folder.
        elsewhere: was asked which trials wait or run in jobs.
        unlisted: folders and lists that may hold more, but cannot be read; a sentence each.
    """

    planned: Sequence[Planned]
    trials: Sequence[RunStatus]
    elsewhere: Elsewhere = NOBODY
    unlisted: Sequence[str] = ()

    @property
    def others(self) -> Sequence[RunStatus]:
        """Run folders that belong to no trial of the spec: other settings, or a search's."""
        return self.trials[len(self.planned) :]


def find_status(
    runs: Path,
    planned: Sequence[Planned],
    experiments: Iterable[str],
    elsewhere: Elsewhere = NOBODY,
) -> Status:
    """Look at every run folder of some experiments.

    Args:
        runs: the runs folder.
        planned: the trials of the spec, looked up in ``runs``.
        experiments: names of folders in ``runs``; those that do not exist are empty.
        elsewhere: knows which trials wait or run in jobs.
    """
    known = {each.folder.path for each in planned}
    trials = [_planned_status(each) for each in planned]
    unlisted = list(elsewhere.unread)
    for experiment in experiments:
        for folder in _run_folders(runs, experiment, elsewhere, unlisted):
            if folder.path not in known:
                trials.append(_stranger(experiment, folder, runs, elsewhere))
    return Status(planned, trials, elsewhere, unlisted)


def _planned_status(planned: Planned) -> RunStatus:
    trial = planned.trial
    return RunStatus(
        experiment=trial.experiment,
        label=trial.label,
        seed=trial.seed,
        name=planned.short_name,
        folder=planned.folder,
        state=planned.state,
        beat=_beat(planned.folder, planned.state, planned.standing),
        standing=planned.standing,
    )


def _stranger(experiment: str, folder: RunFolder, runs: Path, elsewhere: Elsewhere) -> RunStatus:
    label, run = folder.path.parent.name, folder.path.name
    ended = folder.result() is not None
    state = State.RUNNING if not ended and is_worked_on(folder) else folder.state
    standing = elsewhere.standing(str(folder.path.relative_to(runs)), folder, state)
    return RunStatus(
        experiment=experiment,
        label=label,
        seed=int(run.split("-")[1]),
        name=f"{label} · {run}",
        folder=folder,
        state=standing.state,
        beat=_beat(folder, standing.state, standing),
        standing=standing,
    )


def _beat(folder: RunFolder, state: State, standing: QueueState | None) -> Heartbeat | None:
    if state is not State.RUNNING:
        return None
    in_a_job = standing is not None and standing.in_a_job  # where claims are not seen from here
    return last_heartbeat(folder) if in_a_job else read_heartbeat(folder)


def experiments_in(runs: Path, elsewhere: Elsewhere = NOBODY) -> list[str]:
    """The names of the experiments that have run folders, or will have when their jobs begin.

    What cannot be listed may have some.

    Raises:
        UsageError: that is the runs folder itself.
    """
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
    """Those that are there, and those that jobs will make when they begin."""
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
