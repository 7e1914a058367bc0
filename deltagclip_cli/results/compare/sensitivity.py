"""Good settings of each optimizer, counted, and maps of means over two of its settings."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from deltagclip_cli.core import NOTHING, UsageError, as_number, by_size, short
from deltagclip_cli.results.compare.choosing import Selection
from deltagclip_cli.results.compare.comparison import make_row
from deltagclip_cli.results.compare.question import Moment, Question, with_nearest
from deltagclip_cli.results.compare.tables import Cell, Column, Table, interval, make_table
from deltagclip_cli.results.read.run import in_words
from deltagclip_cli.results.statistics.summary import Interval, share_interval
from deltagclip_cli.runs.folder import SEARCH_JOURNAL, RunFolder

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
    """The settings of an optimizer, good ones counted by the metric that they are chosen by."""

    optimizer: str  # its label
    count: int  # how many settings are within the margin of the best of them
    n: int  # how many have values
    best: Row | None  # the best of those of which no seed diverged; None if there is none
    worst: Row | None  # the worst of those
    diverged: int  # of how many a seed diverged; they are not good ones
    missing: int  # how many have no value
    rates: Interval | None  # the learning rates of the good ones; None if these are not varied
    # of the space that is as good, where settings are draws from one; None of a grid, which is
    # all that there is
    share: Interval | None


def sensitivities(comparison: Comparison, margin: Margin) -> list[GoodSettings]:
    """Return that of each optimizer with more than one setting."""
    drawn = draws_tried(comparison)
    groups = _by_optimizer(comparison.rows if drawn is None else drawn.rows)
    return [
        _sensitivity(rows, margin, are_drawn=drawn is not None)
        for rows in groups.values()
        if len(rows) > 1
    ]


@dataclass(frozen=True)
class DrawsTried:
    """The draws of a plan, each at the seeds that settings were chosen by."""

    rows: Sequence[Row]  # the best first
    question: Question  # that of the choice: its metric, at the end


def draws_tried(comparison: Comparison) -> DrawsTried | None:
    """Return the draws of a comparison's plan; None without one.

    What was chosen has other seeds as well, which are not in the light of the others.
    """
    account = comparison.account
    if account is None:
        return None
    tuning, asked = account.lock.tuning, comparison.question
    moment = Moment(unit=asked.moment.unit)
    question = replace(
        asked,
        metric=tuning.protocol.metric,
        higher_is_better=not tuning.minimizes,
        moment=moment,
        chosen_by=None,
        targets=(),
    )
    there = [runs for draw, runs in account.draws if runs and draw.label not in tuning.fixed]
    rows = [make_row(runs[0].group, runs, question) for runs in there]
    return DrawsTried(sorted(rows, key=lambda row: question.order(row.summary)), question)


def _by_optimizer(rows: Iterable[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.group.optimizer].append(row)
    return groups


def _sensitivity(rows: Sequence[Row], margin: Margin, *, are_drawn: bool = False) -> GoodSettings:
    """Return that of rows with the best first, which may be draws from a space."""
    sound = [row for row in rows if row.worth is not None]
    good = [row for row in sound if margin.covers(row.worth or 0.0, sound[0].worth or 0.0)]
    with_values = [row.summary for row in rows if row.summary is not None]
    rates = [rate for row in good if (rate := learning_rate(row)) is not None]
    return GoodSettings(
        optimizer=rows[0].group.optimizer,
        count=len(good),
        n=len(with_values),
        best=sound[0] if sound else None,
        worst=sound[-1] if sound else None,
        diverged=sum(summary.diverged > 0 for summary in with_values),
        missing=len(rows) - len(with_values),
        rates=Interval(min(rates), max(rates)) if rates else None,
        share=share_within(len(good), len(with_values)) if are_drawn and good else None,
    )


def learning_rate(row: Row) -> float | None:
    """Return that of a setting; None if it is not among what differs, or no number."""
    return as_number(row.group.settings.get("lr", ""))


def share_within(count: int, n: int) -> Interval:
    """Return the interval of the share of a space that is as good as so many of its draws.

    That is: within a margin of the best draw. As this one is among them by its being chosen, the
    low end is that of the others; the high end leaves room for what nobody drew. Exact for
    independent draws; those of Sobol's sequence are more even, and the interval rather too wide.
    """
    low = share_interval(count - 1, n - 1).low if n > 1 else 0.0
    return Interval(low, share_interval(count, n).high)


def sensitivity_columns(
    margin: Margin, found: Sequence[GoodSettings], compared: str | None = None
) -> list[Column[GoodSettings]]:
    """Return what is known of how much the settings of optimizers matter.

    Args:
        compared: the metric that is compared, if another one chooses.
    """
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
        Column(
            "share of the space",
            _share,
            lambda each: {"share_interval": each.share and asdict(each.share)},
            is_shown=any(each.share for each in found),
        ),
        Column(
            "their lr",
            lambda each: _range(each.rates),
            lambda each: {"lr_within": each.rates and asdict(each.rates)},
            is_shown=any(each.rates for each in found),
        ),
        Column("best", lambda each: short(each.best.worth if each.best else None)),
        Column("worst", lambda each: short(each.worst.worth if each.worst else None)),
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
        Column(
            f"its {compared}",
            lambda each: short(each.best.mean if each.best else None),
            is_shown=compared is not None,
        ),
    ]


def _share(each: GoodSettings) -> str | Cell:
    if each.share is None:
        return NOTHING
    return Cell(f"{each.count / each.n:.0%}", interval(each.share, "{:.0%}".format))


def _range(rates: Interval | None) -> str:
    if rates is None:
        return NOTHING
    ends = dict.fromkeys((short(rates.low), short(rates.high)))
    return " to ".join(ends)


def sensitivity_tables(comparisons: Sequence[Comparison], margin: Margin) -> Iterator[Table]:
    """Yield a table for each comparison in which an optimizer has several settings."""
    for comparison in comparisons:
        if found := sensitivities(comparison, margin):
            drawn = draws_tried(comparison)
            question = comparison.question if drawn is None else drawn.question
            what = "settings" if drawn is None else f"draws, by {question.metric},"
            compared = None if question.chooser == question.metric else question.metric
            of = f" of {question.chooser}" if compared else ""
            title = f"{comparison.title}: {what} within {margin} of the best one's mean{of}"
            columns = sensitivity_columns(margin, found, compared)
            notes = [*_sensitivity_notes(found), *_on_searches(comparison)]
            account = comparison.account
            unequal = account.unequal if account is not None else None
            choice = Selection(question.chooser, question.metric, unequal=unequal)
            yield make_table(title, columns, found, notes, [choice])


def _sensitivity_notes(found: Sequence[GoodSettings]) -> list[str]:
    notes = [
        "Best and worst of those of which no seed diverged. The best of many settings flatters:"
        " confirm it on other seeds."
    ]
    if any(each.share for each in found):
        notes.append(
            "Share of the space: of the draws, with the exact 95 % interval of the share of the"
            " whole space (Clopper and Pearson's; the best draw counts by being chosen, so that the"
            " low end is that of the others). Draws of Sobol's sequence are more even than"
            " independent ones, and their interval is rather too wide."
        )
    return notes


def _on_searches(comparison: Comparison) -> list[str]:
    """Say why no verdict on methods follows from a search that was no protocol."""
    runs = [run for row in comparison.rows for run in row.runs if run.group.is_ours]
    folders = {run.folder.parents[1] for run in runs if len(run.folder.parents) > 1}
    learned = any((folder / SEARCH_JOURNAL).exists() for folder in folders)
    pruned = any(RunFolder(run.folder).pruned_file.exists() for run in runs)
    if not (learned or pruned) or comparison.account is not None:
        return []
    why = "hang on those before" if learned else "were given up in part"
    return [
        f"No verdict on the optimizers at a budget of draws: those of this search {why}, and have"
        " no best of k. Those of a protocol do: deltagclip tune."
    ]


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
    def choice(self) -> Selection:
        """The choice of its best cell."""
        moment = self.question.moment
        unit = moment.unit if moment.is_chosen else None
        return Selection(self.question.chooser, self.question.metric, moment=unit)

    @property
    def best(self) -> list[tuple[str, str]]:
        """The pairs of the best cells: one, unless some are equal."""
        is_apart = self.question.chooser != self.question.metric
        worths = {pair: row.worth if is_apart else row.mean for pair, row in self.cells.items()}
        sound = {pair: worth for pair, worth in worths.items() if worth is not None}
        return [pair for pair, worth in sound.items() if worth == next(iter(sound.values()))]

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
        in_order = sorted(set(means.values()), reverse=self.question.higher_is_better)
        places = {mean: place for place, mean in enumerate(in_order)}
        most = max(1, len(places) - 1)
        return {pair: 1 - places[mean] / most for pair, mean in means.items()}

    @property
    def notes(self) -> list[str]:
        """Sentences on what the cells say."""
        chooser = self.question.chooser
        by = "" if chooser == self.question.metric else f" of {chooser}"
        notes = [f"The best mean{by} in bold; × a seed diverged; – no value."]
        if self.chosen:
            notes.append("Each cell is the best over the other settings, which flatters.")
        return [*notes, *self.choice.notes]

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
                words = [comparison.experiment, *in_words(others), row.group.optimizer]
                title, own = " · ".join(words), comparison.question
                question, rows = grouped.get(title, (own, []))
                if question.chooser != own.chooser:  # no other metric can choose for all conditions
                    question = replace(question, chosen_by=None)
                grouped[title] = question, [*rows, row]
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
    is_apart = question.chooser != question.metric
    for row in sorted(rows, key=lambda r: question.order(r.merit if is_apart else r.summary)):
        words = _words(row)
        cells.setdefault((words[keys[0]], words[keys[1]]), row)
    return HeatMap(title, keys, question, cells, len(rows) > len(cells))


def heat_map_table(heat_map: HeatMap) -> Table:
    """Return a cell for each pair, with a shade from the worst mean to the best."""
    (down, across), (rows, columns) = heat_map.keys, heat_map.words
    shades, best = heat_map.shades, heat_map.best

    def cell(pair: tuple[str, str]) -> Cell:
        return Cell(heat_map.text(pair), shade=shades.get(pair), is_best=pair in best)

    return Table(
        title=f"{heat_map.title}: {down} down, {across} across",
        headings=[f"{down} \\ {across}", *columns],
        rows=[[Cell(one), *(cell((one, other)) for other in columns)] for one in rows],
        notes=heat_map.notes,
        chosen_on=heat_map.choice.on,
    )
