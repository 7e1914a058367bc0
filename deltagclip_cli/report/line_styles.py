"""Which settings are drawn, and how: on the page and in figures the same wherever one comes up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from deltagclip_cli.results.compare.comparison import Comparison, Row

MOST_SETTINGS = 12  # with a train and a test line of each, nobody could follow more in a panel

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


@dataclass(frozen=True)
class Looks:
    """How everything in an answer is drawn, by names.

    Args:
        settings: within a comparison all differ. Those that figures show were given theirs first,
            so that a few have colours however many others there are.
        optimizers: each looks as the first of its settings, the best one.
    """

    settings: Mapping[str, Look]
    optimizers: Mapping[str, Look]

    @classmethod
    def of(cls, comparisons: Sequence[Comparison]) -> Looks:
        """The looks of an answer with these comparisons."""
        firsts: dict[str, str] = {}
        for row in (row for each in comparisons for row in each.rows):
            firsts.setdefault(row.group.optimizer, row.group.name)
        charts = [
            *(_names(shown(each)) for each in comparisons),
            *(_names(each.rows) for each in comparisons),
            list(firsts.values()),
        ]
        settings = {name: _look(name, number) for name, number in _numbers(charts).items()}
        optimizers = {label: replace(settings[name], name=label) for label, name in firsts.items()}
        return cls(settings, optimizers)


def shown(comparison: Comparison) -> list[Row]:
    """What figures show: the baseline, the best setting of each optimizer, the best of the others.

    In the order of the table.
    """
    rows = list(comparison.rows)
    firsts: dict[str, Row] = {}
    for row in rows:
        firsts.setdefault(row.group.optimizer, row)
    before = [row for row in (comparison.baseline,) if row is not None]
    names = _names([*before, *firsts.values(), *rows])
    chosen = list(dict.fromkeys(names))[:MOST_SETTINGS]
    return [row for row in rows if row.group.name in chosen]


def _names(rows: Iterable[Row]) -> list[str]:
    return [row.group.name for row in rows]


def _numbers(charts: Sequence[Sequence[str]]) -> dict[str, int]:
    """A look for each name, the first one that no other name has in a chart that both are in.

    If all are taken, the one that fewest have.
    """
    numbers: dict[str, int] = {}
    members = [set(names) for names in charts]
    taken = [[0] * len(COLOURS) * len(DASHES) for _ in charts]
    for name in dict.fromkeys(name for names in charts for name in names):
        counts = [used for used, names in zip(taken, members, strict=True) if name in names]
        totals = list(map(sum, zip(*counts, strict=True)))
        numbers[name] = totals.index(min(totals))
        for used in counts:
            used[numbers[name]] += 1
    return numbers


def _look(name: str, number: int) -> Look:
    return Look(name, COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS)])
