"""Variations of an experiment: the points of a grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails

from deltagclip_cli.core import nearest
from deltagclip_cli.spec.axes import (
    WORDS,
    Axis,
    GridColumn,
    read_axes,
)
from deltagclip_cli.spec.component import Component
from deltagclip_cli.spec.faults import Where, collected, explained, raised, refused, unknown_label

MOST_POINTS = 100_000
_SCALE = "such as scale: {model.width: [128, 256, 512]}"
_EXAMPLE = "such as grid: {LABEL: {lr: [0.1, 1]}, model.width: [256, 1024]}"


@dataclass(frozen=True)
class Role:
    """The part that a setting plays in a trial, as a part of the annotation of its field."""

    # whether trials that differ in it are different trials, of settings that they have. A value of
    # None counts like none, as does the usual one of what ``_UNSAID`` names (spec/trial.py).
    identity: bool = True
    fixed: str = ""  # why a grid cannot vary it; empty if it can


NUMBERS_STAY = Role(identity=False, fixed="it does not change the numbers")
EACH_SEED = Role(fixed="every point of a grid is run with every seed")
SAME_RULE = Role(fixed="all settings of an experiment are ended by the same rule")
BY_LABEL = Role(fixed="what is varied of one stands below its label: {LABEL: {lr: [0.1, 1]}}")
VARIES_ITSELF = Role(fixed="it says itself what is varied")


def role(field: FieldInfo) -> Role:
    """Return the role of a setting, as its annotation says it."""
    return next((each for each in field.metadata if isinstance(each, Role)), Role())


Point = dict[str, Any]
"""For each key what a check made of its value: of a setting of the experiment the value itself, of
an option the whole component that has it."""


@dataclass(frozen=True)
class Grid:
    """The checked axes: for each label those that all optimizers share, and its own."""

    shared: Mapping[str, Sequence[Sequence[Point]]] = field(default_factory=dict)
    own: Mapping[str, Sequence[Sequence[Point]]] = field(default_factory=dict)

    def values(self) -> Iterator[tuple[str, Any]]:
        """Yield every value with its key; what all optimizers share, for each of them."""
        for axes in itertools.chain(self.shared.values(), self.own.values()):
            for point in itertools.chain.from_iterable(axes):
                yield from point.items()


def combinations(axes: Sequence[Sequence[Point]]) -> Iterator[Point]:
    """Yield every combination of the points of some axes."""
    for parts in itertools.product(*axes):
        yield {key: value for part in parts for key, value in part.items()}


def read_grid(
    written: Any,
    optimizers: Mapping[str, Component] | None,
    settings: Mapping[str, Any],
    fixed: Mapping[str, str],
    check: Callable[[str, Any], Any],
) -> Grid:
    """Read the grid of an experiment; what has faults of its own is not varied, only read.

    The optimizers are None if any has a fault. ``fixed`` says why a setting cannot be varied, and
    ``check`` returns what the value of one becomes.
    """
    if not isinstance(written, dict):
        raise refused("'grid' must be a mapping.", _EXAMPLE)
    faults: list[InitErrorDetails] = []
    labels = optimizers or {}
    blocks = {
        key: value for key, value in written.items() if key in labels or _is_block(key, value)
    }
    rest = {key: value for key, value in written.items() if key not in blocks}
    own = {label: read_axes(block, (label,), faults) for label, block in blocks.items()}
    shared = read_axes(rest, (), faults) if rest else []
    grid = Grid()
    if optimizers is not None:
        grid = _Check(optimizers, settings, fixed, check, faults).grid(shared, own)
    if faults:
        raise raised(faults)
    return grid


def check_scale(written: Any, fixed: Mapping[str, str], grid: Grid) -> None:
    """Refuse what is no scale: the values, as numbers, of one setting that all optimizers share.

    ``fixed`` says why a setting cannot be varied, and ``grid`` is that of the experiment.
    """
    if not isinstance(written, dict) or len(written) != 1:
        raise refused("'scale' must have the sizes of one setting.", _SCALE)
    ((key, values),) = written.items()
    if fixed.get(str(key).partition(".")[0]) is None:
        message = f"'{key}' is no setting of the experiment, which grows for all optimizers."
        raise refused(message, _SCALE, (key,))
    if not (
        isinstance(values, list)
        and len(values) > 1
        and all(type(each) in (int, float) for each in values)
        and all(one < other for one, other in itertools.pairwise(values))
    ):
        raise refused(f"'{key}' must be a list of numbers, the smallest first.", _SCALE, (key,))
    if key in {each for each, _ in grid.values()}:
        raise refused(f"'{key}' is varied twice.", "the grid has it, too: leave one out", (key,))


def _is_block(key: object, value: object) -> bool:
    """Return whether this is meant as the grid of an optimizer, though there may be no such one."""
    return (
        isinstance(value, dict)
        and key not in ("zip", "random")
        and value.keys().isdisjoint(("range", "log_range", "count", *WORDS))
    )


@dataclass(frozen=True)
class _Check:
    """Checks axes against what they vary, and collects the faults."""

    optimizers: Mapping[str, Component]
    settings: Mapping[str, Any]
    fixed: Mapping[str, str]
    check: Callable[[str, Any], Any]
    faults: list[InitErrorDetails]

    def grid(self, shared: list[Axis], own: Mapping[str, list[Axis]]) -> Grid:
        points = sum(
            math.prod(axis[0].size for axis in (*shared, *own.get(label, ())))
            for label in self.optimizers
        )
        if points > MOST_POINTS:
            message = f"the grid would have {points:,} points, and {MOST_POINTS:,} are the most."
            self._blame(message, "", ())
        options = [key for key in self._distinct(shared, []) if self._reason(key) != ""]
        for axes in own.values():
            self._distinct(axes, options)
        for label in own:
            if label not in self.optimizers:
                self._refuse_block(label)
        for_each = [self._for_each(axis) for axis in shared]
        return Grid(
            {label: [axis[label] for axis in for_each] for label in self.optimizers},
            {
                label: [
                    _points({c.key: self._of_component(optimizer, c.key, c) for c in axis})
                    for axis in own.get(label, ())
                ]
                for label, optimizer in self.optimizers.items()
            },
        )

    def _blame(self, message: str, hint: str, where: Where) -> None:
        self.faults.append(explained(message, hint, where))

    def _reason(self, key: str) -> str | None:
        """Return why a setting cannot be varied; empty if it can, None if a key is no setting."""
        return self.fixed.get(key.partition(".")[0])

    def _distinct(self, axes: list[Axis], before: list[str]) -> list[str]:
        keys = list(before)
        for column in itertools.chain.from_iterable(axes):
            key = f"{column.key}."
            other = next(
                (k for k in keys if key.startswith(f"{k}.") or f"{k}.".startswith(key)), None
            )
            if other is not None:
                hint = "" if other == column.key else f"'{other}' is varied too"
                self._blame(f"'{column.key}' is varied twice.", hint, column.where)
            keys.append(column.key)
        return keys

    def _refuse_block(self, label: str) -> None:
        reason = self.fixed.get(label)
        if reason is None:
            self.faults.append(unknown_label(label, list(self.optimizers), (label,)))
        elif reason:
            self._blame(f"a grid cannot vary '{label}'.", reason, (label,))
        else:
            hint = f"one of its options is varied by {label}.OPTION: [...]"
            self._blame(f"'{label}' must be a list of values.", hint, (label,))

    def _for_each(self, axis: Axis) -> Mapping[str, list[Point]]:
        """Return the points of a shared axis by label; settings are checked once for all."""
        settings = {c.key: self._of_experiment(c) for c in axis if self._reason(c.key) == ""}
        options = [c for c in axis if c.key not in settings and self._all_have(c)]
        return {
            label: _points(
                settings | {c.key: self._of_component(optimizer, c.key, c) for c in options}
            )
            for label, optimizer in self.optimizers.items()
        }

    def _all_have(self, column: GridColumn) -> bool:
        key = column.key
        lacking = [label for label, each in self.optimizers.items() if each.refusal(key, ())]
        reason = self._reason(key)
        if reason:
            self._blame(f"a grid cannot vary '{key}'.", reason, column.where)
        elif len(lacking) == len(self.optimizers):
            names = [*self.optimizers, *(name for name, why in self.fixed.items() if not why)]
            legal = [name for each in self.optimizers.values() for name in each.legal()]
            hint = f"optimizers and settings: {', '.join(names)}{nearest(key, names + legal)}"
            self._blame(f"there is no '{key}' that could be varied.", hint, column.where)
        elif lacking:
            hint = "here it is varied for all; for some, it stands below their labels"
            self._blame(f"'{key}' is no option of {', '.join(lacking)}.", hint, column.where)
        return not (reason or lacking)

    def _of_experiment(self, column: GridColumn) -> list[Any]:
        top, dot, option = column.key.partition(".")
        if top not in self.settings:
            return []
        section = self.settings[top]
        if not dot:
            return self._checked(column, partial(self.check, top))
        if isinstance(section, Component):
            return self._of_component(section, option, column)
        message = f"'{top}' has no options here that could be varied."
        self._blame(message, f"the whole is varied by {top}: [...]", column.where)
        return []

    def _of_component(self, component: Component, option: str, column: GridColumn) -> list[Any]:
        fault = component.refusal(option, column.where)
        if fault is None:
            return self._checked(column, partial(component.with_option, option))
        self.faults.append(fault)
        return []

    def _checked(self, column: GridColumn, check: Callable[[Any], Any]) -> list[Any]:
        """Return what ``check`` makes of each value; none if some are wrong, or too many to try."""
        values: list[Any] = []
        found = len(self.faults)
        for place, value in column.extremes:
            with collected(self.faults, place):
                check(value)
        if len(self.faults) == found and column.size <= MOST_POINTS:
            for place, value in column.points():
                with collected(self.faults, place):
                    values.append(check(value))
        return values


def _points(values: Mapping[str, list[Any]]) -> list[Point]:
    # Of one length, but where a fault was found, and then nothing comes of the grid.
    rows = zip(*values.values(), strict=False)
    return [dict(zip(values, row, strict=True)) for row in rows]
