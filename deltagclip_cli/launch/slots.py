"""Slots, which of them are free, and those that a trial on several devices has together."""

from __future__ import annotations

import itertools
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deltagclip_cli.core import DeviceError, plural
from deltagclip_cli.runs.allocation import allocation_for

if TYPE_CHECKING:
    from deltagclip_cli.plan.planned import Fits, Planned, Unit
    from deltagclip_cli.spec.trial import Trial

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Slot:
    """A place for one trial at a time, or one stack; ``device`` is the worker's ``--device``.

    A trial on several devices has all slots of each of them: those are its ``parts``.
    """

    name: str
    device: str
    parts: tuple[Slot, ...] = ()

    @property
    def place(self) -> str:
        """The device that a trial on several counts: a GPU, or a share of the CPU."""
        return self.name if self.device == "cpu" else self.device


def devices_of(slots: Sequence[Slot]) -> dict[str, list[Slot]]:
    """Return the slots of each device, which are several where trials share a GPU."""
    found = defaultdict[str, list[Slot]](list)
    for slot in slots:
        found[slot.place].append(slot)
    return dict(found)


def slots_taken(trial: Trial, slots: Sequence[Slot]) -> int:
    """Return how many of some slots a trial takes while it runs; more where it has no room."""
    devices = devices_of(slots)
    return 1 if trial.ranks == 1 else devices_taken(trial, devices) * len(slots) // len(devices)


def devices_taken(trial: Trial, devices: Collection[str]) -> int:
    """Return how many devices a trial takes; of the CPU, never more than there are.

    One on several nodes takes all: on the other nodes it has all of them, too.
    """
    wanted = max(trial.devices, len(devices)) if trial.nodes > 1 else trial.devices
    return wanted if are_gpus(devices) else min(wanted, len(devices))


def are_gpus(devices: Collection[str]) -> bool:
    """Return whether there are no more of these devices than there are."""
    return any(each.startswith("cuda") for each in devices)


def check_room(trial: Trial, slots: Sequence[Slot], hint: str) -> None:
    """Refuse a trial that has no room here even where nothing else runs.

    Args:
        hint: says where it would have room.

    Raises:
        DeviceError: it trains on more devices or nodes than there are.
    """
    if trial.nodes > 1:
        allocation_for(trial.nodes)
    there = devices_of(slots)
    if are_gpus(there) and trial.devices > len(there):
        fewer = f"{len(there)} or fewer" if len(there) > 1 else "1"
        raise DeviceError(
            f"devices: {trial.devices}: {plural(len(there), 'GPU')} can be used here"
            f" ({', '.join(there)}).\n"
            f"  Write devices: {fewer}, or {hint}."
        )


def joined(slots: Sequence[Slot]) -> Slot:
    """Return slots as one, for a trial that trains on all their devices."""
    if len(slots) == 1:
        return slots[0]
    first, *others = devices_of(slots)
    numbers = [re.sub(r".*\D", "", each) for each in others]
    device = "cpu" if slots[0].device == "cpu" else "cuda"
    return Slot("+".join([first, *numbers]), device, tuple(slots))


class FreeSlots:
    """The slots on which a worker can be started.

    A trial on several devices waits until so many are free. Meanwhile those are kept for it that
    are expected to be free first, the ones that were taken first; on the others, smaller trials
    of behind it are started. So it waits for nothing that begins after it.

    Args:
        answers: says whether the device of a slot can still be used.

    Attributes:
        has_too_few: whether a trial was refused that has no room even where all slots are free.
    """

    def __init__(self, slots: Sequence[Slot], answers: Callable[[Slot], bool]) -> None:
        self._devices = devices_of(slots)
        self._free = list(reversed(slots))
        self._answers = answers
        self._lost: set[str] = set()  # devices that no longer answer
        self._order = itertools.count(1)
        self._taken: dict[str, int] = {}  # by device, when one of its slots was taken last
        self._awaited: Path | None = None  # the run folder of the trial that devices are kept for
        self._kept: frozenset[str] = frozenset()
        self._was_asked = False  # for that trial
        self.has_too_few = False

    def __bool__(self) -> bool:
        return bool(self._free)

    def next_unit(self, take: Callable[[Fits], Unit]) -> Unit:
        """Take the next unit of a queue that has room; none if there is none at the moment."""
        self._was_asked = self.has_too_few = False
        unit = take(self._fits)
        if self._awaited is not None and not unit and not self._was_asked:
            self._keep(None)  # somebody else has it
        return unit

    def _fits(self, planned: Planned) -> bool:
        is_awaited = planned.folder.path == self._awaited
        self._was_asked = self._was_asked or is_awaited
        wanted = devices_taken(planned.trial, self._devices)
        if wanted > len(self._devices):
            self.has_too_few = True
            return False
        if planned.trial.ranks == 1:
            return any(slot.place not in self._kept for slot in self._free)
        free = self._free_devices()
        if len(free if is_awaited else free - self._kept) >= wanted:
            if is_awaited:  # it begins now, or somebody else has it
                self._keep(None)
            return True
        if self._awaited is None:
            self._keep(planned, self._soonest(wanted))
            self._was_asked = True
        return False

    def _free_devices(self) -> set[str]:
        """Return the devices all of whose slots are free."""
        free = devices_of(self._free)
        return {
            name for name, all_ in self._devices.items() if len(free.get(name, ())) == len(all_)
        }

    def _soonest(self, wanted: int) -> frozenset[str]:
        """Guess which devices are free first, if what began first ends first.

        Of more than are wanted, the ones that are free now are left to others.
        """
        free = self._free_devices()
        ends = {name: 0 if name in free else self._taken[name] for name in self._devices}
        last = sorted(ends.values())[wanted - 1]
        soon = sorted((name for name in ends if ends[name] <= last), key=lambda name: ends[name])
        return frozenset(soon[-wanted:])

    def _keep(self, planned: Planned | None, devices: frozenset[str] = frozenset()) -> None:
        self._awaited = None if planned is None else planned.folder.path
        self._kept = devices

    def take(self, unit: Unit) -> Slot:
        """Return the slot for a unit that has room, which is in use then."""
        trial = unit[0].trial
        if trial.ranks == 1:
            slot = next(each for each in reversed(self._free) if each.place not in self._kept)
        else:
            free = self._free_devices() - self._kept
            chosen = [each for each in self._devices if each in free]
            chosen = chosen[: devices_taken(trial, self._devices)]
            slot = joined([each for device in chosen for each in self._devices[device]])
        now = next(self._order)
        for each in slot.parts or (slot,):
            self._free.remove(each)
            self._taken[each.place] = now
        return slot

    def give_back(self, slot: Slot, *, is_doubtful: bool = False) -> None:
        """Let a slot be used again, but for devices that are lost, which is asked if doubtful."""
        for each in slot.parts or (slot,):
            if is_doubtful and each.device not in self._lost and not self._answers(each):
                self._lose(each.device)
            if each.device not in self._lost:
                self._free.append(each)

    def _lose(self, device: str) -> None:
        self._lost.add(device)
        self._free = [each for each in self._free if each.device != device]
        self._devices.pop(device, None)
        self._keep(None)  # others are chosen for it
        logger.warning("%s does not answer: no more trials are started there.", device)
