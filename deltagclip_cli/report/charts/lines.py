"""Lines of metrics: means over seeds and how far they are sure, for the page and for paper."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from deltagclip_cli.report.appearance import (
    LITERAL,
    MOST_SETTINGS,
    DrawnSetting,
    LineStyle,
    as_label,
    left_out_note,
    letters,
    on_paper,
    wrapped,
)
from deltagclip_cli.results.compare.question import CLOCKS
from deltagclip_cli.results.read.run import Curve, Numbers, Outcome, Run, usual_clock
from deltagclip_cli.results.statistics.summary import DIVERGED

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

    from deltagclip_cli.results.compare.comparison import Comparison

Json = dict[str, Any]

POINTS_ON_PAPER = 600  # of one line: a panel is three inches wide; a printer gives no more dots
POINTS_ON_PAGE = 400  # a chart is hardly wider in pixels
LEAST_POINTS = 20
MOST_NUMBERS = 300_000  # of all lines of a page: some 3 MB
SHOWN_AT_FIRST = 10  # lines of a chart of the page; its legend switches the others on

CROSS: dict[str, Any] = {"marker": "x", "mew": 1.2, "clip_on": False, "zorder": 3}
"""Where a seed is lost; also at the edge of a panel."""

GREY = "0.35"  # of what is said of all settings
_PALE = 0.35  # of a mean in which not all seeds are
_MARKERS_ON_A_LINE = 9
_LOG_RATIO = 100.0
_MARGIN = 0.04
_MOST_COLUMNS = 6  # of a legend
_MOST_LINES = 4  # of a note
_ALONE = 0.5  # of the width, for a single panel: a column of two
_LETTERS = 28  # of a line of words beside an axis


@dataclass(frozen=True, eq=False)
class Band:
    """One metric of a setting over its seeds, at N points."""

    epochs: Numbers  # at which some seed has a point, (N,)
    steps: Numbers  # of the optimizer there, the mean where seeds differ, (N,)
    seconds: Numbers  # likewise, (N,)
    mean: Numbers  # over the seeds that have a finite value there; NaN if none has, (N,)
    standard_error: Numbers  # of the mean; NaN for fewer than two, (N,)
    counts: NDArray[np.int64]  # of seeds that have a finite value, (N,)
    seeds: Numbers  # the values of each run, NaN where it has none, (R, N)
    is_whole: bool = True  # every seed of the setting is in the mean
    is_broken: bool = False  # a seed ends at the last point, and not at the end of its run
    clock: str = "epoch"  # what its runs are told of in

    @property
    def x(self) -> Numbers:
        """The epochs or steps that it is drawn over where nobody can choose, (N,)."""
        return self.epochs if self.clock == "epoch" else self.steps

    def at(self, places: NDArray[np.intp]) -> Band:
        """Return the same at some of its points."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        there: dict[str, Any] = {
            name: each[..., places] for name, each in values.items() if isinstance(each, np.ndarray)
        }
        return replace(self, **there)


def band(runs: Sequence[Run], metric: str, ddof: int = 1) -> Band | None:
    """Return the band of a metric over runs of different seeds; None if no run has it."""
    curves = [run.curves[metric] for run in runs if metric in run.curves]
    if not curves:
        return None
    epochs = np.unique(np.concatenate([curve.epochs for curve in curves]))

    def table(numbers_of: Callable[[Curve], Numbers]) -> Numbers:
        """NaN where a curve has no point; the last of several."""
        spread = np.full((len(curves), len(epochs)), np.nan)
        for line, curve in zip(spread, curves, strict=True):
            line[np.searchsorted(epochs, curve.epochs)] = numbers_of(curve)
        return spread

    values = table(lambda curve: curve.values)
    values = np.where(np.abs(values) < DIVERGED, values, np.nan)
    counts = np.isfinite(values).sum(axis=0)
    mean = _mean(values)
    squares = np.nansum((values - mean) ** 2, axis=0)
    degrees = np.where(counts > 1, counts - ddof, np.nan)
    standard_error = np.asarray(np.sqrt(squares / degrees / np.maximum(counts, 1)))
    return Band(
        epochs=epochs,
        steps=_mean(table(lambda curve: curve.steps)),
        seconds=_mean(table(lambda curve: curve.seconds)),
        mean=mean,
        standard_error=standard_error,
        counts=counts,
        seeds=values,
        clock=usual_clock(runs),
    )


def _mean(table: Numbers) -> Numbers:
    """Over the first axis, of what is not NaN."""
    counts = np.isfinite(table).sum(axis=0)
    return np.asarray(np.nansum(table, axis=0) / np.where(counts, counts, np.nan))


def pieces(runs: Sequence[Run], metric: str, ddof: int = 1, most: int | None = None) -> list[Band]:
    """Return the line of a metric, in pieces over which the same seeds are there.

    A mean that loses a seed jumps for no reason but that, most of all as it is the bad ones that
    are lost. So the line ends where a seed does, and goes on as another one. Points that some seed
    skips are skipped by the mean; seeds that hardly share a point have a line each. With ``most``
    points, a few more are given for those that must not be missed.
    """
    having = [run for run in runs if metric in run.curves]
    found = band(having, metric, ddof)
    if found is None:
        return []
    there = np.isfinite(found.seeds)
    ends = np.array([np.flatnonzero(each)[-1] if each.any() else -1 for each in there])
    running = (ends[:, None] >= np.arange(len(found.epochs))).sum(axis=0)
    is_shared = (found.counts == running) & (running > 0) & np.isfinite(found.mean)
    shared = np.flatnonzero(is_shared)
    if len(having) > 1 and 2 * len(shared) < np.median(there.sum(axis=1)):
        return [piece for run in having for piece in pieces([run], metric, ddof, most)]
    lost = [run for run in runs if run not in having and run.outcome is Outcome.DIVERGED]
    breaks = np.array(
        [
            end
            for run, end in zip(having, ends, strict=True)
            if run.outcome is Outcome.DIVERGED or end < ends.max()
        ]
    )
    if most is not None:
        shared = shared[_thinned(found.mean[shared], most)]
    parts = np.split(shared, np.flatnonzero(np.diff(running[shared])) + 1)
    parts = [part for part in parts if len(part)]
    followings = [*(part[0] for part in parts), len(found.epochs)][1:]
    return [
        replace(
            found.at(part),
            is_whole=running[part[0]] == len(having) + len(lost),
            is_broken=bool(np.any((part[0] <= breaks) & (breaks < following))),
        )
        for part, following in zip(parts, followings, strict=True)
    ]


def _thinned(means: Numbers, most: int) -> NDArray[np.intp]:
    """Choose evenly spaced points, the first and the last and both extremes among them."""
    count = len(means)
    if count <= most:
        return np.arange(count)
    even = np.linspace(0, count - 1, most).round().astype(np.intp)
    return np.unique([*even, means.argmin(), means.argmax()])


@dataclass(frozen=True, eq=False)
class DrawnLine:
    """A metric of a setting."""

    setting: DrawnSetting  # whose it is
    pieces: Sequence[Band]  # see pieces
    linestyle: str = "-"  # of matplotlib's, which on paper says what it shows
    # what it is to the line of the setting itself, such as its bound; dotted on the page
    role: str = ""


@dataclass(frozen=True)
class Panel:
    """A quantity in lines: a chart of the page, a panel on paper."""

    title: str
    lines: Sequence[DrawnLine]
    is_log: bool = True  # whether a logarithmic axis can suit it


@dataclass(frozen=True)
class LineCharts:
    """Charts of lines over the training, which have the same panels on the page and on paper."""

    comparison: Comparison
    settings: Sequence[DrawnSetting]
    kind: ClassVar[str]
    heading: ClassVar[str]

    def panels(self, settings: Sequence[DrawnSetting], most: int) -> Iterator[Panel]:
        """Yield what there is to show of some settings, of each line about so many points."""
        raise NotImplementedError

    def lines(
        self,
        settings: Iterable[DrawnSetting],
        metric: str,
        most: int,
        *,
        linestyle: str = "-",
        role: str = "",
        extended: Callable[[Run], Run] = lambda run: run,
    ) -> list[DrawnLine]:
        """Return the lines of settings that have a metric, if only one that is added to runs."""
        ddof = self.comparison.question.ddof
        found = (
            (each, pieces([extended(run) for run in each.row.once], metric, ddof, most))
            for each in settings
        )
        return [DrawnLine(setting, line, linestyle, role) for setting, line in found if line]

    def page(self, page: PageLines) -> Iterator[Json]:
        """Yield a chart for each panel, with all settings."""
        for each in self.panels(self.settings, page.points):
            yield page.chart(each)

    def paper(self) -> Figure | None:
        """Draw the panels, with the settings of figures; None if there is none."""
        return self.figure(list(self.panels(on_paper(self.settings), POINTS_ON_PAPER)))

    def figure(self, panels: Sequence[Panel], note: str = "") -> Figure | None:
        """Draw panels, and say below them what their lines are."""
        if not panels:
            return None
        lines = [line for panel in panels for line in panel.lines]
        figure, grid = empty_panels(len(panels))
        for axes, panel in zip(grid, panels, strict=True):
            _draw_panel(axes, panel)
            set_x(axes, ends_of(lines), clock(self.comparison))
        settings = sorted({line.setting for line in lines}, key=lambda each: each.number)
        roles: dict[str, dict[str, None]] = {}
        for line in lines:
            roles.setdefault(line.linestyle, {})[line.role] = None
        entries = [entry(each.label, **each.style.on_paper) for each in settings]
        if len(roles) > 1:
            words = {style: ", ".join(filter(None, names)) for style, names in roles.items()}
            entries += [entry(word, linestyle=style) for style, word in words.items() if word]
        add_line_legend(figure, self.comparison, entries, lines, note)
        return figure


def may_be_log(metric: str) -> bool:
    """Tell if a logarithmic axis can suit a metric, as it never does shares of one."""
    return not re.search("acc|fraction|share", metric, re.IGNORECASE)


@dataclass
class PageLines:
    """Makes the lines of a page as plain data, which share what they are drawn over."""

    points: int  # the most of each line
    # epochs, steps and seconds; a line names one by its place
    axes: list[Json] = field(default_factory=list)
    _places: dict[bytes, int] = field(default_factory=dict)

    @classmethod
    def for_page(cls, comparisons: Iterable[Comparison]) -> PageLines:
        """Choose as many points of each line as a page has room for."""
        rows = [row for comparison in comparisons for row in comparison.rows]
        lines = sum(
            (len(row.runs) + 2) * len({name for run in row.runs for name in run.curves})
            for row in rows
        )
        return cls(max(LEAST_POINTS, min(POINTS_ON_PAGE, MOST_NUMBERS // max(1, lines))))

    def axis(self, clocks: Mapping[str, Numbers]) -> int:
        """Return the place of an axis, by the numbers of each clock."""
        key = b"".join(numbers.tobytes() for numbers in clocks.values())
        if key not in self._places:
            self._places[key] = len(self.axes)
            self.axes.append({clock: plain(numbers) for clock, numbers in clocks.items()})
        return self._places[key]

    def axis_of(self, found: Band) -> int:
        """Return the place of the axis of a band."""
        return self.axis({clock: getattr(found, clock) for clock in CLOCKS})

    def chart(self, panel: Panel) -> Json:
        """Return a chart against the clock that is chosen."""
        drawn, ends = [], []
        for each in panel.lines:
            setting, role = each.setting, each.role
            name = f"{setting.name}, {role}" if role else setting.name
            if setting.number < SHOWN_AT_FIRST:
                ends.append(f"{name} {each.pieces[-1].mean[-1]:.4g}")
            drawn.append(
                {
                    "row": setting.number,
                    "name": name,
                    "dash": "dot" if role else setting.style.dash,
                    "pieces": [self._piece(piece) for piece in each.pieces],
                }
            )
        told = f", at the end {', '.join(ends)}" if ends else ""
        return {"title": panel.title, "told": told, "mayBeLog": panel.is_log, "lines": drawn}

    def _piece(self, found: Band) -> Json:
        several = found.counts[0] > 1
        seeds = [plain(each) for each in found.seeds if np.isfinite(each).any()]
        return {
            "axis": self.axis_of(found),
            "mean": plain(found.mean),
            "error": plain(found.standard_error) if several else None,
            "n": int(found.counts[0]),
            "seeds": seeds if several else [],
            "isWhole": bool(found.is_whole),
            "isBroken": found.is_broken,
        }


def plain(values: Numbers) -> list[float | None]:
    """Return six digits, which is finer than a chart can show; null where there is no number."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values.tolist()]


def escaped(text: str) -> str:
    """Return a text as it is, for plotly, which takes some tags for its own."""
    return text.replace("<", "&lt;")


def line_trace(style: LineStyle, x: Sequence[Any], y: Sequence[Any], **others: Any) -> Json:
    """Return a line of plotly's in the style of a setting or an optimizer, by its name."""
    line = {"color": style.colour, "dash": style.dash, "width": 2}
    return {"name": escaped(style.name), "mode": "lines", "x": x, "y": y, "line": line, **others}


def empty_panels(count: int, columns: int = 2, height: float = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels, so many in a row, of a part of a figure's height."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    width, full = rcParams["figure.figsize"]
    rows = -(-count // columns)
    size = (width * (1 if count > 1 else _ALONE), full * height * rows)
    figure = Figure(figsize=size, layout="constrained")
    grid = list(figure.subplots(rows, min(columns, count), squeeze=False).ravel())
    for axes in grid[count:]:
        axes.remove()
    return figure, grid[:count]


def _draw_panel(axes: Axes, panel: Panel) -> None:
    """Draw lines, the first above the others; the axis is logarithmic if the means need it."""
    pieces_of_all = [piece for line in panel.lines for piece in line.pieces]
    _set_limits(axes, pieces_of_all, is_log=panel.is_log)
    for line in reversed(panel.lines):
        _draw_line(axes, line)
    axes.set_ylabel(wrapped(as_label(panel.title), _LETTERS, 2), **LITERAL)


def _draw_line(axes: Axes, line: DrawnLine) -> None:
    """Draw a mean and its band; paler where not all seeds are there, with × where one is lost.

    After the limits are set: × is at the edge if it is beyond it, and a band ends where its mean
    leaves the panel, for that of a seed that explodes would cover all of it.
    """
    own, (bottom, top) = line.setting.style.on_paper, axes.get_ylim()
    hue = own["color"]
    for piece in line.pieces:
        x, alpha = piece.x, 1 if piece.is_whole else _PALE
        marks = {**own, "marker": own["marker"] or "."}  # a line of one point cannot be seen
        if len(x) > 1:
            every = math.ceil(len(x) / _MARKERS_ON_A_LINE)
            first = (line.setting.place or 0) * every // MOST_SETTINGS  # not upon those of others
            marks = {**own, "markevery": (first, every)}
        axes.plot(x, piece.mean, alpha=alpha, linestyle=line.linestyle, **marks)
        error = piece.standard_error
        if len(x) == 1 and np.isfinite(error).all():  # a band of no width cannot be seen
            axes.errorbar(x, piece.mean, error, fmt="none", ecolor=hue, alpha=alpha)
        elif np.isfinite(error).any():
            low, high = piece.mean - error, piece.mean + error
            inside = (bottom <= piece.mean) & (piece.mean <= top)
            style: dict[str, Any] = {"color": hue, "alpha": 0.2 * alpha, "linewidth": 0}
            axes.fill_between(x, low, high, where=inside, **style)
        if piece.is_broken:
            end = min(max(float(piece.mean[-1]), bottom), top)
            axes.plot([x[-1]], [end], color=hue, **CROSS)


def _set_limits(axes: Axes, found: Sequence[Band], *, is_log: bool) -> None:
    """Let the panel be high enough for where lines begin, and those that end by themselves.

    What explodes leaves it.
    """
    sound = [piece for piece in found if not piece.is_broken] or found
    begin = min(piece.x[0] for piece in found)
    errors = [np.nan_to_num(piece.standard_error) for piece in sound]
    lows = [piece.mean - error for piece, error in zip(sound, errors, strict=True)]
    highs = [piece.mean + error for piece, error in zip(sound, errors, strict=True)]
    starts = [piece.mean[:1] for piece in found if piece.x[0] == begin]
    low, high = (
        float(np.concatenate([*lows, *starts]).min()),
        float(np.concatenate(highs + starts).max()),
    )
    least = float(np.concatenate([*(piece.mean for piece in sound), *starts]).min())
    if is_log and least > 0 and high / _LOG_RATIO > least:
        axes.set_yscale("log")
        low = math.log10(max(low, least / 2))
        high = math.log10(high)
        room = _MARGIN * (high - low)
        axes.set_ylim(10 ** (low - room), 10 ** (high + room))
    else:
        room = _MARGIN * ((high - low) or abs(high) or 1)
        axes.set_ylim(low - room, high + room)


def clock(comparison: Comparison) -> str:
    """Return what time is measured in."""
    return comparison.clock.capitalize()


def ends_of(lines: Iterable[DrawnLine]) -> list[float]:
    """Return where lines begin and end."""
    return [float(e) for line in lines for piece in line.pieces for e in piece.x[[0, -1]]]


def set_x(axes: Axes, ends: Sequence[float], label: str, bins: int = 6) -> None:
    """Let an axis go from the first epoch to the last, with some numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=bins, steps=[1, 2, 5, 10], integer=True))
    room = 0 if min(ends) < max(ends) else 1
    axes.set_xlim(min(ends) - room, max(ends) + room)


def entry(label: str, **style: Any) -> Artist:
    """Return what a kind of line means; grey if it is said of all settings."""
    from matplotlib.lines import Line2D

    return Line2D([], [], **{"color": GREY, "label": label, **style})


def add_line_legend(
    figure: Figure,
    comparison: Comparison,
    entries: Iterable[Artist],
    lines: Iterable[DrawnLine],
    note: str = "",
) -> None:
    """Put a legend below a figure, which also says what × and pale lines mean."""
    entries = list(entries)
    found = [piece for line in lines for piece in line.pieces]
    if any(piece.is_broken for piece in found):
        entries.append(entry("a seed ends", linestyle="", marker="x"))
    if not all(piece.is_whole for piece in found):
        entries.append(entry("mean of the others", alpha=_PALE))
    add_legend(figure, entries, f"{left_out_note(comparison)} {note}".strip())


def add_legend(figure: Figure, entries: Sequence[Artist], note: str = "") -> None:
    """Put a legend and a note below everything, by whose height the figure grows."""
    width, height = figure.get_size_inches()
    title = wrapped(note, letters(0.9), _MOST_LINES)
    for columns in range(min(_MOST_COLUMNS, len(entries)), 0, -1):
        legend = _legend(figure, entries, title, columns)
        extent = legend.get_window_extent()
        if extent.width <= 0.98 * width * figure.dpi or columns == 1:
            break
        legend.remove()
    figure.set_size_inches(width, height + extent.height / figure.dpi)


def _legend(figure: Figure, entries: Sequence[Artist], title: str, columns: int) -> Legend:
    legend = figure.legend(
        entries,
        [str(number) for number in range(len(entries))],  # the labels might begin with _
        loc="outside lower center",
        ncols=columns,
        title=title or None,
    )
    for text, each in zip(legend.get_texts(), entries, strict=True):
        text.set(text=each.get_label(), **LITERAL)
    return legend
