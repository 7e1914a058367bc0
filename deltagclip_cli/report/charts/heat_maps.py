"""Heat maps: the means of an optimizer over two of its settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from deltagclip_cli.core import printable
from deltagclip_cli.report.appearance import LITERAL, letters_in, shortened, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from deltagclip_cli.report.charts.lines import Json, PageLines
    from deltagclip_cli.results.compare.sensitivity import HeatMap

_CELL = (0.6, 0.32)  # inches: a number of six letters
_AROUND = (0.5, 0.5)  # inches for the names of the settings
_LEAST_WIDTH = 3.0  # inches, so that what is said above has room
_LINE = 0.16  # inches
_MOST_LETTERS = 24
_BRIGHT = 0.55  # a cell on which letters are black


@dataclass(frozen=True)
class ShadedCells:
    """A cell for each pair of values with its mean, in a colour by its rank."""

    heat_map: HeatMap
    kind: str
    heading = ""

    def page(self, page: PageLines) -> Sequence[Json]:
        """Return nothing: on the page the cells of the table itself are shaded."""
        return []

    def paper(self) -> Figure | None:
        """Draw the cells, coloured by rank as in the table; None if none has a mean."""
        from matplotlib.figure import Figure

        heat_map, question = self.heat_map, self.heat_map.question
        if not heat_map.shades:
            return None
        down, across = (
            [shortened(printable(word), _MOST_LETTERS) for word in words]
            for words in heat_map.words
        )
        is_wide = max(map(len, across)) > letters_in(_CELL[0])
        below = max(map(len, across)) / letters_in(1) if is_wide else _LINE
        beside = max(map(len, down)) / letters_in(1)
        width = max(_AROUND[0] + beside + _CELL[0] * len(across), _LEAST_WIDTH)
        words = [f"{question.metric} {question.moment}, coloured by rank.", *heat_map.notes]
        note = wrapped(printable(" ".join(words)), letters_in(width), 5)
        height = _AROUND[1] + below + _CELL[1] * len(down) + _LINE * len(note.splitlines())
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        axes.set_yticks(range(len(down)), down, **LITERAL)
        axes.set_xticks(range(len(across)), across, rotation=90 if is_wide else 0, **LITERAL)
        axes.set_ylabel(printable(heat_map.keys[0]), **LITERAL)
        axes.set_xlabel(printable(heat_map.keys[1]), **LITERAL)
        figure.suptitle(note, size="small", **LITERAL)
        _draw(axes, heat_map)
        return figure


def _draw(axes: Axes, heat_map: HeatMap) -> None:
    """Draw the cells; the better, the further along the style's colours."""
    from matplotlib import colormaps, rcParams

    down, across = heat_map.words
    shades = [[heat_map.shades.get((one, other), np.nan) for other in across] for one in down]
    colours = colormaps[rcParams["image.cmap"]].with_extremes(bad="white")
    image = axes.imshow(np.array(shades), cmap=colours, vmin=0, vmax=1, aspect="auto")
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for (i, one), (j, other) in product(enumerate(down), enumerate(across)):
        shade = heat_map.shades.get((one, other))
        weight = "bold" if (one, other) in heat_map.best else "normal"
        words, ink = heat_map.text((one, other)), _ink(image, shade)
        axes.text(j, i, words, ha="center", va="center", color=ink, weight=weight)


def _ink(image: AxesImage, shade: float | None) -> str:
    """Return black for what is bright, white for what is dark."""
    if shade is None:
        return "black"
    red, green, blue, _ = image.to_rgba(np.array([shade]))[0]
    return "black" if 0.3 * red + 0.59 * green + 0.11 * blue > _BRIGHT else "white"
