"""The choice of a setting among its draws, from what their run folders hold."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from deltagclip_cli.runs.folder import RunFolder, State

if TYPE_CHECKING:
    from deltagclip_cli.tuning.studies import Draw, Tuning


class DrawState(StrEnum):
    """States of a draw, over all of its seeds."""

    FINISHED = "finished"
    DIVERGED = "diverged"  # at one seed at least, or its value is not finite
    FAILED = "failed"  # at one seed at least
    OPEN = "not finished"


@dataclass(frozen=True)
class JudgedDraw:
    """A draw in the light of its run folders."""

    draw: Draw
    state: DrawState
    value: float | None  # the mean of the metric over its seeds; None unless all finished


def judged(tuning: Tuning, draw: Draw, runs: Path) -> JudgedDraw:
    """Read what has become of a draw."""
    folders = [
        RunFolder.of(runs, trial) for trial in tuning.trials(draw, tuning.search_seeds(draw.study))
    ]
    results = [folder.result() for folder in folders]
    states = [
        State(result["status"]) if result else folder.state
        for folder, result in zip(folders, results, strict=True)
    ]
    if not all(state in (State.FINISHED, State.DIVERGED, State.FAILED) for state in states):
        return JudgedDraw(draw, DrawState.OPEN, None)
    if State.FAILED in states:
        return JudgedDraw(draw, DrawState.FAILED, None)
    values = [result["last"].get(tuning.protocol.metric) for result in results if result]
    if State.DIVERGED in states or None in values:
        return JudgedDraw(draw, DrawState.DIVERGED, None)
    return JudgedDraw(draw, DrawState.FINISHED, statistics.fmean(values))


def best_of(draws: Sequence[JudgedDraw], *, minimizes: bool) -> JudgedDraw | None:
    """Return the best of the draws that have a value; of equal ones, the first drawn."""
    there = [each for each in draws if each.value is not None]
    sign = 1 if minimizes else -1
    return min(there, key=lambda each: (sign * (each.value or 0.0), each.draw.number), default=None)
