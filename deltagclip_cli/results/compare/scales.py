"""The speed-up of optimizers at each scale of an experiment, and nothing beyond the largest.

An experiment whose spec says ``scale`` has a comparison at each size of one setting. How much
sooner an optimizer is at the target than the baseline is told of each, for what holds of a small
network need not hold of a large one: of 1.4 times at 0.1 B parameters, 1.1 were left at 1.2 B (Wen
et al., arXiv 2509.02046).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from deltagclip_cli.core import NOTHING, as_number, short
from deltagclip_cli.results.compare.question import Cost, cost
from deltagclip_cli.results.compare.tables import (
    INSIDE,
    UNLIKE_AN_END,
    Cell,
    Column,
    Table,
    interval,
    make_table,
)
from deltagclip_cli.results.statistics.difference import compare
from deltagclip_cli.results.statistics.summary import Interval

if TYPE_CHECKING:
    from deltagclip_cli.results.compare.choosing import Selection
    from deltagclip_cli.results.compare.comparison import Comparison, Row


@dataclass(frozen=True)
class SpeedUp:
    """The costs of the baseline over those of an optimizer."""

    ratio: float  # of the baseline's costs and its own, a geometric mean over seeds
    interval: Interval | None  # of it, by Student's t of the logarithms; None for too few seeds


@dataclass(frozen=True)
class AtScale:
    """An optimizer at one scale, beside the baseline there."""

    optimizer: str
    scale: float
    word: str  # for the scale, as the spec writes it
    reached: str  # how many seeds of it, and how many of the baseline's, reached the target
    # None as long as a seed of one of the two misses the target: the others would flatter
    steps: SpeedUp | None
    seconds: SpeedUp | None
    inside_schedule: bool  # whether a time was read inside a longer schedule


@dataclass(frozen=True)
class Scaling:
    """The optimizers of an experiment at all of its scales."""

    title: str  # the experiment, and conditions that are the same for all scales
    key: str  # of the setting that grows, such as ``model.width``
    target: str
    baseline: str
    at: Sequence[AtScale]  # by optimizer, then by scale
    choices: Sequence[Selection | None]


def scalings(comparisons: Iterable[Comparison]) -> list[Scaling]:
    """Return the speed-ups of each experiment with scales, a target and a baseline."""
    groups: dict[tuple[str, ...], list[Comparison]] = {}
    for each in comparisons:
        key = scale_of(each)
        if key is not None and each.target is not None and each.baseline is not None:
            rest = [f"{name}={word}" for name, word in each.conditions.items() if name != key]
            groups.setdefault((each.experiment, key, *rest), []).append(each)
    return [
        _scaling(" · ".join([name, *rest]), key, sorted(found, key=lambda each: _size(each, key)))
        for (name, key, *rest), found in groups.items()
        if len(found) > 1
    ]


def scale_of(comparison: Comparison) -> str | None:
    """Return the setting whose sizes are the experiment's scales; None if it has none."""
    trials = (run.trial for row in comparison.rows for run in row.runs)
    keys = {None if trial is None else trial.scale for trial in trials}
    key = keys.pop() if len(keys) == 1 else None
    return key if key in comparison.conditions else None


def _size(comparison: Comparison, key: str) -> float:
    return as_number(comparison.conditions[key]) or 0.0


def _scaling(title: str, key: str, found: Sequence[Comparison]) -> Scaling:
    labels = dict.fromkeys(label for each in found for label in each.best)
    baselines = {each.baseline.group.optimizer for each in found if each.baseline}
    at = [
        _at(each, key, each.best[label])
        for label in labels
        if label not in baselines
        for each in found
        if label in each.best
    ]
    choices = [each.choice for each in found]
    return Scaling(title, key, str(found[0].target), ", ".join(sorted(baselines)), at, choices)


def _at(comparison: Comparison, key: str, row: Row) -> AtScale:
    baseline = comparison.baseline
    assert baseline is not None, "of others there is no scaling"
    ours, theirs = _costs(row, comparison), _costs(baseline, comparison)
    return AtScale(
        optimizer=row.group.optimizer,
        scale=_size(comparison, key),
        word=comparison.conditions[key],
        reached=f"{_count(ours)} and {_count(theirs)}",
        steps=_speed_up(ours, theirs, lambda each: each.steps),
        seconds=_speed_up(ours, theirs, lambda each: each.seconds),
        inside_schedule=any(
            each.reached is not None and each.reached.inside_schedule for each in (row, baseline)
        ),
    )


def _costs(row: Row, comparison: Comparison) -> dict[Hashable, Cost]:
    target = comparison.target
    assert target is not None, "without one there is no scaling"
    found = {run.seed_or_folder: cost(run, target) for run in row.once}
    return {seed: each for seed, each in found.items() if each is not None}


def _count(costs: dict[Hashable, Cost]) -> str:
    return f"{sum(math.isfinite(each.steps) for each in costs.values())} of {len(costs)}"


def _speed_up(
    ours: dict[Hashable, Cost], theirs: dict[Hashable, Cost], of: Callable[[Cost], float]
) -> SpeedUp | None:
    sides = [{seed: of(each) for seed, each in side.items()} for side in (ours, theirs)]
    known = [number for side in sides for number in side.values()]
    if not all(sides) or not all(0 < number < math.inf for number in known):
        return None
    logs = [{seed: math.log(number) for seed, number in side.items()} for side in sides]
    found = compare(*logs, higher_is_better=False)
    ends = found.interval
    return SpeedUp(
        math.exp(-found.difference),
        Interval(math.exp(-ends.high), math.exp(-ends.low)) if ends else None,
    )


def scaling_columns(found: Scaling) -> list[Column[AtScale]]:
    """Return what is known of an optimizer at a scale."""

    def shown(of: Callable[[AtScale], SpeedUp | None]) -> Callable[[AtScale], Cell]:
        def cell(each: AtScale) -> Cell:
            one = of(each)
            if one is None:
                return Cell(NOTHING)
            text = f"{short(one.ratio)}{INSIDE * each.inside_schedule}"
            return Cell(text, interval(one.interval, short))

        return cell

    return [
        Column("optimizer", lambda each: each.optimizer, lambda each: asdict(each)),
        Column(found.key, lambda each: each.word),
        Column("reached", lambda each: each.reached),
        Column("times as fast (steps)", shown(lambda each: each.steps)),
        Column("(seconds)", shown(lambda each: each.seconds)),
    ]


def scaling_table(found: Scaling) -> Table:
    """Return a row for each optimizer at each scale."""
    notes = [
        f"Until {found.target}: the costs of {found.baseline} over those of the optimizer, the"
        " geometric mean over seeds with its 95 % interval (Student's t of the logarithms, by seed"
        " where both have the same). Reached: seeds of the optimizer, and of the baseline; where"
        " one misses the target there is no ratio.",
        f"Nothing follows for another {found.key} than these, and least of all for a larger one:"
        " speed-ups change with scale.",
    ]
    if any(each.inside_schedule for each in found.at):
        notes.append(f"{INSIDE} Read inside a longer schedule. {UNLIKE_AN_END}.")
    title = f"{found.title}: speed-up over {found.baseline} by {found.key}"
    return make_table(title, scaling_columns(found), found.at, notes, found.choices)
