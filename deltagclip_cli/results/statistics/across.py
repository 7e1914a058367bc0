"""Several settings over several experiments: who is best on the whole, not on one of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from deltagclip_cli.results.statistics.summary import no_warnings, ranked

LIMIT = 4.0
"""How many times as slow as the fastest an optimizer may be, and still count: AlgoPerf's."""

Scores = Mapping[str, Mapping[str, float]]
"""A number for each optimizer of each experiment."""


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of optimizers over experiments."""

    # by optimizer, from 1, the best, in the order of the first experiment; equals share the mean of
    # their ranks
    mean_rank: Mapping[str, float]
    experiments: int  # how many they were ranked on
    left_out: tuple[str, ...]  # the optimizers that some experiment lacks, and so were not ranked
    # of Friedman's test that all are alike (its χ² approximation, which is rough for few
    # experiments); None for fewer than three optimizers or two experiments, and if all are equal
    # everywhere
    p: float | None


def ranks(scores: Scores, higher_is_better: Mapping[str, bool]) -> Ranking:
    """Rank the optimizers that all experiments have on each, and take the mean.

    Scores that are not finite are those of diverged runs, which share the last ranks.
    """
    there, left_out = _everywhere(scores)
    if not there:
        return Ranking({}, len(scores), left_out, None)
    rows = []
    for experiment, row in scores.items():
        rising = higher_is_better[experiment]
        numbers = ranked((row[each] for each in there), rising)
        rows.append(stats.rankdata(-numbers if rising else numbers))
    table = np.array(rows)
    means = dict(zip(there, table.mean(axis=0).tolist(), strict=True))
    return Ranking(means, len(scores), left_out, _friedman_p(table))


def _everywhere(table: Scores) -> tuple[list[str], tuple[str, ...]]:
    """Return the optimizers that all experiments have, and the others."""
    names = list(dict.fromkeys(name for row in table.values() for name in row))
    there = [name for name in names if all(name in row for row in table.values())]
    return there, tuple(name for name in names if name not in there)


def _friedman_p(table: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float | None:
    experiments, optimizers = table.shape
    if experiments < 2 or optimizers < 3:
        return None
    with no_warnings():
        p = float(stats.friedmanchisquare(*table.T).pvalue)
    return p if math.isfinite(p) else None


@dataclass(frozen=True)
class Profile:
    """The times of an optimizer beside those of the fastest."""

    # by experiment, its time over that of the fastest, at least 1; infinite if it did not get there
    ratios: Mapping[str, float]
    # the mean of ``share`` from 1 to the limit: 1 for the fastest everywhere, 0 for one that is
    # never within the limit
    score: float

    def share(self, tau: float) -> float:
        """Return ρ(τ), the share of experiments where it takes at most τ times the fastest."""
        near = sum(ratio <= tau and math.isfinite(ratio) for ratio in self.ratios.values())
        return near / len(self.ratios)

    def steps(self) -> tuple[list[float], list[float]]:
        """Return where ρ jumps from 1 to :data:`LIMIT`, both included, and to what."""
        taus = sorted({1.0, LIMIT, *(ratio for ratio in self.ratios.values() if ratio < LIMIT)})
        return taus, [self.share(tau) for tau in taus]


def performance_profile(times: Scores) -> dict[str, Profile]:
    """Compare times to a target as AlgoPerf does, by optimizer, of those that all experiments have.

    The profile is that of Dolan & Moré (2002), the score that of Dahl et al. (2023, "Benchmarking
    Neural Network Training Algorithms", sections 4.5.1 and 4.5.2): 1/(limit - 1) times the integral
    of ρ from 1 to the limit, which of a step function is a sum. All depends on who takes part, as
    the fastest is one of them. A time that is not finite is a miss; one that nobody reaches, a miss
    for all. What was not run somewhere is left out, for what was not tried is no miss.
    """
    there, _ = _everywhere(times)
    ratios: dict[str, dict[str, float]] = {name: {} for name in there}
    for experiment, row in times.items():
        fastest = min((row[name] for name in there if math.isfinite(row[name])), default=math.inf)
        for name in there:
            ratios[name][experiment] = _ratio(row[name], fastest)
    return {name: Profile(found, _score(found)) for name, found in ratios.items()}


def _ratio(time: float, fastest: float) -> float:
    if time == fastest < math.inf:
        return 1.0
    return time / fastest if fastest and math.isfinite(time) else math.inf


def _score(ratios: Mapping[str, float]) -> float:
    below = sum(max(0.0, LIMIT - ratio) for ratio in ratios.values())
    return below / len(ratios) / (LIMIT - 1)
