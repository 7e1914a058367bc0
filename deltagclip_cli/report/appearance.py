"""Line styles of settings, the style of figures, and text that fits into them."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import MARK, UsageError, printable

if TYPE_CHECKING:
    from deltagclip_cli.results.compare.comparison import Comparison, Row

logger = logging.getLogger(__name__)

MOST_SETTINGS = 12  # with a train and a test line of each, nobody could follow more in a panel

# Okabe & Ito (2008): colours that people who see few of them can tell apart, without the yellow,
# which nobody sees on white; then dashes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F")
DASHES = ("solid", "dash", "dot", "dashdot")
# Instead of dashes on paper, where solid, dotted and dashed tell train, test and val.
_MARKERS = ("", "o", "s", "^")
_PALE = 0.2  # of bands around lines

# Come with matplotlib, and are asked for a letter that the fonts of a style lack.
_FALLBACK_FONTS = ("STIXGeneral", "DejaVu Serif", "DejaVu Sans")

_MOST_LETTERS = 200  # of what matplotlib says is wrong; a line or three

LITERAL: dict[str, Any] = {"parse_math": False}  # a dollar sign is a dollar sign
_LETTERS_IN_AN_INCH = 17.5  # of a legend in the paper's style


@dataclass(frozen=True)
class LineStyle:
    """The style of a line."""

    name: str  # of the setting
    colour: str  # as ``#RRGGBB``
    dash: str  # one of DASHES; all are solid until the colours have been used

    @property
    def on_paper(self) -> dict[str, Any]:
        """The colour and the marker in the style in force, for matplotlib."""
        from matplotlib import rcParams
        from matplotlib.colors import to_hex

        colours = rcParams["axes.prop_cycle"].by_key().get("color", COLOURS)
        number = COLOURS.index(self.colour) + len(COLOURS) * DASHES.index(self.dash)
        shape = _MARKERS[number // len(colours) % len(_MARKERS)]
        colour = to_hex(colours[number % len(colours)])
        return {"color": colour, "marker": shape, "mfc": "white", "mew": 0.9}

    def band(
        self, x: Sequence[float], low: Sequence[float], high: Sequence[float]
    ) -> list[dict[str, Any]]:
        """Return the two traces of plotly's that fill a band in the colour of the line."""
        red, green, blue = (int(self.colour[at : at + 2], 16) for at in (1, 3, 5))
        edge: dict[str, Any] = {
            "x": list(x),
            "mode": "lines",
            "line": {"width": 0},
            "hoverinfo": "skip",
            "showlegend": False,
        }
        fill = {"fill": "tonexty", "fillcolor": f"rgba({red}, {green}, {blue}, {_PALE})"}
        return [{**edge, "y": list(low)}, {**edge, **fill, "y": list(high)}]


@dataclass(frozen=True)
class LineStyles:
    """The line styles of everything in an answer, by names."""

    # within a comparison all differ. Those that figures show were given theirs first, so that a few
    # have colours however many others there are.
    settings: Mapping[str, LineStyle]
    optimizers: Mapping[str, LineStyle]  # each that of its best setting

    @classmethod
    def of(cls, comparisons: Sequence[Comparison]) -> LineStyles:
        """Choose the line styles of an answer with these comparisons."""
        firsts: dict[str, str] = {}
        for label, row in (item for each in comparisons for item in each.best.items()):
            firsts.setdefault(label, row.group.name)
        chosen = [row for each in comparisons for row in _chosen(each)]
        rows = [*chosen, *(row for each in comparisons for row in each.rows)]
        settings: dict[str, LineStyle] = {}
        for number, name in enumerate(dict.fromkeys(_names(rows))):
            dash = DASHES[number // len(COLOURS) % len(DASHES)]
            settings[name] = LineStyle(name, COLOURS[number % len(COLOURS)], dash)
        optimizers = {label: replace(settings[name], name=label) for label, name in firsts.items()}
        return cls(settings, optimizers)


@dataclass(frozen=True, eq=False)
class DrawnSetting:
    """A setting in charts."""

    row: Row
    number: int  # of that row, from 0
    style: LineStyle  # the same in all charts
    optimizer_style: LineStyle
    place: int | None  # among the settings of a figure, from 0; None if only the page shows it

    @property
    def name(self) -> str:
        return self.row.group.name

    @property
    def label(self) -> str:
        """For a legend on paper: its name, and how many runs diverged."""
        count, name = self.row.lost, legend_name(self.name)
        return f"{name} ({count} of {len(self.row.once)} diverged)" if count else name


def drawn_settings(comparison: Comparison, styles: LineStyles) -> list[DrawnSetting]:
    """Return all settings of a comparison, in the order of its table."""
    places = {row.group.name: place for place, row in enumerate(_chosen(comparison))}
    return [
        DrawnSetting(
            row,
            number,
            styles.settings[row.group.name],
            styles.optimizers[row.group.optimizer],
            places.get(row.group.name),
        )
        for number, row in enumerate(comparison.rows)
    ]


def on_paper(settings: Iterable[DrawnSetting]) -> list[DrawnSetting]:
    """Return those that figures show."""
    return [each for each in settings if each.place is not None]


def _chosen(comparison: Comparison) -> list[Row]:
    """Choose for figures the baseline, the best setting of each optimizer, the best others."""
    before = [row for row in (comparison.baseline,) if row is not None]
    names = _names([*before, *comparison.best.values(), *comparison.rows])
    chosen = list(dict.fromkeys(names))[:MOST_SETTINGS]
    return [row for row in comparison.rows if row.group.name in chosen]


def left_out_note(comparison: Comparison) -> str:
    """Say how many settings figures leave out; empty if none is left out."""
    shown, count = len(_chosen(comparison)), len(comparison.rows)
    if shown == count:
        return ""
    baseline = "the baseline, then " if comparison.baseline else ""
    choice = comparison.choice
    mark = f", {MARK}" if choice is not None and choice.on == "test" else ""
    return f"{shown} of {count} settings: first {baseline}the best of each optimizer{mark}."


def _names(rows: Iterable[Row]) -> list[str]:
    return [row.group.name for row in rows]


@dataclass(frozen=True, eq=False)
class Style:
    """The style of figures, whatever the user's own matplotlibrc says."""

    settings: dict[Any, Any]  # rcParams that are not matplotlib's defaults
    file: Path | None = None  # the user's; None for the paper's style as it is

    @classmethod
    def read(cls, file: Path | None = None) -> Style:
        """Read the paper's style, and lay a style file over it; UsageError if it is wrong.

        A font that is not there is left out, and said once: matplotlib would say it for each letter
        that it draws.
        """
        from cycler import cycler

        settings: dict[str, Any] = {"axes.prop_cycle": cycler(color=COLOURS)}
        with as_file(files(__package__ or "").joinpath("assets/paper.mplstyle")) as own:
            settings |= _parsed(own)
        if file is not None:
            settings |= _parsed(file)
        families = [*settings["font.family"], *_FALLBACK_FONTS]
        style = cls({**settings, "font.family": families}, file)
        with style.applied():
            missing = [family for family in families if not _is_there(family)]
        there = [family for family in families if family not in missing]
        if missing:
            names = printable(", ".join(missing))
            words = "--style %s: no font %s is here; %s stands in for it."
            logger.warning(words, file, names, there[0])
        return cls({**settings, "font.family": there}, file)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Draw and save in this style; afterwards everything is as it was.

        Matplotlib may stumble only here over the user's file, such as over a size: UsageError.
        """
        import matplotlib

        try:
            with matplotlib.rc_context():
                matplotlib.rcdefaults()
                matplotlib.rcParams.update(self.settings)
                yield
        except Exception as error:
            if self.file is None:
                raise
            words = str(error).partition("\n")[0] or type(error).__name__
            reason = shortened(printable(words).rstrip("."), _MOST_LETTERS)
            raise UsageError(
                f"--style {self.file}: figures cannot be drawn in it: {reason}.\n"
                "  Change the line of the file that this is about, or leave it out."
            ) from error


def _parsed(file: Path) -> dict[str, Any]:
    """Read a style file; the first thing that matplotlib warns of is an error here."""
    from matplotlib import rc_params_from_file

    said: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        said.append(record.getMessage().strip())
        return False

    source = logging.getLogger("matplotlib")
    source.addFilter(keep)
    try:
        found = rc_params_from_file(file.resolve(), use_default_template=False)
    except (OSError, ValueError) as error:  # ValueError of what is no text
        why = getattr(error, "strerror", None) or "it is not a text file in UTF-8"
        raise UsageError(f"--style {file}: cannot be read: {why}.") from None
    finally:
        source.removeFilter(keep)
    if found.get("text.usetex"):  # names of settings may hold what LaTeX would obey
        said.append("text.usetex cannot be used here; font.serif gives another font")
    if said:
        words = printable(said[0].partition("\n")[0])
        raise UsageError(f"--style {file}: {words}.\n  Change that line, or leave it out.")
    return {key: dict.__getitem__(found, key) for key in found}


def _is_there(family: str) -> bool:
    from matplotlib.font_manager import FontProperties, findfont

    try:
        findfont(FontProperties(family=[family]), fallback_to_default=False)
    except ValueError:
        return False
    return True


def legend_name(name: str) -> str:
    """Return a name as a legend has room for it."""
    return printable(shortened(name, letters(0.5, least=40)))


def letters(share: float, least: int = 8) -> int:
    """Return how many letters there is room for in a share of a figure's width."""
    from matplotlib import rcParams

    return max(least, letters_in(share * rcParams["figure.figsize"][0]))


def letters_in(inches: float) -> int:
    """Return how many letters there is room for."""
    return int(inches * _LETTERS_IN_AN_INCH)


def shortened(text: str, most: int) -> str:
    """Leave out the middle of a text that is too long."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}…{text[len(text) - (most - 1) // 2 :]}"


def wrapped(text: str, width: int, lines: int) -> str:
    """Break a text into a few lines, without its middle if that is not enough."""
    short = shortened(text, width * lines - lines)
    return "\n".join(textwrap.wrap(short, width)[:lines]) if len(short) > width else short


def as_label(name: str) -> str:
    """Return a name for an axis: ``Accuracy`` of ``accuracy``."""
    return printable(name[:1].upper() + name[1:])
