"""Successive halving in jobs: what the tasks of a rung need to know, to find out what they run.

How many settings train on to a rung is known before, which ones is not. The tasks of a rung wait
for those of the one before it, and find out from the run folders which settings were promoted.
What they need to know of the search is in a file beside the submissions.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from deltagclip_cli.core import (
    NotYetError,
    RunFolderError,
    UsageError,
    plural,
    read_file,
    write_text,
)
from deltagclip_cli.runs.folder import RunFolder, State
from deltagclip_cli.runs.hold import hold
from deltagclip_cli.spec.component import AS_WRITTEN, canonical_json
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.tuning.halving import Bracket, Rung, standing

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = ".slurm"
_MOST_BYTES = 2**30


class RungSlot(NamedTuple):
    """A place for a trial of a setting that will be promoted to a rung."""

    bracket: str  # the name of the file with what is halved
    rung: int  # its number, from 1
    place: int  # among the settings that are promoted, from 0
    seed: int  # among those of the settings, from 0


def name_of(bracket: Bracket) -> str:
    """Return the name of the file of a bracket, which follows from what it holds."""
    return f"bracket-{hashlib.sha256(canonical_json(_plain(bracket)).encode()).hexdigest()[:16]}"


def write_bracket(bracket: Bracket) -> None:
    """Write down what tasks need to know of a bracket."""
    text = json.dumps(_plain(bracket)) + "\n"
    write_text(_file_of(bracket.runs, name_of(bracket)), text)


def _file_of(runs: Path, name: str) -> Path:
    return runs / FOLDER / f"{name}.json"


def read_bracket(runs: Path, name: str) -> Bracket:
    """Read a bracket again.

    Raises:
        UsageError: there is no such file, or it is damaged.
    """
    file = _file_of(runs, name)
    try:
        plain = json.loads(read_file(file, _MOST_BYTES))
        found = _bracket(plain, runs)
        if name_of(found) != name:
            raise ValueError("it holds something else than its name says")
        return found
    except (OSError, LookupError, TypeError, ValueError) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise UsageError(
            f"{file}: what this job needs to know of its search cannot be read: {why}\n"
            "  The same command writes it anew, and submits what is left."
        ) from None


def promoted(bracket: Bracket, slot: RungSlot) -> Trial | None:
    """Return the trial of a slot; None if fewer settings were promoted than there was room for.

    Raises:
        NotYetError: trials have yet to come to the rung before.
    """
    rung = bracket.rungs[slot.rung]
    members = bracket.members(rung)
    if members is None:
        before = bracket.rungs[slot.rung - 1]
        trial, left = bracket.settings[0][0], len(bracket.open(before))
        name = f"{trial.experiment} · {trial.label}"
        there = f", to which {plural(left, 'trial')} must come" if left else ""
        raise NotYetError(f"{name}: rung {slot.rung} waits for the one before{there}.")
    if slot.place >= len(members):
        return None
    return bracket.settings[members[slot.place]][slot.seed]


def is_at(trial: Trial, runs: Path, part: int) -> bool:
    """Look whether a trial has made one in ``part`` of its evaluations, or has ended before."""
    metric = "train/loss"  # which every evaluation has
    return standing(trial, runs, Rung(0, 1, part), metric) is not None


def prune_left(bracket: Bracket) -> None:
    """Record of trials that wait at a rung and were not promoted that they are pruned."""
    for number, rung in bracket.left().items():
        for trial in bracket.settings[number]:
            folder = RunFolder.of(bracket.runs, trial)
            if folder.state is State.INTERRUPTED:
                with suppress(RunFolderError), hold(folder) as held:
                    if folder.state is State.INTERRUPTED:
                        held.record_pruning(bracket.why_left(number, rung))


def _plain(bracket: Bracket) -> dict[str, Any]:
    first = bracket.settings[0]
    base = first[0].model_dump(mode="json")
    return {
        "metric": bracket.metric,
        "minimizes": bracket.minimizes,
        "rungs": [asdict(rung) for rung in bracket.rungs],
        "seeds": [trial.seed for trial in first],
        "base": base,
        "settings": [_apart(base, trials[0]) for trials in bracket.settings],
    }


def _apart(base: Mapping[str, Any], trial: Trial) -> dict[str, Any]:
    plain = trial.model_dump(mode="json")
    return {key: value for key, value in plain.items() if value != base.get(key)} | {
        key: None for key in base if key not in plain
    }


def _bracket(plain: Mapping[str, Any], runs: Path) -> Bracket:
    settings = []
    for apart in plain["settings"]:
        written = {**plain["base"], **apart}
        trial = Trial.model_validate(written, context=AS_WRITTEN)
        settings.append([trial.with_seed(seed) for seed in plain["seeds"]])
    rungs = [Rung(**rung) for rung in plain["rungs"]]
    return Bracket(settings, runs, plain["metric"], plain["minimizes"], rungs)
