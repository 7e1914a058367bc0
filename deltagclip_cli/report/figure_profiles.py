"""Performance profiles: on how many experiments an optimizer is nearly as fast as the fastest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deltagclip_cli.comparison.across import CLOCKS
from deltagclip_cli.comparison.answer import Answer
from deltagclip_cli.report.figure_legend import Entry, add_legend
from deltagclip_cli.report.figure_settings import MOST_SETTINGS, colour
from deltagclip_cli.report.figure_text import as_label, drawable, letters, shortened
from deltagclip_cli.report.looks import Look, looks
from deltagclip_cli.statistics.across import Profile
from deltagclip_cli.wording import plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LIMIT = 4.0  # where the score ends
_DASHES: dict[str, Any] = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}


def draw_profiles(answer: Answer) -> Figure | None:
    """A panel for each clock, a line for each optimizer; None without a target."""
    if answer.across is None or not any(answer.across.profiles.values()):
        return None
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    clocks = [clock for clock in CLOCKS if clock != "epochs" or _have_epochs(answer)]
    figure = Figure(figsize=rcParams["figure.figsize"], layout="constrained")
    panels = figure.subplots(1, len(clocks), sharey=True, squeeze=False)[0]
    found = _looks(answer)
    for axes, clock in zip(panels, clocks, strict=True):
        _draw(axes, answer.across.profiles[clock], found, clock)
    panels[0].set_ylabel(f"Share of {plural(answer.across.timed, 'target')} reached")
    title = "" if len(found) == len(answer.across.profiles[CLOCKS[-1]]) else _note(answer)
    add_legend(figure, [_entry(look) for look in found.values()], title)
    return figure


def _have_epochs(answer: Answer) -> bool:
    return any(each.has_epochs for each in answer.comparisons)


def _looks(answer: Answer) -> dict[str, Look]:
    """Of the optimizers with the best scores; the same as where one is a setting of its own."""
    assert answer.across is not None
    scores = {name: each.score for name, each in answer.across.profiles[CLOCKS[-1]].items()}
    labels = sorted(scores, key=lambda name: -scores[name])[:MOST_SETTINGS]
    return dict(zip(labels, looks([labels])[0], strict=True))


def _note(answer: Answer) -> str:
    assert answer.across is not None
    count = len(answer.across.profiles[CLOCKS[-1]])
    return f"{MOST_SETTINGS} best of {count} optimizers"


def _draw(
    axes: Axes, profiles: Mapping[str, Profile], found: Mapping[str, Look], clock: str
) -> None:
    for name, look in reversed(list(found.items())):
        ratios = sorted(each for each in profiles[name].ratios.values() if each <= _LIMIT)
        taus = [1.0, *ratios, _LIMIT]
        shares = [profiles[name].share(tau) for tau in taus]
        axes.step(taus, shares, where="post", color=colour(look), linestyle=_DASHES[look.dash])
    axes.set_xscale("log")
    axes.set_xlim(1, _LIMIT)
    axes.set_xticks([1, 1.5, 2, 3, 4], ["1", "1.5", "2", "3", "4"])
    axes.set_xticks([], minor=True)
    axes.set_ylim(-0.02, 1.04)
    axes.set_xlabel(f"{as_label(clock)} over the fastest's, τ")


def _entry(look: Look) -> Entry:
    from matplotlib.lines import Line2D

    line = Line2D([], [], color=colour(look), linestyle=_DASHES[look.dash])
    return Entry(line, drawable(shortened(look.name, letters(0.5, least=40))))
