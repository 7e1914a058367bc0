"""A pause: the end of a part of a training, after which others decide whether it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltagclip_cli.training.sinks import Sink
from deltagclip_cli.tuning.halving import part_of

if TYPE_CHECKING:
    from deltagclip_cli.training.sinks import Beginning, Record


class Pause(Sink):
    """Says when one in ``part`` of the evaluations of a training is made; never of 1.

    Attributes:
        is_reached: whether that is so.
        reason: why the training stops there, with the place.
    """

    def __init__(self, part: int) -> None:
        self._part = part
        self.is_reached, self.reason = False, ""

    def begin(self, beginning: Beginning) -> None:
        course = beginning.course
        self._last = course.in_round * part_of(course.rounds(course.steps), self._part)
        self.reason = f"{course.told(self._last)}: waits for the other settings of its search"
        self._look(beginning.step)

    def epoch(self, record: Record) -> None:
        self._look(record["step"])

    def _look(self, step: int) -> None:
        self.is_reached = self._part > 1 and step >= self._last
