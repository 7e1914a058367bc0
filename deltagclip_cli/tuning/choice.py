"""The choice of a setting among its draws, from what their run folders hold."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from deltagclip_cli.core import standard_error
from deltagclip_cli.runs.folder import RunFolder, State

if TYPE_CHECKING:
    from deltagclip_cli.tuning.studies import Draw, Tuning


class DrawState(StrEnum):
    """States of a draw, over all of its seeds."""

    FINISHED = "finished"
    PRUNED = "pruned"  # by a search, before the end of the training
    DIVERGED = "diverged"  # at one seed at least, or its value is not finite
    FAILED = "failed"  # at one seed at least
    OPEN = "not finished"
    UNMEASURED = "without the metric"


@dataclass(frozen=True)
class JudgedDraw:
    """A draw in the light of its run folders."""

    draw: Draw
    state: DrawState
    value: float | None  # the mean of the metric over its seeds; None unless all finished
    values: Sequence[float] = ()  # at each seed
    trials: Sequence[State] = ()  # what became of each seed

    @property
    def standard_error(self) -> float | None:
        """The standard error of the value over seeds; None for one seed."""
        return standard_error(self.values)


def judged(
    tuning: Tuning, draw: Draw, runs: Path, there: Collection[str] | None = None
) -> JudgedDraw:
    """Read what has become of a draw.

    Args:
        there: the names of the run folders of its label; None if nobody has listed them.
    """
    trials = tuning.trials(draw, tuning.search_seeds(draw.study))
    folders = [RunFolder.of(runs, trial) for trial in trials]
    begun = [
        folder.path.exists() if there is None else folder.path.name in there for folder in folders
    ]
    results = [
        folder.result() if each else None for folder, each in zip(folders, begun, strict=True)
    ]
    states = [
        State(result["status"]) if result else folder.state if each else State.NEW
        for folder, result, each in zip(folders, results, begun, strict=True)
    ]
    metric = tuning.protocol.metric
    finished = [
        result["last"]
        for result, state in zip(results, states, strict=True)
        if result and state is State.FINISHED
    ]
    values = [last.get(metric) for last in finished]
    state = _state(states, values, any(metric not in last for last in finished))
    if state is not DrawState.FINISHED:
        return JudgedDraw(draw, state, None, (), states)
    known = [value for value in values if value is not None]
    return JudgedDraw(draw, state, statistics.fmean(known), known, states)


def _state(states: Sequence[State], values: Sequence[float | None], unmeasured: bool) -> DrawState:
    if unmeasured:
        return DrawState.UNMEASURED
    if not all(state in (State.FINISHED, State.DIVERGED, State.FAILED) for state in states):
        return DrawState.OPEN
    if State.FAILED in states:
        return DrawState.FAILED
    if State.DIVERGED in states or None in values:
        return DrawState.DIVERGED
    return DrawState.FINISHED


def best_of(draws: Sequence[JudgedDraw], *, minimizes: bool) -> JudgedDraw | None:
    """Return the best of the draws that have a value; of equal ones, the first drawn."""
    there = [each for each in draws if each.value is not None]
    sign = 1 if minimizes else -1
    return min(there, key=lambda each: (sign * (each.value or 0.0), each.draw.number), default=None)
