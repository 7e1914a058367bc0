"""Figures for a paper: of each comparison its curves, steps and ways to the target, and of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import written_whole
from deltagclip_cli.report.figure_curves import draw_curves
from deltagclip_cli.report.figure_maps import draw_heat_map
from deltagclip_cli.report.figure_profiles import draw_profiles
from deltagclip_cli.report.figure_settings import settings
from deltagclip_cli.report.figure_steps import draw_steps
from deltagclip_cli.report.figure_style import Style
from deltagclip_cli.report.figure_targets import draw_targets
from deltagclip_cli.report.line_styles import Looks
from deltagclip_cli.results.compare.analysis import Analysis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("pdf", "png", "svg")

# Without what would make the bytes differ from day to day.
_METADATA: Mapping[str, Mapping[str, None]] = {
    "pdf": {"CreationDate": None, "ModDate": None, "Producer": None, "Creator": None},
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
}


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure and what it shows.

    Args:
        title: of the comparison or whatever it is about; no part of the figure itself, for a paper
            says it in the caption.
        kind: ``curves``, ``step-size``, ``time-to-target``, ``heat-map-1`` or ``profiles``.
        figure: which is drawn.
    """

    title: str
    kind: str
    figure: Figure


def figures(answer: Analysis, style: Style) -> Iterator[Drawing]:
    """Draw the figures of an answer, one at a time.

    Args:
        answer: what is shown.
        style: what it looks like.

    Raises:
        UsageError: the user's style cannot be drawn.
    """
    for title, kind, draw in _plans(answer):
        with style.applied():
            figure = draw()
        if figure is not None:
            yield Drawing(title, kind, figure)


def _plans(answer: Analysis) -> Iterator[tuple[str, str, Callable[[], Figure | None]]]:
    """What might be drawn."""
    looks = Looks.of(answer.comparisons)
    for each in answer.comparisons:
        shown = settings(each, looks)
        yield each.title, "curves", partial(draw_curves, each, shown)
        yield each.title, "step-size", partial(draw_steps, each, shown)
        yield each.title, "time-to-target", partial(draw_targets, each, shown)
    for number, heat_map in enumerate(answer.heat_maps, 1):
        yield heat_map.title, f"heat-map-{number}", partial(draw_heat_map, heat_map)
    if answer.across is not None:
        has_epochs = any(each.has_epochs for each in answer.comparisons)
        draw = partial(draw_profiles, answer.across, looks.optimizers, has_epochs=has_epochs)
        yield "All experiments", "profiles", draw


def save(drawing: Drawing, path: Path, style: Style) -> None:
    """Write a figure whole or not at all; the same data are the same bytes.

    Args:
        drawing: what is written.
        path: of the file, whose ending is one of :data:`FORMATS`.
        style: the one it was drawn in.

    Raises:
        UsageError: the user's style cannot be drawn.
        OSError: nothing can be written there.
    """
    form = path.suffix[1:]
    metadata: dict[str, Any] = {"Title": drawing.title, **_METADATA[form]}
    content = BytesIO()  # so that a full disk is not taken for a fault of the style
    with style.applied():
        drawing.figure.savefig(content, format=form, metadata=metadata)
    with written_whole(path) as file:
        file.write(content.getbuffer())
