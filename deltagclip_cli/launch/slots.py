"""Slots, and which of them are free."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Slot:
    """A place for one trial at a time, or one stack; ``device`` is the worker's ``--device``."""

    name: str
    device: str


class FreeSlots:
    """The slots on which a worker can be started.

    Args:
        answers: says whether the device of a slot can still be used.
    """

    def __init__(self, slots: Sequence[Slot], answers: Callable[[Slot], bool]) -> None:
        self._free = list(reversed(slots))
        self._answers = answers
        self._lost: set[str] = set()  # devices that no longer answer

    def __bool__(self) -> bool:
        return bool(self._free)

    def take(self) -> Slot:
        """Return one, which is in use then."""
        return self._free.pop()

    def give_back(self, slot: Slot, *, is_doubtful: bool = False) -> None:
        """Let a slot be used again, unless its device is lost, which is asked of a doubtful one."""
        if is_doubtful and slot.device not in self._lost and not self._answers(slot):
            self._lost.add(slot.device)
            self._free = [each for each in self._free if each.device != slot.device]
            logger.warning("%s does not answer: no more trials are started there.", slot.device)
        if slot.device not in self._lost:
            self._free.append(slot)
