"""What is drawn of a metric of a setting: means over seeds, and where seeds are lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from deltagclip_cli.report.bands import Band, Indices, band, thinned
from deltagclip_cli.results.read.run import Numbers, Outcome, Run

MOST_POINTS = 600  # of one line: a panel is three inches wide, which a printer gives no more dots


@dataclass(frozen=True, eq=False)
class Trace:
    """A piece of a line over which the same seeds are there.

    Args:
        x: epochs.
        mean: over the seeds.
        error: the standard error of the mean; NaN of a single seed, and beyond all numbers.
        is_whole: whether every seed of the setting is in the mean.
        is_broken: whether a seed ends at its last point that did not come to the end of its run.
    """

    x: Numbers
    mean: Numbers
    error: Numbers
    is_whole: bool
    is_broken: bool


def traces(runs: Sequence[Run], metric: str, ddof: int = 1) -> list[Trace]:
    """The line of a metric, in pieces.

    A mean that loses a seed jumps for no reason but that, most of all as it is the bad ones that
    are lost. So the line ends where a seed does, and goes on as another one. Points that some seed
    skips are skipped by the mean; seeds that hardly share a point have a line each.

    Args:
        runs: of different seeds.
        metric: its name.
        ddof: of the standard error.
    """
    having = [run for run in runs if metric in run.curves]
    found = band(having, metric, ddof)
    if found is None:
        return []
    ends = np.array([_last(np.isfinite(values)) for values in found.seeds])
    running = (ends[:, None] >= np.arange(len(found.epochs))).sum(axis=0)
    is_shared = (found.counts == running) & (running > 0) & np.isfinite(found.mean)
    shared = np.flatnonzero(is_shared)
    if len(having) > 1 and 2 * len(shared) < np.median(np.isfinite(found.seeds).sum(axis=1)):
        return [piece for run in having for piece in traces([run], metric, ddof)]
    total = len(having) + sum(_diverged(run) for run in runs if metric not in run.curves)
    broken = {
        int(end)
        for run, end in zip(having, ends, strict=True)
        if _diverged(run) or end < ends.max(initial=-1)
    }
    shared = shared[thinned(found.at(shared), MOST_POINTS)]
    return _pieces(found, shared, running, broken, total)


def _last(there: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> int:
    where = np.flatnonzero(there)
    return int(where[-1]) if len(where) else -1


def _diverged(run: Run) -> bool:
    return run.outcome is Outcome.DIVERGED


def _pieces(
    found: Band, shared: Indices, running: Indices, broken: set[int], total: int
) -> list[Trace]:
    changes = np.flatnonzero(np.diff(running[shared])) + 1
    bounds = [0, *changes.tolist(), len(shared)]
    pieces = []
    for start, end in pairwise(bounds):
        here = shared[start:end]
        if len(here):
            following = int(shared[end]) if end < len(shared) else len(running)
            count = int(running[here[0]])
            piece = found.at(here)
            pieces.append(
                Trace(
                    piece.epochs,
                    piece.mean,
                    np.where(np.isfinite(piece.standard_error), piece.standard_error, np.nan),
                    count == total,
                    any(int(here[0]) <= each < following for each in broken),
                )
            )
    return pieces
