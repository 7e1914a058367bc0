"""Slots: trials of settings that are known only once others have come far enough.

How many settings a protocol chooses, or halving promotes to a rung, is known before; which ones is
not. So the jobs of what follows are submitted with the rest. A task that has a slot finds out which
trial that is when it starts, from the plan and the run folders; everybody else finds out the same,
so that nobody needs to be told. What is halved stands in a file beside the submissions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from deltagclip_cli.core import (
    DeltaGClipError,
    NotYetError,
    UsageError,
    plural,
    read_file,
    write_text,
)
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import prune
from deltagclip_cli.spec.component import AS_WRITTEN, canonical_json
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.tuning.halving import Bracket, Rung, standing
from deltagclip_cli.tuning.lock import lock_file, read_lock
from deltagclip_cli.tuning.stages import FreshSlot, StudyChoice, Unresolved, choices, trial_in

if TYPE_CHECKING:
    from deltagclip_cli.tuning.studies import Tuning


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
    except (OSError, LookupError, TypeError, ValueError, RecursionError) as error:
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


def prune_left(bracket: Bracket) -> list[Trial]:
    """Record of trials that wait at a rung and were not promoted that they are pruned.

    Returns:
        Those that were not recorded before.
    """
    return [
        trial
        for number, rung in bracket.left().items()
        for trial in bracket.settings[number]
        if prune(RunFolder.of(bracket.runs, trial), bracket.why_left(number, rung))
    ]


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


AnySlot = FreshSlot | RungSlot


@dataclass(frozen=True)
class AwaitedTrial:
    """A slot with what is known of its trial before it is known which one it is."""

    slot: AnySlot
    name: str  # in the place of its run folder, relative to the runs folder
    stand_in: Trial  # with the setting of a draw: as large, and of the same parts
    after: frozenset[str]  # the run folders that it waits for, relative to the runs folder


def awaited(tuning: Tuning, slots: Iterable[FreshSlot]) -> list[AwaitedTrial]:
    """Say of slots what they wait for: all draws of their study."""
    studies: dict[int, frozenset[str]] = {}
    found = []
    for slot in slots:
        if slot.study not in studies:
            studies[slot.study] = _drawn_folders(tuning, slot.study)
        seed = tuning.fresh_seeds(slot.study)[slot.place]
        (stand_in,) = tuning.trials(tuning.draws_of(slot.study, slot.label)[0], [seed])
        name = f"{tuning.name}/{slot.label}/seed-{seed}-chosen"
        found.append(AwaitedTrial(slot, name, stand_in, studies[slot.study]))
    return found


def _drawn_folders(tuning: Tuning, study: int) -> frozenset[str]:
    seeds = tuning.search_seeds(study)
    drawn = [each for label in tuning.labels for each in tuning.draws_of(study, label)]
    return frozenset(trial.folder for draw in drawn for trial in tuning.trials(draw, seeds))


class Halved(NamedTuple):
    """All of a bracket that is still to be run."""

    trials: Sequence[Trial]  # up to the rung that settings train up to now
    part: int  # after which these pause
    later: Sequence[AwaitedTrial]  # the slots of the rungs behind it


def halved(bracket: Bracket) -> Halved:
    """Say what is to be run of a bracket, of which the first is known and the rest are slots."""
    rung, name = bracket.current(), name_of(bracket)
    members = [bracket.settings[number] for number in bracket.members(rung) or ()]
    after = frozenset(trial.folder for trials in members for trial in trials)
    later: list[AwaitedTrial] = []
    for following in bracket.rungs[rung.number + 1 :]:
        waiting = [
            AwaitedTrial(
                RungSlot(name, following.number, place, seed),
                f"{trial.experiment}/{trial.label}/seed-{trial.seed}"
                f"-rung-{following.number}-place-{place}",
                trial,
                after,
            )
            for place in range(min(following.slots, len(members)))
            for seed, trial in enumerate(bracket.settings[0])
        ]
        after = frozenset(each.name for each in waiting)
        later += waiting
    return Halved(bracket.open(rung), rung.part, later)


class SlotReader:
    """Says which trials slots are; what it has once read of a study, it does not read again."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._brackets: dict[str, Bracket] = {}
        self._plans: dict[str, Tuning] = {}
        self._choices: dict[tuple[str, int], list[StudyChoice]] = {}

    def trial_of(self, experiment: str, slot: AnySlot) -> Trial | None:
        """Return the trial of a slot; None if nothing is to be run there.

        Raises:
            NotYetError: it waits for trials that have not come so far.
            UsageError: there will be none, as things are; or the plan cannot be read.
        """
        if isinstance(slot, RungSlot):
            return promoted(self.bracket_of(slot), slot)
        tuning = self._plan(experiment)
        if (experiment, slot.study) not in self._choices:
            self._choices[experiment, slot.study] = choices(tuning, self._runs, slot.study)
        found = trial_in(tuning, self._choices[experiment, slot.study], slot)
        if isinstance(found, Unresolved):
            raise (NotYetError if found.waits else UsageError)(f"{experiment}: {found.why}")
        return found

    def bracket_of(self, slot: RungSlot) -> Bracket:
        """Read what is halved."""
        if slot.bracket not in self._brackets:
            self._brackets[slot.bracket] = read_bracket(self._runs, slot.bracket)
        return self._brackets[slot.bracket]

    def part_of(self, slot: AnySlot) -> int:
        """Return the part of the training after which the trial of a slot pauses."""
        if isinstance(slot, RungSlot):
            return self.bracket_of(slot).rungs[slot.rung].part
        return 1

    def known(self, experiment: str, slot: AnySlot) -> Trial | None:
        """Return the trial of a slot; None if there is none, for whatever reason."""
        with suppress(DeltaGClipError):
            return self.trial_of(experiment, slot)
        return None

    def _plan(self, experiment: str) -> Tuning:
        if experiment not in self._plans:
            lock = read_lock(self._runs, experiment)
            if lock is None:
                raise UsageError(
                    f"{lock_file(self._runs, experiment)}: the plan that this job follows is gone."
                    "\n  Put the file back as it was."
                )
            self._plans[experiment] = lock.tuning
        return self._plans[experiment]
