"""Performance profiles: on how many experiments an optimizer is nearly as fast as the fastest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deltagclip_cli.core import MARK, plural
from deltagclip_cli.report.appearance import MOST_SETTINGS, LineStyle, as_label, legend_name
from deltagclip_cli.report.charts.lines import Json, PageLines, add_legend, entry, line_trace
from deltagclip_cli.results.compare.analysis import on_inside_times
from deltagclip_cli.results.compare.choosing import chosen_on
from deltagclip_cli.results.compare.question import CLOCKS
from deltagclip_cli.results.compare.tables import INSIDE
from deltagclip_cli.results.statistics.across import LIMIT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deltagclip_cli.results.compare.analysis import Overall


@dataclass(frozen=True)
class Profiles:
    """For each clock the profiles of all optimizers; empty without a target."""

    across: Overall
    styles: Mapping[str, LineStyle]
    has_epochs: bool
    kind = "profiles"
    heading = ""

    @property
    def _clocks(self) -> list[str]:
        known = [clock for clock in CLOCKS if self.across.profiles.get(clock)]
        return [clock for clock in known if clock != "epochs" or self.has_epochs]

    def page(self, page: PageLines) -> Iterator[Json]:
        """Yield a chart for each clock, with a line for each optimizer."""
        mark = INSIDE * bool(self.across.inside_schedule)
        for clock in self._clocks:
            traces = []
            for label in self.across.ranking.mean_rank:
                if profile := self.across.profiles[clock].get(label):
                    trace = line_trace(self.styles[label], *profile.steps())
                    trace["line"]["shape"] = "hv"
                    trace["hovertemplate"] = "%{y:.0%}<extra>%{fullData.name}</extra>"
                    traces.append(trace)
            ticks = {"type": "log", "dtick": 0.30103, "tickformat": ".3g"}  # each twice the last
            yield {
                "title": f"Performance profile, {clock}{mark}",
                "traces": traces,
                "layout": {
                    "xaxis": {"title": {"text": "times the fastest (τ)"}, **ticks},
                    "yaxis": {
                        "title": {"text": "share of targets reached"},
                        "tickformat": ".0%",
                        "range": [-0.02, 1.05],
                    },
                    "showlegend": True,
                    "hovermode": "x unified",
                },
            }

    def paper(self) -> Figure | None:
        """Draw a panel for each clock, with the optimizers of the best scores."""
        if not self._clocks:
            return None
        from matplotlib import rcParams
        from matplotlib.figure import Figure

        figure = Figure(figsize=rcParams["figure.figsize"], layout="constrained")
        grid = figure.subplots(1, len(self._clocks), sharey=True, squeeze=False)[0]
        scores = self.across.profiles[self._clocks[-1]]
        labels = sorted(scores, key=lambda label: -scores[label].score)[:MOST_SETTINGS]
        for axes, clock in zip(grid, self._clocks, strict=True):
            for label in reversed(labels):
                style = {**self.styles[label].on_paper, "clip_on": False}
                axes.step(*self.across.profiles[clock][label].steps(), where="post", **style)
            axes.set_xscale("log")
            axes.set_xlim(1, LIMIT)
            axes.set_xticks([1, 1.5, 2, 3, 4], ["1", "1.5", "2", "3", "4"])
            axes.set_xticks([], minor=True)
            axes.set_ylim(-0.02, 1.04)
            axes.set_xlabel(f"{as_label(clock)} over the fastest's, τ")
        grid[0].set_ylabel(f"Share of {plural(self.across.timed, 'target')} reached")
        notes = [f"{len(labels)} best of {len(scores)} optimizers"] * (len(labels) < len(scores))
        notes += [on_inside_times(self.across)] * bool(self.across.inside_schedule)
        notes += [f"settings {MARK}"] * (chosen_on(self.across.choices) == "test")
        entries = [entry(legend_name(each), **self.styles[each].on_paper) for each in labels]
        add_legend(figure, entries, "; ".join(notes))
        return figure
