"""Trials that are trained again, elsewhere, and their bits beside those of the run folders."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from deltagclip_cli.core import UsageError, printable
from deltagclip_cli.results.read.run import Outcome, Run
from deltagclip_cli.runs.environment import circumstances_of_all, inexact_of, read_starts
from deltagclip_cli.runs.folder import RunFolder

_CLOCKS = ("time", "seconds")  # of records and results, which no two trainings share
_SPEEDS = "perf/"
_FILES = ("trial.yaml", "environment.json")


@dataclass(frozen=True)
class Rerun:
    """A finished trial beside another training of it."""

    run: Run
    compared: int  # how many numbers
    difference: str  # the first number that differs, in words; empty if none does
    reasons: Sequence[str] = field(default_factory=list)  # why its bits need not be the same
    failure: str = ""  # why it could not be trained

    @property
    def is_at_fault(self) -> bool:
        """Tell whether something differs that should not, or could not be compared."""
        return bool(self.failure or (self.difference and not self.reasons))

    def __str__(self) -> str:
        if self.failure:
            return f"{self.run.folder}: could not be trained again: {self.failure}"
        because = f" Bits need not be the same: {'; '.join(self.reasons)}." if self.reasons else ""
        if self.difference:
            return f"{self.run.folder}: {self.difference}.{because}"
        return f"{self.run.folder}: the same bits in all {self.compared} numbers.{because}"


def chosen(runs: Sequence[Run], count: int, seed: int) -> list[Run]:
    """Choose finished trials, the same for the same seed; UsageError if there are too few."""
    finished = [run for run in runs if run.trial is not None and run.outcome is Outcome.FINISHED]
    if len(finished) < count:
        raise UsageError(
            f"--rerun {count}: the report has {len(finished)} finished trials of this program,"
            " which alone can be trained again."
        )
    in_order = sorted(finished, key=lambda run: (run.trial.identity if run.trial else "", run.seed))
    return random.Random(seed).sample(in_order, count)


def rerun(runs: Sequence[Run], data: Path, device: str | None) -> Iterator[Rerun]:
    """Train each of some runs again in a folder that is removed afterwards.

    Args:
        data: where data sets lie.
        device: as for ``train``; None for the kind that each was trained on, if it is here.
    """
    for run in runs:
        with TemporaryDirectory(prefix="deltagclip-verify-") as scratch:
            again, failure = _trained(RunFolder(run.folder), Path(scratch), data, device)
            yield Rerun(run, 0, "", failure=failure) if failure else _beside(run, again)


def _trained(
    folder: RunFolder, scratch: Path, data: Path, device: str | None
) -> tuple[RunFolder, str]:
    """Train the trial of a folder in another; why that failed, if it did.

    What it was begun with, such as threads, is taken over with the file that tells of it.
    """
    trial = folder.trial()
    again = RunFolder.of(scratch, trial)
    again.path.mkdir(parents=True)
    for name in _FILES:
        if (folder.path / name).exists():
            shutil.copyfile(folder.path / name, again.path / name)
    if trial.code is not None:
        code = Path(trial.experiment, ".code", trial.code)
        shutil.copytree(folder.path.parents[2] / code, scratch / code)
    words = [sys.executable, "-m", "deltagclip_cli", "worker", str(again.path)]
    words += ["--data", str(data), "--device", device or _device_of(folder)]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    if again.result() is not None:
        return again, ""
    said = [*(again.reason,), *reversed((done.stdout + done.stderr).strip().splitlines())]
    why = next((printable(each) for each in said if each.strip()), "")
    return again, why or f"its process ended with {done.returncode}"


def _device_of(folder: RunFolder) -> str:
    """Return the kind of device that a trial was last trained on."""
    starts = read_starts(folder)
    return "auto" if starts and str(starts[-1].get("device")).startswith("cuda") else "cpu"


def _beside(run: Run, again: RunFolder) -> Rerun:
    folder = RunFolder(run.folder)
    ours, theirs = _numbers_of(folder), _numbers_of(again)
    unlike = [
        (place, ours.get(place, "nothing"), theirs.get(place, "nothing"))
        for place in dict.fromkeys([*ours, *theirs])
        if repr(ours.get(place)) != repr(theirs.get(place))
    ]
    difference = ""
    if unlike:
        place, then, now = unlike[0]
        rest = f"; {len(unlike)} of {len(ours)} numbers differ" if len(unlike) > 1 else ""
        difference = f"{place} is {then} there, and {now} when it is trained again{rest}"
    return Rerun(run, len(ours), difference, _reasons(folder, again))


def _numbers_of(folder: RunFolder) -> dict[str, Any]:
    """Return every number that a training measured but for times, by its place."""
    numbers: dict[str, Any] = {}
    for count, record in enumerate(folder.metrics(), 1):
        where = f"metrics.jsonl, line {count}"
        numbers |= {f"{where}, {name}": each for name, each in record.items()}
    numbers |= _flat("result.json", folder.result() or {})
    return {place: each for place, each in numbers.items() if not _is_time(place)}


def _flat(place: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {place: value}
    parts = (_flat(f"{place}, {key}", each) for key, each in value.items())
    return {name: each for part in parts for name, each in part.items()}


def _is_time(place: str) -> bool:
    return any(word in _CLOCKS or word.startswith(_SPEEDS) for word in place.split(", "))


def _reasons(folder: RunFolder, again: RunFolder) -> list[str]:
    """Say why the bits of two trainings of a trial need not be the same."""
    then, now = read_starts(folder), read_starts(again)
    before, here = circumstances_of_all(then), circumstances_of_all(now[-1:])
    reasons = [
        f"{name} {before.get(name, 'unknown')} then, {here.get(name, 'unknown')} now"
        for name in dict.fromkeys([*before, *here])
        if before.get(name) != here.get(name)
    ]
    if folder.trial().determinism == "fast":
        reasons.append("determinism: fast takes kernels that give other bits each time")
    if inexact := inexact_of([*then, *now]):
        reasons.append(f"no deterministic kernel of {', '.join(inexact)}")
    return reasons
