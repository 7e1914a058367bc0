"""Slots: the trials of settings that a protocol has yet to choose, submitted with its draws.

A task that has a slot finds out which trial that is when it starts, from the plan and the run
folders. Everybody else finds out the same, so that nobody needs to be told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from deltagclip_cli.core import DeltaGClipError, NotYetError, UsageError
from deltagclip_cli.slurm.rungs import RungSlot, name_of, promoted, read_bracket
from deltagclip_cli.tuning.lock import lock_file, read_lock
from deltagclip_cli.tuning.stages import FreshSlot, StudyChoice, Unresolved, choices, trial_in

if TYPE_CHECKING:
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.tuning.halving import Bracket
    from deltagclip_cli.tuning.studies import Tuning


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
