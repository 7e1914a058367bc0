"""Runs of this project, from their run folders; ``metrics.jsonl`` is the truth."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from pydantic_core import from_json  # four times as fast as the standard library's

from deltagclip_cli.core import RunFolderError, printable, read_file, stopped
from deltagclip_cli.results.read.run import Curve, Group, Numbers, Outcome, Reading, Run, Watch
from deltagclip_cli.runs.environment import circumstances_of_all, read_starts
from deltagclip_cli.runs.folder import RunFolder, State, lines_of
from deltagclip_cli.spec.trial import Trial, differing_settings

_SEED = re.compile(r"^seed: (\d{1,20})\n", re.MULTILINE)
_OUTCOMES = {
    State.FINISHED: Outcome.FINISHED,
    State.DIVERGED: Outcome.DIVERGED,
    State.FAILED: Outcome.FAILED,
}
_NO_CONDITIONS = ("optimizer", "schedule", "seed")  # what is compared, and what is repeated
_AXES = ("epoch", "step", "time")
_NUMBERS = {int, float, type(None)}


def read_trials(paths: Iterable[Path], watch: Watch = iter) -> Reading:
    """Read run folders; one whose trial cannot be read is a problem, not an error."""
    trials, problems = _trials(paths)
    groups = _groups(trials.values())
    runs = []
    for path, trial in watch(list(trials.items())):
        group = groups[trial.experiment, trial.label, trial.setting_hash]
        run, problem = _run(RunFolder(path), trial, group)
        runs.append(run)
        problems += problem
    return Reading(runs, problems)


def _trials(paths: Iterable[Path]) -> tuple[dict[Path, Trial], list[str]]:
    """The trial of each folder.

    To parse and check a ``trial.yaml`` takes milliseconds. Those of one setting differ in the line
    of the seed, and are parsed once.
    """
    known: dict[str, Trial] = {}
    trials: dict[Path, Trial] = {}
    problems = []
    for path in paths:
        folder = RunFolder(path)
        rest, seed = _without_seed(folder.trial_file)
        try:
            if seed is None or rest not in known:
                known[rest] = folder.trial()
        except RunFolderError as error:
            problems.append(str(error).rpartition("\n")[0])  # without the advice
        else:
            trials[path] = known[rest] if seed is None else known[rest].with_seed(seed)
    return trials, problems


def _without_seed(trial_file: Path) -> tuple[str, int | None]:
    with suppress(OSError, UnicodeDecodeError):
        text = read_file(trial_file).decode()
        found = _SEED.search(text)
        if found is not None:
            return text[: found.start()] + text[found.end() :], int(found[1])
    return "", None


_Key = tuple[str, str, str]


def _groups(trials: Iterable[Trial]) -> dict[_Key, Group]:
    """The group of each experiment, label and :attr:`Trial.setting_hash`."""
    experiments: dict[str, dict[str, Trial]] = defaultdict(dict)
    for trial in trials:
        key = f"{trial.label} {trial.setting_hash}"  # labels of one setting are groups of their own
        experiments[trial.experiment].setdefault(key, trial)
    groups: dict[_Key, Group] = {}
    for settings in experiments.values():
        for key, group in _groups_of_experiment(settings).items():
            trial = settings[key]
            groups[trial.experiment, trial.label, trial.setting_hash] = group
    return groups


def _groups_of_experiment(trials: Mapping[str, Trial]) -> dict[str, Group]:
    sections = next(iter(trials.values())).settings
    conditions = differing_settings(trials, [key for key in sections if key not in _NO_CONDITIONS])
    alike: dict[tuple[str, str], dict[str, Trial]] = defaultdict(dict)
    for key, trial in trials.items():
        alike[trial.label, json.dumps(conditions[key])][key] = trial
    return {
        key: Group(
            experiment=trials[key].experiment,
            optimizer=trials[key].label,
            settings=settings,
            conditions=conditions[key],
            options=trials[key].settings["optimizer"],
            is_ours=True,
        )
        for each in alike.values()
        for key, settings in differing_settings(each).items()
    }


def _run(folder: RunFolder, trial: Trial, group: Group) -> tuple[Run, list[str]]:
    """A run, and what is wrong with its curves."""
    # Before the curves: of a run that ends meanwhile, they may be the first part.
    result = folder.result()
    state = State(result["status"]) if result is not None else folder.state
    outcome = _OUTCOMES.get(state, Outcome.UNFINISHED)
    curves, problems = _read(folder.metrics_file)
    if result is not None and not problems:
        epochs = trial.epochs if outcome is Outcome.FINISHED else result["epochs"]
        problems = [f"{folder.metrics_file}: {each}." for each in _unlike(result, curves, epochs)]
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


def _unlike(result: Mapping[str, Any], curves: Mapping[str, Curve], epochs: int) -> Iterator[str]:
    """How the end of some curves differs from the result of their run; nothing or one thing."""
    last = max((int(curve.epochs[-1]) for curve in curves.values()), default=0)
    if last != epochs:
        yield f"ends at epoch {last} of {epochs}"
        return
    for name, value in result["last"].items():
        there = curves[name].values[-1] if name in curves else math.nan
        if not (there == value or (value is None and math.isnan(there))):
            yield f"ends with {name} {there:.6g}, but result.json has {value}"
            return


def _read(file: Path) -> tuple[dict[str, Curve], list[str]]:
    """The curves of a ``metrics.jsonl``, and what is wrong with it.

    A last line without an end is nothing wrong: the run may be writing it.
    """
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
        columns = _columns([record for record in records if "perf/epoch_seconds" in record])
        whole, fault = _whole_course(columns)
    except (TypeError, ValueError, OverflowError) as error:
        return {}, [*problems, f"{file}: not records of numbers: {stopped(error)}"]
    if fault:
        problems.append(f"{file}: {fault}; from there on it was not read.")
    return _curves({name: values[:whole] for name, values in columns.items()}), problems


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


def _whole_course(columns: Mapping[str, Numbers]) -> tuple[int, str]:
    """How many epochs follow one another as a training makes them, and what comes then."""
    if not columns:
        return 0, ""
    for axis in ("epoch", "step"):
        if not np.isfinite(columns.get(axis, np.nan)).all():
            raise ValueError(f"one has no {axis}")
    epochs, steps = columns["epoch"], columns["step"]
    follows = (epochs == np.arange(1, len(epochs) + 1)) & (np.diff(steps, prepend=-1) >= 0)
    whole = int(np.argmin([*follows, False]))
    if whole == len(epochs):
        return whole, ""
    before = f"after epoch {whole} comes" if whole else "it begins with"
    return whole, f"{before} epoch {epochs[whole]:.0f}"


def _curves(columns: Mapping[str, Numbers]) -> dict[str, Curve]:
    """A curve for each metric; a value that is null was not finite when it was written."""
    if not columns or not len(columns["step"]):
        return {}
    seconds = np.cumsum(columns["perf/epoch_seconds"])
    return {
        name: Curve(columns["step"], columns["epoch"], seconds, values)
        for name, values in columns.items()
        if name not in _AXES
    }


def _columns(records: Sequence[Mapping[str, Any]]) -> dict[str, Numbers]:
    """The values of each name, (N,); NaN where a record has none; nothing without records."""
    if not records:
        return {}
    names = list(records[0])
    if any(list(record) != names for record in records):
        names = list(dict.fromkeys(name for record in records for name in record))
        rows = [[record.get(name) for name in names] for record in records]
    else:
        rows = [list(record.values()) for record in records]
    if not set(map(type, chain.from_iterable(rows))) <= _NUMBERS:
        raise ValueError("one has a value that is no number")
    table = np.array(rows, dtype=np.float64)  # null becomes NaN
    return dict(zip(names, table.T, strict=True))
