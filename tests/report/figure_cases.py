"""Runs to draw, and what a figure shows of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from made_runs import group, run

from deltagclip_cli.report.appearance import Style
from deltagclip_cli.report.charts import figures
from deltagclip_cli.results.compare.analysis import Analysis
from deltagclip_cli.results.read.run import Outcome, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

LOSS = [2.0, 1.5, 1.0, 0.8]
ACCURACY = [0.2, 0.4, 0.6, 0.7]


def shifted(values: Sequence[float], shift: float) -> list[float]:
    return [value + shift for value in values]


def trained(
    name: str, seed: int, shift: float = 0.0, experiment: str = "tiny", **others: Any
) -> Run:
    """A run with a loss and an accuracy of train and test."""
    optimizer = name.split(maxsplit=1)[0] if "=" in name else name
    return run(
        group(optimizer, experiment, **_settings(name)),
        seed,
        shifted(ACCURACY, shift),
        **{
            "train__loss": shifted(LOSS, shift),
            "test__loss": shifted(LOSS, shift + 0.1),
            "train__accuracy": shifted(ACCURACY, shift + 0.1),
            **others,
        },
    )


def _settings(name: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in name.split()[1:] if "=" in name)


def several(*names: str, seeds: int = 3, **others: Any) -> list[Run]:
    """Runs of some seeds for each name, the first the best."""
    return [
        trained(name, seed, 0.02 * seed - 0.05 * place, **others)
        for place, name in enumerate(names)
        for seed in range(seeds)
    ]


def diverging(name: str, seed: int, values: Sequence[float], loss: Sequence[float]) -> Run:
    return run(name, seed, values, Outcome.DIVERGED, train__loss=loss)


def clipping(name: str, seeds: int = 2) -> list[Run]:
    """Runs of an optimizer that tells of its steps, which are longer with each seed."""
    shares = {"plain": [0.0, 0.5, 1.0], "clipped": [0.5, 0.5, 0.0], "floored": [0.5, 0.0, 0.0]}
    others: dict[str, Any] = {f"optim__{key}_fraction": each for key, each in shares.items()}
    others |= {"optim__lr": [0.5, 0.5, 0.1], "optim__grad_norm": [100.0, 1.0, 0.1]}
    return [
        run(name, seed, ACCURACY[:3], optim__step_size=[0.1 + seed / 50, 0.25, 0.1], **others)
        for seed in range(seeds)
    ]


def drawn(answer: Analysis, style: Style | None = None) -> dict[str, Figure]:
    """The figures of an answer by kind; of several of a kind the last."""
    return {each.kind: each.figure for each in figures(answer, style or Style.read())}


def legend(figure: Figure) -> list[str]:
    (found,) = figure.legends
    return [text.get_text() for text in found.get_texts()]


def looks(figure: Figure) -> dict[str, tuple[str, str]]:
    """The colour and the marker of each entry of the legend."""
    from matplotlib.colors import to_hex
    from matplotlib.lines import Line2D

    (found,) = figure.legends
    handles = [each for each in found.legend_handles if isinstance(each, Line2D)]
    drawn_as = [(to_hex(each.get_color()), str(each.get_marker())) for each in handles]
    return dict(zip(legend(figure), drawn_as, strict=False))


def bands(axes: Axes) -> list[PolyCollection]:
    """The bands and areas, the one drawn first first."""
    from matplotlib.collections import PolyCollection

    return [each for each in axes.collections if isinstance(each, PolyCollection)]


def note(figure: Figure) -> str:
    return str(figure.legends[0].get_title().get_text()).replace("\n", " ")


def lines(axes: Axes, style: str) -> list[Line2D]:
    """The lines of a style with more than one point, the one drawn first first."""
    found = [line for line in axes.get_lines() if line.get_linestyle() == style]
    return [line for line in found if len(np.asarray(line.get_xdata())) > 1]


def ys(line: Line2D) -> list[float]:
    return [float(y) for y in np.asarray(line.get_ydata())]


def crosses(axes: Axes) -> list[tuple[float, float]]:
    found = [line for line in axes.get_lines() if line.get_marker() == "x"]
    return [(float(np.asarray(x.get_xdata())[0]), ys(x)[0]) for x in found]


def texts(figure: Figure) -> list[str]:
    """Everything that is written in a figure."""
    from matplotlib.text import Text

    found = [each for each in figure.findobj(Text) if isinstance(each, Text)]
    return [each.get_text() for each in found]
