"""Curves over seeds: a mean and how far it is sure, at each point that was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltagclip_cli.results.read.run import Curve, Numbers, Run

Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Band:
    """One metric of a setting over its seeds, all arrays of the same length (N,).

    Args:
        epochs: at which some seed has a point.
        steps: optimizer steps there; the mean where seeds differ.
        seconds: likewise.
        mean: over the seeds that have a finite value there; NaN if none has.
        standard_error: of the mean; NaN for fewer than two.
        counts: how many seeds have a finite value.
        seeds: the values of each run, (R, N); NaN where it has none.
    """

    epochs: Numbers
    steps: Numbers
    seconds: Numbers
    mean: Numbers
    standard_error: Numbers
    counts: NDArray[np.int64]
    seeds: Numbers

    def at(self, indices: Indices) -> Band:
        """The same at some of its points."""
        return Band(
            epochs=self.epochs[indices],
            steps=self.steps[indices],
            seconds=self.seconds[indices],
            mean=self.mean[indices],
            standard_error=self.standard_error[indices],
            counts=self.counts[indices],
            seeds=self.seeds[:, indices],
        )


def band(runs: Sequence[Run], metric: str, ddof: int = 1) -> Band | None:
    """The band of a metric; None if no run has it.

    Args:
        runs: of different seeds.
        metric: its name.
        ddof: of the standard error, whose degrees of freedom are n - ddof.
    """
    curves = [run.curves[metric] for run in runs if metric in run.curves]
    if not curves:
        return None
    epochs = np.unique(np.concatenate([curve.epochs for curve in curves]))
    steps, seconds, values = (
        np.stack(
            [_spread(curve, numbers, epochs) for curve, numbers in zip(curves, each, strict=True)]
        )
        for each in zip(*((c.steps, c.seconds, c.values) for c in curves), strict=True)
    )
    values = np.where(np.isfinite(values), values, np.nan)
    counts = np.isfinite(values).sum(axis=0)
    return Band(
        epochs=epochs,
        steps=_mean(steps),
        seconds=_mean(seconds),
        mean=_mean(values),
        standard_error=_standard_error(values, counts, ddof),
        counts=counts,
        seeds=values,
    )


def _spread(curve: Curve, numbers: Numbers, epochs: Numbers) -> Numbers:
    """Numbers of a curve at some epochs; NaN where it has none; the last of several."""
    spread = np.full(len(epochs), np.nan)
    spread[np.searchsorted(epochs, curve.epochs)] = numbers
    return spread


def _mean(table: Numbers) -> Numbers:
    """Over the first axis, of what is not NaN."""
    counts = np.isfinite(table).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return np.asarray(np.nansum(table, axis=0) / np.where(counts, counts, np.nan))


def _standard_error(values: Numbers, counts: NDArray[np.int64], ddof: int) -> Numbers:
    with np.errstate(over="ignore", invalid="ignore"):  # a loss may explode to 1e300
        squares = np.nansum((values - _mean(values)) ** 2, axis=0)
        degrees = np.where(counts > 1, counts - ddof, np.nan)
        return np.asarray(np.sqrt(squares / degrees / np.maximum(counts, 1)))


def thinned(found: Band, most: int) -> Indices:
    """The points to show of a band: evenly spaced, with the first, the last and both extremes.

    Args:
        found: any number of points.
        most: how many are wanted; a few more are given for those that must not be missed.
    """
    count = len(found.epochs)
    if count <= most:
        return np.arange(count)
    chosen = np.linspace(0, count - 1, most).round().astype(np.intp)
    finite = np.flatnonzero(np.isfinite(found.mean))
    if len(finite):
        extremes = [finite[found.mean[finite].argmin()], finite[found.mean[finite].argmax()]]
        chosen = np.concatenate([chosen, extremes])
    return np.unique(chosen)
