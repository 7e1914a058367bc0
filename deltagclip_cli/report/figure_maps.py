"""Heat maps: the means of an optimizer over two of its settings."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from deltagclip_cli.report.figure_text import LITERAL, drawable, letters_in, shortened, wrapped
from deltagclip_cli.results.compare.sensitivity import HeatMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_CELL = (0.6, 0.32)  # inches: a number of six letters
_AROUND = (0.5, 0.5)  # inches for the names of the settings
_LEAST_WIDTH = 3.0  # inches, so that what is said above has room
_LINE = 0.16  # inches
_MOST_LETTERS = 24
_BRIGHT = 0.55  # a cell on which letters are black


def draw_heat_map(heat_map: HeatMap) -> Figure | None:
    """A cell for each pair of values with its mean; None if no cell has one.

    Colours go by the rank of the means, as in the table, so there is no scale of them.
    """
    from matplotlib.figure import Figure

    if not heat_map.shades:
        return None
    down, across = (
        [shortened(drawable(word), _MOST_LETTERS) for word in words] for words in heat_map.words
    )
    is_wide = max(map(len, across)) > letters_in(_CELL[0])
    below = max(map(len, across)) / letters_in(1) if is_wide else _LINE
    beside = max(map(len, down)) / letters_in(1)
    width = max(_AROUND[0] + beside + _CELL[0] * len(across), _LEAST_WIDTH)
    note = wrapped(drawable(_note(heat_map)), letters_in(width), 5)
    height = _AROUND[1] + below + _CELL[1] * len(down) + _LINE * len(note.splitlines())
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(range(len(down)), down, **LITERAL)
    axes.set_xticks(range(len(across)), across, rotation=90 if is_wide else 0, **LITERAL)
    axes.set_ylabel(drawable(heat_map.keys[0]), **LITERAL)
    axes.set_xlabel(drawable(heat_map.keys[1]), **LITERAL)
    figure.suptitle(note, size="small", **LITERAL)
    _write(axes, _draw(axes, heat_map), heat_map)
    return figure


def _note(heat_map: HeatMap) -> str:
    question = heat_map.question
    of = f"{question.metric} {question.moment}, coloured by rank."
    return " ".join([of, *heat_map.notes])


def _draw(axes: Axes, heat_map: HeatMap) -> AxesImage:
    """The cells; the better, the further along the style's colours."""
    from matplotlib import colormaps, rcParams

    down, across = heat_map.words
    shades = [[heat_map.shades.get((one, other), np.nan) for other in across] for one in down]
    colours = colormaps[rcParams["image.cmap"]].with_extremes(bad="white")
    image = axes.imshow(np.array(shades), cmap=colours, vmin=0, vmax=1, aspect="auto")
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def _write(axes: Axes, image: AxesImage, heat_map: HeatMap) -> None:
    down, across = heat_map.words
    for (i, one), (j, other) in product(enumerate(down), enumerate(across)):
        shade = heat_map.shades.get((one, other))
        weight = "bold" if shade == 1 else "normal"
        words, ink = heat_map.text((one, other)), _ink(image, shade)
        axes.text(j, i, words, ha="center", va="center", color=ink, weight=weight)


def _ink(image: AxesImage, shade: float | None) -> str:
    """Black on what is bright, white on what is dark."""
    if shade is None:
        return "black"
    red, green, blue, _ = image.to_rgba(np.array([shade]))[0]
    return "black" if 0.3 * red + 0.59 * green + 0.11 * blue > _BRIGHT else "white"
