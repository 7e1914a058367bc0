"""Heat maps: the means of an optimizer over two of its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deltagclip_cli.comparison.answer import Answer
from deltagclip_cli.comparison.comparison import by_size
from deltagclip_cli.comparison.digits import NOTHING, short
from deltagclip_cli.comparison.rows import Question, Row
from deltagclip_cli.comparison.sensitivity import HeatMap
from deltagclip_cli.report.figure_text import LITERAL, drawable, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_CELL = (0.6, 0.32)  # inches: a number of six letters
_AROUND = (1.7, 0.8)  # inches for labels and the scale
_MOST_LETTERS = 24
_BRIGHT = 0.55  # a cell on which letters are black


def draw_heat_map(heat_map: HeatMap, answer: Answer) -> Figure | None:
    """A cell for each pair of values with its mean; None if no cell has one."""
    from matplotlib.figure import Figure

    means = _means(heat_map)
    if not np.isfinite(means).any():
        return None
    rows, columns = means.shape
    size = (_AROUND[0] + _CELL[0] * columns, _AROUND[1] + _CELL[1] * rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    question = _question(heat_map, answer)
    image = _draw(axes, means, question)
    _write(axes, image, heat_map, means, question)
    scale = figure.colorbar(image, ax=axes, pad=0.03)
    scale.outline.set_visible(False)
    words = f"{question.metric} {question.moment}"
    scale.set_label(drawable(words), **LITERAL)
    return figure


def _words(heat_map: HeatMap) -> tuple[list[str], list[str]]:
    down, across = (sorted({pair[i] for pair in heat_map.cells}, key=by_size) for i in (0, 1))
    return down, across


def _means(heat_map: HeatMap) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """NaN where a seed diverged or nobody has a value."""
    down, across = _words(heat_map)
    found = [[_mean(heat_map.cells.get((one, other))) for other in across] for one in down]
    return np.array(found, float)


def _mean(row: Row | None) -> float:
    return np.nan if row is None or row.mean is None else row.mean


def _question(heat_map: HeatMap, answer: Answer) -> Question:
    """What was asked of the experiment that a map is of."""
    row = next(iter(heat_map.cells.values()))
    return next(each.question for each in answer.comparisons if row in each.rows)


def _draw(axes: Axes, means: np.ndarray, question: Question) -> AxesImage:
    """The cells; the better, the further along the style's colours."""
    from matplotlib import colormaps, rcParams

    colours = colormaps[rcParams["image.cmap"]]
    colours = colours if question.higher_is_better else colours.reversed()
    image = axes.imshow(means, cmap=colours.with_extremes(bad="white"), aspect="auto")
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def _write(
    axes: Axes, image: AxesImage, heat_map: HeatMap, means: np.ndarray, question: Question
) -> None:
    down, across = _words(heat_map)
    for set_ticks, words in ((axes.set_yticks, down), (axes.set_xticks, across)):
        names = [shortened(drawable(word), _MOST_LETTERS) for word in words]
        set_ticks(range(len(words)), names, **LITERAL)
    axes.set_ylabel(drawable(heat_map.keys[0]), **LITERAL)
    axes.set_xlabel(drawable(heat_map.keys[1]), **LITERAL)
    best = (np.nanmax if question.higher_is_better else np.nanmin)(means)
    for (i, j), mean in np.ndenumerate(means):
        row = heat_map.cells.get((down[i], across[j]))
        weight = "bold" if mean == best else "normal"
        axes.text(
            j, i, _text(row), ha="center", va="center", color=_ink(image, mean), weight=weight
        )


def _text(row: Row | None) -> str:
    if row is None or row.summary is None:
        return NOTHING
    return "×" if row.summary.diverged else short(row.mean)


def _ink(image: AxesImage, mean: float) -> str:
    """Black on what is bright, white on what is dark."""
    if not np.isfinite(mean):
        return "black"
    red, green, blue, _ = image.to_rgba(np.array([mean]))[0]
    return "black" if 0.3 * red + 0.59 * green + 0.11 * blue > _BRIGHT else "white"
