"""Slots: the trials of settings that a protocol has yet to choose, submitted with its draws.

A task that has a slot finds out which trial that is when it starts, from the plan and the run
folders. Everybody else finds out the same, so that nobody needs to be told.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deltagclip_cli.core import DeltaGClipError, NotYetError, UsageError
from deltagclip_cli.tuning.lock import lock_file, read_lock
from deltagclip_cli.tuning.stages import Choice, Slot, Unresolved, choices, trial_in

if TYPE_CHECKING:
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.tuning.studies import Tuning


@dataclass(frozen=True)
class AwaitedTrial:
    """A slot with what is known of its trial before it is known which one it is."""

    slot: Slot
    name: str  # in the place of its run folder, relative to the runs folder
    stand_in: Trial  # with the setting of a draw: as large, and of the same parts
    after: frozenset[str]  # the run folders that it waits for, relative to the runs folder


def awaited(tuning: Tuning, slots: Iterable[Slot]) -> list[AwaitedTrial]:
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


class SlotReader:
    """Says which trials slots are; what it has once read of a study, it does not read again."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._plans: dict[str, Tuning] = {}
        self._choices: dict[tuple[str, int], list[Choice]] = {}

    def trial_of(self, experiment: str, slot: Slot) -> Trial:
        """Return the trial of a slot.

        Raises:
            NotYetError: it waits for draws that have not ended.
            UsageError: there will be none, as things are; or the plan cannot be read.
        """
        tuning = self._plan(experiment)
        if (experiment, slot.study) not in self._choices:
            self._choices[experiment, slot.study] = choices(tuning, self._runs, slot.study)
        found = trial_in(tuning, self._choices[experiment, slot.study], slot)
        if isinstance(found, Unresolved):
            raise (NotYetError if found.waits else UsageError)(f"{experiment}: {found.why}")
        return found

    def known(self, experiment: str, slot: Slot) -> Trial | None:
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
