"""How many of the intervals that are shown as 95 % hold the true mean, median and trimmed mean.

Of samples of 3 to 20 seeds: Student's t-intervals of normal values, of values with heavy tails on
both sides (t with three degrees of freedom) and of skewed ones (lognormal, σ = 1); and the
bootstrap's intervals of normal values, which are shown from ten seeds on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from benchmarks.harness import Figure, Session
from deltagclip_cli.results.statistics.summary import Interval, mean_interval, summarize


def measure(session: Session) -> Iterator[Figure]:
    draws = 200 if session.quick else 2_000
    for seeds in (3, 5, 10, 20):
        rng = np.random.default_rng(seeds)
        samples = {
            "normal": (rng.normal(size=(draws, seeds)), 0.0),
            "heavy tails": (rng.standard_t(3, size=(draws, seeds)), 0.0),
            "lognormal": (rng.lognormal(size=(draws, seeds)), math.exp(0.5)),
        }
        for kind, (values, mean) in samples.items():
            found = (mean_interval(each) for each in values)
            yield covering(f"Student's interval, {kind}, {seeds} seeds", found, mean)
    for seeds in (10, 20):
        rng = np.random.default_rng(1_000 + seeds)
        values = rng.normal(size=(draws // 10 if session.quick else 600, seeds))
        summaries = [summarize(each, higher_is_better=True) for each in values]
        medians, means = zip(
            *((each.median_interval, each.iqm_interval) for each in summaries), strict=True
        )
        yield covering(f"bootstrap's interval of the median, {seeds} seeds", medians, 0.0)
        yield covering(f"bootstrap's interval of the IQM, {seeds} seeds", means, 0.0)


def covering(name: str, intervals: Iterable[Interval | None], true: float) -> Figure:
    """The share of intervals that hold a value."""
    covered = [each is not None and each.low <= true <= each.high for each in intervals]
    return Figure(name, 100 * float(np.mean(covered)), "95 %", "%", "higher")
