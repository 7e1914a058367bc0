"""Units of work: what one worker is given, which is several trials only where these stack."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from deltagclip_cli.core import plural
from deltagclip_cli.plan.planned import Planned

Unit = tuple[Planned, ...]
"""Trials that train in one stack, or a single one; empty where there is none."""


@dataclass(frozen=True)
class Assignment:
    """The place of a trial in a plan; trials of one ``unit`` train in one stack."""

    unit: int  # its number, from 1, in the order of starting
    is_stack: bool
    slot: str
    seconds: float | None  # that the unit takes, if that is known

    def __str__(self) -> str:
        return f"{self.slot} (stack {self.unit})" if self.is_stack else self.slot


def take_unit(
    pending: deque[Planned], is_ours: Callable[[Planned], bool] = lambda each: True
) -> Unit:
    """Take the first trial of a queue, and those behind it that fit into one stack with it.

    Args:
        is_ours: asked of each that is taken; what it says no to is left out.
    """
    unit: list[Planned] = []
    others: deque[Planned] = deque()
    while pending and len(unit) < (unit[0].trial.stack or 1 if unit else 1):
        each = pending.popleft()
        if unit and each.stack_key != unit[0].stack_key:
            others.append(each)
        elif is_ours(each):
            unit.append(each)
    pending.extendleft(reversed(others))
    return tuple(unit)


def units_of(planned: Iterable[Planned]) -> list[Unit]:
    """Return all units of some trials, in the order of their first members."""
    pending, units = deque(planned), []
    while pending:
        units.append(take_unit(pending))
    return units


def name_of(unit: Unit) -> str:
    """Return the name of a unit that is shown to people: its first member, and how many more."""
    others = len(unit) - 1
    return f"{unit[0].name}{f' + {others} stacked' if others else ''}"


def said_of_stacks(units: Iterable[Unit]) -> str:
    """Say, behind a number of trials, how many of them are stacked; empty if none are."""
    stacks = [unit for unit in units if unit[0].trial.stack is not None]
    if not stacks:
        return ""
    return f" ({sum(map(len, stacks))} in {plural(len(stacks), 'stack')})"
