"""The paper's figure: loss beside accuracy, train solid, test dotted, with standard errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deltagclip_cli.core import plural
from deltagclip_cli.report.figure_legend import Entry, add_legend, entry, line_entry
from deltagclip_cli.report.figure_lines import PALE, clock, draw_line, ends_of, set_limits, set_x
from deltagclip_cli.report.figure_settings import Setting, note
from deltagclip_cli.report.figure_text import LITERAL, as_label, drawable
from deltagclip_cli.report.figure_traces import Trace, traces
from deltagclip_cli.results.compare.comparison import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SETS = {"train": "-", "test": ":", "val": "--", "": "-."}  # the last of no data set
_FIRST = ("loss", "accuracy")
_MOST_PANELS = 8  # what is on a page; a program may log a hundred metrics
_ALONE = 0.5  # of the width, for a single panel: a column of two
_NEVER_LOG = ("acc", "accuracy")


@dataclass(frozen=True, eq=False)
class Line:
    """A metric of a setting."""

    setting: Setting
    dataset: str
    pieces: Sequence[Trace]


@dataclass(frozen=True, eq=False)
class Panel:
    """A quantity, with a line for each setting and data set that has it."""

    quantity: str
    lines: Sequence[Line]


def draw_curves(comparison: Comparison, settings: Sequence[Setting]) -> Figure | None:
    """Everything that was measured on data; None if nothing was."""
    found = _panels(comparison, settings)
    panels = found[:_MOST_PANELS]
    if not panels:
        return None
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    columns, rows = min(2, len(panels)), -(-len(panels) // 2)
    width, height = rcParams["figure.figsize"]
    width *= 1 if columns == 2 else _ALONE
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    styles = _styles(panels)
    for axes, panel in zip(grid, panels, strict=False):
        _draw(axes, panel, styles)
        set_x(axes, ends_of(_pieces(panel.lines)), clock(comparison))
    for axes in grid[len(panels) :]:
        axes.remove()
    entries = [entry(setting.look, setting.label) for setting in settings]
    entries += [line_entry(each, style) for each, style in styles.items() if len(styles) > 1]
    entries += key_of_ends([piece for panel in panels for piece in _pieces(panel.lines)])
    add_legend(figure, entries, f"{note(comparison)} {_note(found[_MOST_PANELS:])}".strip())
    return figure


def _note(left_out: Sequence[Panel]) -> str:
    names = ", ".join(drawable(panel.quantity) for panel in left_out)
    return f"Without {plural(len(left_out), 'other metric')}: {names}." if left_out else ""


def _panels(comparison: Comparison, settings: Sequence[Setting]) -> list[Panel]:
    panels: list[Panel] = []
    for quantity, metrics in _quantities(comparison, settings).items():
        lines = [
            Line(setting, dataset, pieces)
            for setting in settings
            for dataset, metric in metrics.items()
            if (pieces := traces(setting.row.once, metric, comparison.question.ddof))
        ]
        if lines:
            panels.append(Panel(quantity, lines))
    return panels


def _quantities(comparison: Comparison, settings: Sequence[Setting]) -> dict[str, dict[str, str]]:
    """The metric of each data set, by quantity; loss and accuracy first, then what was asked."""
    runs = (run for setting in settings for run in setting.row.once)
    names = dict.fromkeys(name for run in runs for name in run.curves)
    asked = comparison.question.metric
    found: dict[str, dict[str, str]] = {each: {} for each in (*_FIRST, _split(asked)[1])}
    for name in names:
        dataset, quantity = _split(name)
        if dataset or name == asked:
            found.setdefault(quantity, {})[dataset] = name
    return found


def _split(metric: str) -> tuple[str, str]:
    """A data set, if the name begins with one, and the quantity."""
    dataset, slash, quantity = metric.partition("/")
    return (dataset, quantity) if slash and SETS.get(dataset) else ("", metric)


def _draw(axes: Axes, panel: Panel, styles: Mapping[str, str]) -> None:
    words = panel.quantity.lower().replace("/", " ").replace("_", " ").split()
    may_be_log = not set(words) & set(_NEVER_LOG)
    set_limits(axes, _pieces(panel.lines), may_be_log=may_be_log)
    for line in reversed(panel.lines):  # so that the best lies above the others
        draw_line(axes, line.setting, line.pieces, styles[line.dataset])
    datasets = {line.dataset for line in panel.lines}
    axes.set_ylabel(_label(panel.quantity, datasets), **LITERAL)


def _label(quantity: str, datasets: set[str]) -> str:
    """The quantity, and of which data if it is of one only."""
    (only,) = datasets if len(datasets) == 1 else ("",)
    return as_label(f"{only} {quantity}".strip())


def _pieces(lines: Iterable[Line]) -> list[Trace]:
    return [piece for line in lines for piece in line.pieces]


def _styles(panels: Sequence[Panel]) -> Mapping[str, str]:
    """How each data set is drawn; solid where it is the only one."""
    there = {line.dataset for panel in panels for line in panel.lines}
    if len(there) == 1:
        return dict.fromkeys(there, "-")
    return {dataset: style for dataset, style in SETS.items() if dataset in there}


def key_of_ends(pieces: Sequence[Trace], *, is_broken: bool = False) -> list[Entry]:
    """What × and pale lines mean, where there are some; ``is_broken`` if × is elsewhere too."""
    entries = []
    if is_broken or any(piece.is_broken for piece in pieces):
        entries.append(line_entry("a seed ends", "", "x"))
    if not all(piece.is_whole for piece in pieces):
        entries.append(line_entry("mean of the others", "-"))
        entries[-1].handle.set_alpha(PALE)
    return entries
