"""Good settings of each optimizer, counted, and maps of means over two of its settings."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deltagclip_cli.core import NOTHING, UsageError, by_size, short
from deltagclip_cli.results.compare.question import Question, with_nearest
from deltagclip_cli.results.compare.tables import Cell, Column, Table, make_table
from deltagclip_cli.results.read.run import in_words

if TYPE_CHECKING:
    from deltagclip_cli.results.compare.comparison import Comparison, Row


@dataclass(frozen=True)
class Margin:
    """A distance from the best mean that a good setting may have; a part of it if relative."""

    size: float
    relative: bool

    @classmethod
    def parse(cls, text: str) -> Margin:
        """Read ``0.01`` or ``1%``; UsageError if it is something else."""
        found = re.fullmatch(r"\s*(\d*\.?\d+(?:[eE][-+]?\d+)?)\s*(%?)\s*", text)
        if found is None or math.isinf(float(found[1])):
            raise UsageError(f"--within {text}: say a distance such as 0.01, or a part such as 1%.")
        return cls(float(found[1]) / (100 if found[2] else 1), bool(found[2]))

    def __str__(self) -> str:
        return f"{self.size * 100:g} %" if self.relative else f"{self.size:g}"

    def covers(self, value: float, best: float) -> bool:
        """Return whether a mean is so close to the best."""
        distance = self.size * (abs(best) if self.relative else 1)
        return abs(value - best) <= distance


@dataclass(frozen=True)
class GoodSettings:
    """The settings of an optimizer, good ones counted."""

    optimizer: str  # its label
    count: int  # how many settings are within the margin of the best of them
    n: int  # how many have values
    best: Row | None  # the best of those of which no seed diverged; None if there is none
    worst: Row | None  # the worst of those
    diverged: int  # of how many a seed diverged; they are not good ones
    missing: int  # how many have no value


def sensitivities(comparison: Comparison, margin: Margin) -> list[GoodSettings]:
    """Return that of each optimizer with more than one setting."""
    groups = _by_optimizer(comparison.rows).values()
    return [_sensitivity(rows, margin) for rows in groups if len(rows) > 1]


def _by_optimizer(rows: Iterable[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.group.optimizer].append(row)
    return groups


def _sensitivity(rows: Sequence[Row], margin: Margin) -> GoodSettings:
    """Return that of rows with the best first."""
    means = {row.group: row.mean for row in rows if row.mean is not None}
    sound = [row for row in rows if row.group in means]
    with_values = [row.summary for row in rows if row.summary is not None]
    return GoodSettings(
        optimizer=rows[0].group.optimizer,
        count=sum(margin.covers(mean, means[sound[0].group]) for mean in means.values()),
        n=len(with_values),
        best=sound[0] if sound else None,
        worst=sound[-1] if sound else None,
        diverged=sum(summary.diverged > 0 for summary in with_values),
        missing=len(rows) - len(with_values),
    )


def sensitivity_columns(margin: Margin) -> list[Column[GoodSettings]]:
    """Return what is known of how much the settings of an optimizer matter."""
    return [
        Column(
            "optimizer",
            lambda each: each.optimizer,
            lambda each: {"optimizer": each.optimizer, "within": str(margin)},
        ),
        Column(
            "within",
            lambda each: f"{each.count} of {each.n}",
            lambda each: {"settings_within": each.count, "settings": each.n},
        ),
        Column("best", lambda each: short(each.best.mean if each.best else None)),
        Column("worst", lambda each: short(each.worst.mean if each.worst else None)),
        Column(
            "diverged", lambda each: str(each.diverged), lambda each: {"diverged": each.diverged}
        ),
        Column(
            "no value", lambda each: str(each.missing), lambda each: {"without_value": each.missing}
        ),
        Column(
            "best one",
            lambda each: " ".join(in_words(each.best.group.settings)) if each.best else NOTHING,
            lambda each: {"best": each.best.group.name if each.best else None},
        ),
    ]


def sensitivity_tables(comparisons: Sequence[Comparison], margin: Margin) -> Iterator[Table]:
    """Yield a table for each comparison in which an optimizer has several settings."""
    notes = [
        "Best and worst of those of which no seed diverged. The best of many settings flatters:"
        " confirm it on other seeds."
    ]
    for comparison in comparisons:
        if found := sensitivities(comparison, margin):
            title = f"{comparison.title}: settings within {margin} of the best one's mean"
            yield make_table(title, sensitivity_columns(margin), found, notes)


@dataclass(frozen=True)
class HeatMap:
    """The means of an optimizer over two settings."""

    title: str  # experiment, conditions that are no key, and optimizer
    keys: tuple[str, str]  # the settings, or conditions, of rows and columns
    question: Question  # what the means are of
    # the best row at each pair of words, the best of all first
    cells: Mapping[tuple[str, str], Row]
    chosen: bool  # whether a cell had several settings to choose from

    @property
    def words(self) -> tuple[list[str], list[str]]:
        """Those of the rows and of the columns, numbers by their size."""
        down, across = (sorted({pair[i] for pair in self.cells}, key=by_size) for i in (0, 1))
        return down, across

    @property
    def shades(self) -> dict[tuple[str, str], float]:
        """The goodness of each mean among the others, from 0 for the worst to 1 for the best.

        By rank, so that one outlier hides nothing. A cell without a mean has none.
        """
        means = {pair: row.mean for pair, row in self.cells.items() if row.mean is not None}
        places = {mean: place for place, mean in enumerate(dict.fromkeys(means.values()))}
        most = max(1, len(places) - 1)
        return {pair: 1 - places[mean] / most for pair, mean in means.items()}

    @property
    def notes(self) -> list[str]:
        """Sentences on what the cells say."""
        notes = ["The best mean in bold; × a seed diverged; – no value."]
        if self.chosen:
            notes.append("Each cell is the best over the other settings, which flatters.")
        return notes

    def text(self, pair: tuple[str, str]) -> str:
        """Return what a cell says."""
        row = self.cells.get(pair)
        if row is None or row.summary is None:
            return NOTHING
        return "×" if row.summary.diverged else short(row.mean)


def heat_maps(comparisons: Sequence[Comparison], keys: tuple[str, str]) -> list[HeatMap]:
    """Return a map for each optimizer that has both keys, rows' first; UsageError if none has."""
    grouped: dict[str, tuple[Question, list[Row]]] = {}
    known: dict[str, None] = {}
    for comparison in comparisons:
        others = {key: word for key, word in comparison.conditions.items() if key not in keys}
        for row in comparison.rows:
            known |= dict.fromkeys(_words(row))
            if set(keys) <= set(_words(row)):
                title = [comparison.experiment, *in_words(others), row.group.optimizer]
                _, rows = grouped.setdefault(" · ".join(title), (comparison.question, []))
                rows.append(row)
    if not grouped:
        raise UsageError(
            f"--heatmap {','.join(keys)}: no optimizer has several values of both.\n"
            f"  settings that differ: {with_nearest(keys[0], known) or 'none'}"
        )
    return [_heat_map(title, keys, *found) for title, found in grouped.items()]


def usual_heat_maps(comparisons: Iterable[Comparison]) -> list[HeatMap]:
    """Return a map for each optimizer with a grid, over the two settings that have most values.

    What was searched at random fills only a few places of a grid, and makes no map.
    """
    maps = []
    for comparison in comparisons:
        for label, rows in _by_optimizer(comparison.rows).items():
            keys = _two_keys(rows)
            if keys is not None:
                having = [row for row in rows if {*keys} <= row.group.settings.keys()]
                title = f"{comparison.title} · {label}"
                maps.append(_heat_map(title, keys, comparison.question, having))
    return maps


def _two_keys(rows: Sequence[Row]) -> tuple[str, str] | None:
    """Return two settings that make a grid of which at least half was run."""
    values: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for key, word in row.group.settings.items():
            values[key].add(word)
    several = [key for key in values if len(values[key]) > 1]
    if len(several) < 2:
        return None
    one, other = sorted(several, key=lambda key: -len(values[key]))[:2]
    places = {(row.group.settings.get(one), row.group.settings.get(other)) for row in rows}
    is_grid = 2 * len(places) >= len(values[one]) * len(values[other])
    return (one, other) if is_grid else None


def _words(row: Row) -> dict[str, str]:
    return {**row.group.conditions, **row.group.settings}


def _heat_map(
    title: str, keys: tuple[str, str], question: Question, rows: Sequence[Row]
) -> HeatMap:
    cells: dict[tuple[str, str], Row] = {}
    for row in sorted(rows, key=lambda row: question.order(row.summary)):
        words = _words(row)
        cells.setdefault((words[keys[0]], words[keys[1]]), row)
    return HeatMap(title, keys, question, cells, len(rows) > len(cells))


def heat_map_table(heat_map: HeatMap) -> Table:
    """Return a cell for each pair, with a shade from the worst mean to the best."""
    (down, across), (rows, columns) = heat_map.keys, heat_map.words
    shades = heat_map.shades

    def cell(pair: tuple[str, str]) -> Cell:
        shade = shades.get(pair)
        return Cell(heat_map.text(pair), shade=shade, is_best=shade == 1)

    return Table(
        title=f"{heat_map.title}: {down} down, {across} across",
        headings=[f"{down} \\ {across}", *columns],
        rows=[[Cell(one), *(cell((one, other)) for other in columns)] for one in rows],
        notes=heat_map.notes,
    )
