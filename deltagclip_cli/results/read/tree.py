"""Every run that a command was asked about: of an experiment, or below a folder.

Those of this project are read here, from their run folders, where ``metrics.jsonl`` is the truth.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from pydantic_core import from_json  # four times as fast as the standard library's

from deltagclip_cli.core import (
    EPOCH_SECONDS,
    NotYetError,
    RunFolderError,
    UsageError,
    nearest,
    printable,
    stopped,
    subfolders,
)
from deltagclip_cli.results.read.foreign import read_foreign_runs
from deltagclip_cli.results.read.found_logs import FoundLog, logs_in
from deltagclip_cli.results.read.grouping import Naming
from deltagclip_cli.results.read.run import Curve, Group, Numbers, Outcome, Reading, Run
from deltagclip_cli.runs.environment import circumstances_of_all, read_starts
from deltagclip_cli.runs.folder import RunFolder, State, lines_of
from deltagclip_cli.spec.code import name_of_some
from deltagclip_cli.spec.load import experiment_names
from deltagclip_cli.spec.trial import Trial, differing_settings, told_apart_without_code

_MOST_PROBLEMS = 20
_ALIAS = "latest-run"  # a link of W&B to one of its runs
_TRIAL_FILE = RunFolder(Path()).trial_file.name
_OUTCOMES = {
    State.FINISHED: Outcome.FINISHED,
    State.DIVERGED: Outcome.DIVERGED,
    State.FAILED: Outcome.FAILED,
}
# what is compared, what is repeated, and what is a condition in part
_NO_CONDITIONS = ("optimizer", "schedule", "seed", "code")
_DIGITS = 8  # of the name of a code
_AXES = ("epoch", "step", "time")
_NUMBERS = {int, float, type(None)}


@dataclass(frozen=True)
class Place:
    """The place of the runs that a command was asked about."""

    targets: Sequence[str]  # names of experiments in ``runs``, or folders; all experiments if empty
    runs: Path  # the runs folder
    pattern: str | None = None  # how other people's runs are named; None for the usual ways
    spec: Path = Path("experiments.yaml")  # knows experiments that have no runs yet
    read_at: float | None = None  # the time by which other people's runs still grow; None for now

    def folders(self) -> list[Path]:
        """Return the folders to search; an error if one does not exist, or is still to begin."""
        if not self.targets and not _is_folder(self.runs):
            raise UsageError(
                f"{self.runs}: there is no such folder.\n"
                "  Name a folder with runs, or the runs folder with --runs DIR; deltagclip sweep"
                " makes one."
            )
        return [self._folder(target) for target in self.targets] or [self.runs]

    def read(self) -> Reading:
        """Read every run there; NotYetError if they are to begin."""
        return self.read_in(self.folders())

    def read_in(self, folders: Sequence[Path]) -> Reading:
        """Read every run in some folders, as if they were those of the place."""
        naming = Naming(self.pattern)
        reading = read_tree(folders, naming, self.read_at)
        if not (reading.runs or reading.problems) and any(
            any(each.glob("**/seed-*-*/")) for each in folders
        ):
            raise self.not_begun()
        if not reading.runs:
            where = ", ".join(map(str, folders))
            problems = "".join(f"\n  {each}" for each in reading.problems[:_MOST_PROBLEMS])
            raise UsageError(
                f"{where}: there are no runs.\n  A run is a folder with trial.yaml, or the log of"
                " another program: event files of TensorBoard, a file of W&B or MLflow, or CSV with"
                f" a column 'step' or 'epoch'.\n  deltagclip sweep makes runs.{problems}"
            )
        if self.pattern is not None and all(run.group.is_ours for run in reading.runs):
            unused = "--group names the runs of other programs; here are run folders only."
            return replace(reading, problems=[*reading.problems, unused])
        return reading

    def _folder(self, target: str) -> Path:
        is_name = target == Path(target).name != ".."  # no path that leads out of the runs folder
        for path in ([self.runs / target] if is_name else []) + [Path(target)]:
            if target and _is_folder(path):
                return path
        if target in (specified := experiment_names(self.spec)):
            raise self.not_begun()
        begun: list[str] = []
        with suppress(OSError):
            begun = subfolders(self.runs)
        there = list(dict.fromkeys([*begun, *specified]))
        raise UsageError(
            f"{target}: neither an experiment in {self.runs} nor a folder.\n"
            f"  experiments: {', '.join(there) or 'none'}{nearest(target, there)}"
        )

    def not_begun(self) -> NotYetError:
        """Return the error for a place where trials are to be run, and none has begun."""
        names = [*self.targets, *(["--runs", str(self.runs)] if str(self.runs) != "runs" else [])]
        how_far = shlex.join(["deltagclip", "status", *names])
        return NotYetError(
            f"{', '.join(self.targets) or self.runs}: no trial has begun yet.\n"
            f"  {how_far} shows how far they are; deltagclip sweep runs them."
        )


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # of a name that none can have
        return False
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}.") from None


def read_tree(roots: Iterable[Path], naming: Naming, now: float | None = None) -> Reading:
    """Read every run at or below some folders, each once."""
    ours: list[Path] = []
    others: list[FoundLog] = []
    seen: set[str] = set()
    problems: dict[str, None] = {}
    for root in roots:
        before = set(seen)
        found = list(_runs(root, seen, problems))
        if not found:  # some programs keep all runs in a hidden folder
            found = list(_runs(root, before, problems, hidden=True))
        ours += [each for each in found if isinstance(each, Path)]
        others += [each for each in found if isinstance(each, FoundLog)]
    trials = read_trials(ours)
    foreign = read_foreign_runs(others, naming, now)
    told = [*problems, *trials.problems, *foreign.problems]
    return Reading([*trials.runs, *foreign.runs], [printable(each) for each in told])


def _runs(
    root: Path, seen: set[str], problems: dict[str, None], *, hidden: bool = False
) -> Iterator[Path | FoundLog]:
    """The run folders, and the logs of other programs, in order of the names."""

    def unlisted(error: OSError) -> None:
        problems[f"{error.filename}: cannot be listed: {error.strerror}."] = None

    for path, folders, files in os.walk(root, onerror=unlisted, followlinks=True):
        resolved = os.path.realpath(path)  # links may go in circles
        is_ours = resolved not in seen and _TRIAL_FILE in files
        if is_ours:
            yield Path(path)
        elif resolved not in seen:
            yield from logs_in(Path(path), root, files, problems)
        if is_ours or resolved in seen:
            folders.clear()
        is_alias = os.path.islink(os.path.join(path, _ALIAS))
        folders[:] = sorted(
            name
            for name in folders
            if (hidden or name[0] != ".") and not (is_alias and name == _ALIAS)
        )
        seen.add(resolved)


def read_trials(paths: Iterable[Path]) -> Reading:
    """Read run folders; one whose trial cannot be read is a problem, not an error."""
    trials: dict[Path, Trial] = {}
    problems = []
    for path in paths:
        try:
            trials[path] = RunFolder(path).trial()
        except RunFolderError as error:
            problems.append(str(error).rpartition("\n")[0])  # without the advice
    groups = _groups(trials)
    runs = []
    for path, trial in trials.items():
        run, problem = _run(RunFolder(path), trial, groups[_key(trial)])
        runs.append(run)
        problems += problem
    return Reading(runs, problems)


def _key(trial: Trial) -> str:
    """The same for trials of a group; labels of one setting are groups of their own."""
    return f"{trial.experiment}\n{trial.label}\n{trial.setting_hash}"


def _groups(trials: Mapping[Path, Trial]) -> dict[str, Group]:
    experiments: dict[str, dict[str, Trial]] = defaultdict(dict)
    codes: dict[str, str] = {}
    for path, trial in trials.items():
        if experiments[trial.experiment].setdefault(_key(trial), trial) is trial:
            codes[_key(trial)] = _shared_code(path.parents[1], trial)
    groups: dict[str, Group] = {}
    for settings in experiments.values():
        # none tells of all: a setting that is new is left out where it has its usual value
        sections = dict.fromkeys(name for trial in settings.values() for name in trial.settings)
        names = [name for name in sections if name not in _NO_CONDITIONS]
        conditions = differing_settings(settings, names)
        if len({codes[key] for key in settings}) > 1:
            conditions = told_apart_without_code(
                {key: {**conditions[key], "code": codes[key]} for key in settings}
            )
        alike: dict[tuple[str, str], dict[str, Trial]] = defaultdict(dict)
        for key, trial in settings.items():
            alike[trial.label, json.dumps(conditions[key])][key] = trial
        for each in alike.values():
            for key, words in differing_settings(each).items():
                trial, options = each[key], each[key].settings["optimizer"]
                groups[key] = Group(
                    trial.experiment, trial.label, words, conditions[key], options, is_ours=True
                )
    return groups


def _shared_code(folder: Path, trial: Trial) -> str:
    """Name the code of the model, the data and the task, not of what is compared."""
    shared = {each for part in (trial.model, trial.data, trial.task) for each in part.references}
    if trial.code is None or not shared:
        return "none"
    return name_of_some(shared, folder, trial.code)[:_DIGITS]


def _run(folder: RunFolder, trial: Trial, group: Group) -> tuple[Run, list[str]]:
    """A run, and what is wrong with its curves."""
    # Before the curves: of a run that ends meanwhile, they may be the first part.
    result = folder.result()
    state = State(result["status"]) if result is not None else folder.state
    outcome = _OUTCOMES.get(state, Outcome.UNFINISHED)
    curves, problems = _read(folder.metrics_file, trial)
    if result is not None and not problems:
        is_whole = outcome is Outcome.FINISHED and result.get("ended_early") is None
        length = trial.length if is_whole else result[f"{trial.unit}s"]
        if difference := _difference(result, curves, trial.unit, length):
            problems = [f"{folder.metrics_file}: {difference}."]
    if outcome is Outcome.FINISHED and problems:
        outcome = Outcome.UNFINISHED  # its last values are not those of its end
    reason = ""
    if outcome is not Outcome.FINISHED:
        reason = printable(folder.reason or next(iter(problems), ""))
    run = Run(
        folder=folder.path,
        group=group,
        seed=trial.seed,
        outcome=outcome,
        reason=reason,
        curves=curves,
        circumstances=circumstances_of_all(read_starts(folder)),
        trial=trial,
    )
    return run, problems


def _difference(
    result: Mapping[str, Any], curves: Mapping[str, Curve], unit: str, length: float
) -> str:
    """The first thing in which the end of some curves differs from the result of their run.

    Args:
        unit: ``epoch`` or ``step``.
        length: of the run, in this unit.
    """
    ends = ((each.epochs if unit == "epoch" else each.steps)[-1] for each in curves.values())
    last = max(map(float, ends), default=0.0)
    if last != length:
        return f"ends at {unit} {last:.7g} of {length:.7g}"
    for name, value in result["last"].items():
        there = curves[name].values[-1] if name in curves else math.nan
        if not (there == value or (value is None and math.isnan(there))):
            return f"ends with {name} {there:.6g}, but result.json has {value}"
    return ""


def _read(file: Path, trial: Trial) -> tuple[dict[str, Curve], list[str]]:
    """The curves of a ``metrics.jsonl``, and what is wrong with it."""
    try:
        lines = list(lines_of(file))
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        return {}, [f"{file}: cannot be read: {error.strerror}."]
    records = _records(lines)
    problems = []
    if len(records) < len(lines):
        problems.append(f"{file}: damaged after line {len(records)}; what follows was not read.")
    try:
        # Records of steps hold the same under other names.
        columns = _columns([record for record in records if EPOCH_SECONDS in record], trial)
    except (TypeError, ValueError, OverflowError) as error:
        return {}, [*problems, f"{file}: not records of a training: {stopped(error)}"]
    curves = {
        name: Curve(columns["step"], columns["epoch"], np.cumsum(columns[EPOCH_SECONDS]), values)
        for name, values in columns.items()
        if name not in _AXES
    }
    return curves, problems


def _records(lines: Iterable[bytes]) -> list[Mapping[str, Any]]:
    """The records of some lines, up to the first that is none."""
    records: list[Mapping[str, Any]] = []
    for line in lines:
        try:
            record = from_json(line)
        except ValueError:
            break
        if not isinstance(record, dict):
            break
        records.append(record)
    return records


def _columns(records: Sequence[Mapping[str, Any]], trial: Trial) -> dict[str, Numbers]:
    """The values of each name, (N,); NaN where a record has none; nothing without records."""
    if not records:
        return {}
    names = list(dict.fromkeys(chain.from_iterable(records)))
    rows = [[record.get(name) for name in names] for record in records]
    if not set(map(type, chain.from_iterable(rows))) <= _NUMBERS:
        raise ValueError("one has a value that is no number")
    table = np.array(rows, dtype=np.float64)  # null becomes NaN
    columns = dict(zip(names, table.T, strict=True))
    epochs, steps = (columns.get(axis, np.full(len(rows), np.nan)) for axis in ("epoch", "step"))
    every = trial.evaluate_every
    rounds = np.diff(epochs if every is None else steps, prepend=0) / (every or 1)
    is_last = 0 < rounds[-1] <= 1  # which may be shorter than the others
    if not (
        (rounds[:-1] == 1).all()
        and (is_last if trial.steps or every else rounds[-1] == 1)
        and (np.diff(steps, prepend=0) >= 0).all()
        and (np.diff(epochs, prepend=0) > 0).all()
    ):
        raise ValueError("epochs or steps do not follow one another")
    return columns
