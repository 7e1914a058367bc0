"""Performance profiles: on how many experiments an optimizer is nearly as fast as the fastest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from deltagclip_cli.core import plural
from deltagclip_cli.report.figure_legend import add_legend, entry
from deltagclip_cli.report.figure_settings import colour, marker
from deltagclip_cli.report.figure_text import as_label, drawable, letters, shortened
from deltagclip_cli.report.line_styles import MOST_SETTINGS, Look
from deltagclip_cli.results.compare.analysis import CLOCKS, Overall
from deltagclip_cli.results.statistics.across import LIMIT, Profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_profiles(across: Overall, looks: Mapping[str, Look], *, has_epochs: bool) -> Figure | None:
    """A panel for each clock, a line for each optimizer; None without a target."""
    if not any(across.profiles.values()):
        return None
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    clocks = [clock for clock in CLOCKS if clock != "epochs" or has_epochs]
    figure = Figure(figsize=rcParams["figure.figsize"], layout="constrained")
    panels = figure.subplots(1, len(clocks), sharey=True, squeeze=False)[0]
    labels = _best(across.profiles[CLOCKS[-1]])
    for axes, clock in zip(panels, clocks, strict=True):
        _draw(axes, {label: across.profiles[clock][label] for label in labels}, looks)
        axes.set_xlabel(f"{as_label(clock)} over the fastest's, τ")
    panels[0].set_ylabel(f"Share of {plural(across.timed, 'target')} reached")
    count = len(across.profiles[CLOCKS[-1]])
    title = "" if len(labels) == count else f"{len(labels)} best of {count} optimizers"
    names = {label: drawable(shortened(label, letters(0.5, least=40))) for label in labels}
    add_legend(figure, [entry(looks[label], name) for label, name in names.items()], title)
    return figure


def _best(profiles: Mapping[str, Profile]) -> list[str]:
    """The optimizers with the best scores, the best one first."""
    return sorted(profiles, key=lambda label: -profiles[label].score)[:MOST_SETTINGS]


def _draw(axes: Axes, profiles: Mapping[str, Profile], looks: Mapping[str, Look]) -> None:
    for label, profile in reversed(list(profiles.items())):
        look = looks[label]
        style = {"color": colour(look), "clip_on": False, **marker(look)}
        axes.step(*profile.steps(), where="post", **style)
    axes.set_xscale("log")
    axes.set_xlim(1, LIMIT)
    axes.set_xticks([1, 1.5, 2, 3, 4], ["1", "1.5", "2", "3", "4"])
    axes.set_xticks([], minor=True)
    axes.set_ylim(-0.02, 1.04)
