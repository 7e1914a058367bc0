"""Which settings of a comparison a figure shows, and how each of them looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deltagclip_cli.report.figure_text import drawable, letters, shortened
from deltagclip_cli.report.line_styles import COLOURS, DASHES, Look, Looks, shown
from deltagclip_cli.results.compare.comparison import Comparison, Row
from deltagclip_cli.results.read.run import Outcome

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
    def label(self) -> str:
        """For a legend: its name, and how many runs diverged."""
        count = sum(run.outcome is Outcome.DIVERGED for run in self.row.once)
        name = drawable(shortened(self.row.group.name, letters(0.5, least=40)))
        return f"{name} ({count} of {len(self.row.once)} diverged)" if count else name


def colour(look: Look) -> str:
    """The colour of a look; one of the user's, if their style says some."""
    from matplotlib.colors import to_hex

    cycle = _cycle()
    return to_hex(cycle[_number(look) % len(cycle)])


def marker(look: Look) -> dict[str, Any]:
    """What tells a look from others of the same colour; none while there are colours."""
    shape = _MARKERS[_number(look) // len(_cycle()) % len(_MARKERS)]
    return {"marker": shape, "mfc": "white", "mew": 0.9}


def _cycle() -> Sequence[Any]:
    from matplotlib import rcParams

    found: Sequence[Any] = rcParams["axes.prop_cycle"].by_key().get("color", COLOURS)
    return found


def _number(look: Look) -> int:
    return COLOURS.index(look.colour) + len(COLOURS) * DASHES.index(look.dash)


def settings(comparison: Comparison, looks: Looks) -> list[Setting]:
    """What figures of a comparison show, in the order of its table."""
    return [
        Setting(row, looks.settings[row.group.name], place)
        for place, row in enumerate(shown(comparison))
    ]


def note(comparison: Comparison) -> str:
    """How many settings are left out, and which are not; empty if none is."""
    rows, count = shown(comparison), len(comparison.rows)
    if len(rows) == count:
        return ""
    of_all, drawn = (len({row.group.optimizer for row in each}) for each in (comparison.rows, rows))
    which = "each optimizer" if drawn == of_all else f"{drawn} of {of_all} optimizers"
    words = [*(["the baseline"] if comparison.baseline else []), f"the best of {which}"]
    if len(rows) > drawn:
        words.append("the best others")
    return f"{len(rows)} of {count} settings: {', '.join(words)}."
