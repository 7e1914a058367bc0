"""Which settings of a comparison a figure shows, and how each of them looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deltagclip_cli.comparison.comparison import Comparison
from deltagclip_cli.comparison.rows import Row
from deltagclip_cli.curves.run import Outcome, Run
from deltagclip_cli.report.figure_text import drawable, letters, shortened, wrapped
from deltagclip_cli.report.looks import COLOURS, DASHES, Look, looks

MOST_SETTINGS = 12  # with a train and a test line of each, nobody could follow more in a panel

# Of those for which there is no colour left: solid, dotted and dashed tell train, test and val.
_MARKERS = ("", "o", "s", "^")


@dataclass(frozen=True, eq=False)
class Setting:
    """A setting in a figure.

    Args:
        row: its row of the table.
        look: the same in all figures.
        place: among the settings of the figure, from 0.
    """

    row: Row
    look: Look
    place: int

    @property
    def runs(self) -> list[Run]:
        """One of each seed."""
        twice = self.row.twice
        return [run for run in self.row.runs if run not in twice]

    @property
    def label(self) -> str:
        """For a legend: its name, and how many runs diverged."""
        count = sum(run.outcome is Outcome.DIVERGED for run in self.runs)
        name = drawable(shortened(self.row.group.name, letters(0.5, least=40)))
        return f"{name} ({count} of {len(self.runs)} diverged)" if count else name


def colour(look: Look) -> str:
    """The colour of a look; one of the user's, if their style says some."""
    from matplotlib.colors import to_hex

    cycle = _cycle()
    return to_hex(cycle[_number(look) % len(cycle)])


def marker(look: Look) -> str:
    """What tells a look from others of the same colour; empty while there are colours."""
    return _MARKERS[_number(look) // len(_cycle()) % len(_MARKERS)]


def _cycle() -> Sequence[Any]:
    from matplotlib import rcParams

    found: Sequence[Any] = rcParams["axes.prop_cycle"].by_key().get("color", COLOURS)
    return found


def _number(look: Look) -> int:
    return COLOURS.index(look.colour) + len(COLOURS) * DASHES.index(look.dash)


def settings(comparisons: Sequence[Comparison]) -> list[list[Setting]]:
    """What figures of each comparison show, in the order of its table."""
    shown = [_chosen(each) for each in comparisons]
    found = looks([[row.group.name for row in rows] for rows in shown])
    return [
        [
            Setting(row, look, place)
            for place, (row, look) in enumerate(zip(rows, of_rows, strict=True))
        ]
        for rows, of_rows in zip(shown, found, strict=True)
    ]


def _chosen(comparison: Comparison) -> list[Row]:
    """The baseline, the best setting of each optimizer, and the best of the others."""
    rows = list(comparison.rows)
    if len(rows) <= MOST_SETTINGS:
        return rows
    firsts: dict[str, Row] = {}
    for row in rows:
        firsts.setdefault(row.group.optimizer, row)
    before = [row for row in (comparison.baseline,) if row is not None]
    names = [row.group.name for row in (*before, *firsts.values(), *rows)]
    chosen = list(dict.fromkeys(names))[:MOST_SETTINGS]
    return [row for row in rows if row.group.name in chosen]


def note(comparison: Comparison) -> str:
    """How many settings are left out; empty if none is."""
    count = len(comparison.rows)
    if count <= MOST_SETTINGS:
        return ""
    words = f"{MOST_SETTINGS} of {count} settings: the best of each optimizer, and the best others"
    return wrapped(words, letters(0.9), 3)
