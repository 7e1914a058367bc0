"""How a setting is drawn, on the page and in figures, the same wherever it comes up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count

# Okabe & Ito (2008): colours that people who see few of them can tell apart, without the yellow,
# which nobody sees on white; then dashes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F")
DASHES = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True)
class Look:
    """A line.

    Args:
        name: of the setting.
        colour: as ``#RRGGBB``.
        dash: one of :data:`DASHES`; all are solid until the colours have been used.
    """

    name: str
    colour: str
    dash: str


def looks(groups: Iterable[Sequence[str]]) -> list[list[Look]]:
    """A look for each name of each group: within one all differ, and a name keeps its look.

    Args:
        groups: the names of each chart, such as the settings of each comparison.
    """
    known: dict[str, int] = {}
    return [[_look(name, number) for name, number in _numbers(names, known)] for names in groups]


def _numbers(names: Sequence[str], known: dict[str, int]) -> list[tuple[str, int]]:
    taken = {known[name] for name in names if name in known}
    free = (number for number in count() if number not in taken)
    for name in names:
        if name not in known:
            known[name] = next(free)
    return [(name, known[name]) for name in names]


def _look(name: str, number: int) -> Look:
    dash = DASHES[number // len(COLOURS) % len(DASHES)]
    return Look(name, COLOURS[number % len(COLOURS)], dash)
