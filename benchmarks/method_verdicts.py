"""How often two methods are told apart that are the same, and how often two that are not.

Whole studies are drawn: settings, and the noise of seeds around each, with which its draws are
judged by the mean of three. The noise of a seed is the unit; settings spread by none, one or three
of it. Both are normal, or both are skewed: lognormal noise, and settings of which many are bad.
*False claims* are those of two methods that are the same, the most over these six. What is often
done instead, a t-test of the two chosen settings on ten fresh seeds, tells of two settings.

*Power* is how often one of two methods is found better: all of its settings by some amount, or only
the better half of them. Other tests that hold for whole studies are Mann and Whitney's and Welch's
of all draws, and exchanges by the mean value of the best of k, for several k; whichever of them
finds most in a row is its best.

*Intervals* are those of the median of the best of k draws, for k from 1 to 10.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from benchmarks.harness import Figure, Session
from deltagclip_cli.results.statistics.best_of import best_of_curve, survival
from deltagclip_cli.results.statistics.permutation import doubled_budgets, exchange_draws

Values = NDArray[np.float64]

_SEEDS, _FRESH = 3, 10
_LEVEL = 0.05
_SPREADS = (0.0, 1.0, 3.0)
_SHAPES = ("normal", "skewed")
_BUDGETS = ((1, 1), (2, 2), (5, 5), (10, 10), (20, 20), (50, 50), (1, 20), (5, 50))
_SHIFTS = {5: 1.5, 10: 1.0, 20: 0.8, 50: 0.5}  # by budget, so that some studies find it
_OF_HALF = 1.5  # that the better half of the settings is better by
_EXCHANGES = 1_999
_OURS = "exchanges at several budgets, as we do"
_OTHERS = "the best of the other tests"


def measure(session: Session) -> Iterator[Figure]:
    studies = 50 if session.quick else 2_000
    for ours, theirs in _BUDGETS:
        yield from _false_claims(studies, ours, theirs, "random")
    for budget in (10, 20):
        yield from _false_claims(studies, budget, budget, "sobol")
    yield _false_claims_of_several(studies)
    powers = _Powers()
    for ours, theirs in ((5, 5), (10, 10), (20, 20), (50, 50), (5, 50)):
        yield from _power(studies, ours, theirs, powers)
    yield from powers.figures()
    for draws in (10, 20, 40, 100):
        yield from _coverage(studies, draws)


def _words(ours: int, theirs: int) -> str:
    return f"{ours} and {theirs} draws"


def _false_claims(studies: int, ours: int, theirs: int, sampler: str) -> Iterator[Figure]:
    rng = np.random.default_rng([ours, theirs])
    claims, naive = [], []
    for spread in _SPREADS:
        for shape in _SHAPES:
            both = [_drawn(rng, studies, n, spread, shape, sampler) for n in (ours, theirs)]
            judged = [each + _noise(rng, each.shape, shape, _SEEDS) for each in both]
            claims.append(_claims(*judged))
            naive.append(_naive(rng, both, judged, shape))
    what = ("Sobol's " if sampler == "sobol" else "") + _words(ours, theirs)
    yield _most(f"false claims, {what}", claims)
    yield _most(f"false claims, {what}, on fresh seeds of the winners", naive)


def _most(name: str, shares: Sequence[float]) -> Figure:
    """The largest of some shares, with the range of all."""
    low, high = 100 * min(shares), 100 * max(shares)
    return Figure(name, high, unit="%", low=low, high=high)


def _false_claims_of_several(studies: int) -> Figure:
    """Three studies of five draws, whose seeds shift all of their draws."""
    rng = np.random.default_rng(3)
    claims = []
    for shape in _SHAPES:
        both = []
        shifts = rng.normal(size=(studies, 3, 1))
        for _ in range(2):
            values = _drawn(rng, 3 * studies, 5, 1.0, shape, "random").reshape(studies, 3, 5)
            both.append(values + _noise(rng, values.shape, shape, _SEEDS) + shifts)
        claims.append(_claims(*both))
    return _most("false claims, 3 studies of 5 and 5 draws", claims)


def _drawn(
    rng: np.random.Generator, studies: int, draws: int, spread: float, shape: str, sampler: str
) -> Values:
    """Return how good settings are without noise, (studies, draws); more is better."""
    if sampler == "sobol":
        seeds = rng.integers(2**31, size=studies)
        points = [stats.qmc.Sobol(2, seed=int(seed)).random(draws) for seed in seeds]
        normal = special.ndtri(np.clip(points, 1e-9, 1 - 1e-9)).sum(axis=2) / math.sqrt(2)
    else:
        normal = rng.normal(size=(studies, draws))
    return np.asarray(spread * (normal if shape == "normal" else 1 - np.exp(normal)))


def _noise(rng: np.random.Generator, size: tuple[int, ...], shape: str, seeds: int = 1) -> Values:
    """Return the noise of means over seeds; that of one has a standard deviation of 1."""
    noise = rng.normal(size=(*size, seeds))
    if shape == "skewed":
        noise = (np.exp(noise) - math.exp(0.5)) / math.sqrt((math.e - 1) * math.e)
    return np.asarray(noise.mean(axis=-1))


def _claims(ours: Values, theirs: Values) -> float:
    """Return in what share of studies, (studies, draws) or with several of each, a word is said."""
    draws = [each[0].size for each in (ours, theirs)]
    budgets = doubled_budgets(min(each.shape[-1] for each in (ours, theirs)), min(draws))
    said = 0
    for one, other in zip(ours, theirs, strict=True):
        pair = [np.atleast_2d(each) for each in (one, other)]
        said += exchange_draws(*pair, budgets, higher_is_better=True).p <= _LEVEL
    return said / len(ours)


def _naive(
    rng: np.random.Generator, both: Sequence[Values], judged: Sequence[Values], shape: str
) -> float:
    """Return how often the chosen settings differ on fresh seeds by a t-test."""
    fresh = []
    for settings, values in zip(both, judged, strict=True):
        chosen = np.take_along_axis(settings, values.argmax(axis=1)[:, None], axis=1)
        fresh.append(chosen + _noise(rng, (len(settings), _FRESH), shape))
    return float((stats.ttest_ind(*fresh, axis=1, equal_var=False).pvalue <= _LEVEL).mean())


class _Powers:
    """How often tests find a difference, in percent, in rows of different studies."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def behind(self, test: str) -> float:
        """Return how far a test is behind the best of all in the row where it is farthest."""
        return min(row[test] - max(row.values()) for row in self.rows)

    def figures(self) -> Iterator[Figure]:
        """Yield ours, and that of the other test which is never far behind."""
        other = max((each for each in self.rows[0] if each != _OURS), key=self.behind)
        for who, test in (("ours", _OURS), ("the best other one", other)):
            what = f"farthest behind the best test of a row, {who}"
            yield Figure(what, self.behind(test), test, "points", "higher")


def _power(studies: int, ours: int, theirs: int, powers: _Powers) -> Iterator[Figure]:
    rng = np.random.default_rng([7, ours, theirs])
    for better in ("all settings", "the better half"):
        for shape in _SHAPES:
            one, other = (_drawn(rng, studies, n, 1.0, shape, "random") for n in (ours, theirs))
            if better == "all settings":
                one = one + _SHIFTS[min(ours, theirs)] * math.hypot(1, 1 / math.sqrt(_SEEDS))
            else:
                one = one + _OF_HALF * (one > 0)
            one, other = (each + _noise(rng, each.shape, "normal", _SEEDS) for each in (one, other))
            own, others = 100 * _claims(one, other), dict(_others(rng, one, other))
            powers.rows.append({_OURS: own, **others})
            what = f"{better}, {shape}, {_words(ours, theirs)}"
            yield Figure(f"power, {what}", own, unit="%", better="higher")
            ahead = own - max(others.values())
            yield Figure(f"ahead, {what}", ahead, _OTHERS, "points", "higher")


def _others(rng: np.random.Generator, ours: Values, theirs: Values) -> Iterator[tuple[str, float]]:
    """Yield how often other tests that hold find a difference, in percent."""
    for name, p in (
        (
            "Mann and Whitney's",
            stats.mannwhitneyu(ours, theirs, axis=1, method="asymptotic").pvalue,
        ),
        ("Welch's", stats.ttest_ind(ours, theirs, axis=1, equal_var=False).pvalue),
    ):
        yield name, 100 * float((p <= _LEVEL).mean())
    sizes = ours.shape[1], theirs.shape[1]
    values = np.concatenate([ours, theirs], axis=1)
    order = np.argsort(-values, axis=1)
    in_order = np.take_along_axis(values, order, axis=1)
    found = order < sizes[0]
    exchanged = rng.permuted(np.tile(np.arange(sum(sizes)) < sizes[0], (_EXCHANGES, 1)), axis=1)
    least = min(sizes)
    budgets = {"one": 1, "two": 2, "a fifth": max(1, least // 5), "half": least // 2, "all": least}
    for name, k in budgets.items():
        by_chance = np.abs(in_order @ _weights(exchanged, sizes, k).T)
        distance = np.abs((_weights(found, sizes, k) * in_order).sum(axis=1))
        beyond = (by_chance >= distance[:, None] - 1e-9).sum(axis=1)
        claims = (beyond + 1) / (_EXCHANGES + 1) <= _LEVEL
        yield f"exchanges by the mean best of {name}", 100 * float(claims.mean())


def _weights(is_ours: NDArray[np.bool_], sizes: tuple[int, int], k: int) -> Values:
    """Return the weights of values, the best first, in the difference of means of the best of k."""
    ours, theirs = (np.append(-np.diff(survival(each, k)), 0.0) for each in sizes)
    before = np.cumsum(is_ours, axis=1) - is_ours
    return np.where(is_ours, ours[before], -theirs[np.arange(sum(sizes)) - before])


def _coverage(studies: int, draws: int) -> Iterator[Figure]:
    """The least and the most over all k."""
    for sampler in ("random", "sobol"):
        rng = np.random.default_rng([11, draws])
        values = _drawn(rng, studies, draws, 1.0, "normal", sampler)
        values = values + _noise(rng, values.shape, "normal", _SEEDS)
        spread = math.hypot(1, 1 / math.sqrt(_SEEDS))
        budgets = range(1, min(10, draws) + 1)
        true = [spread * float(stats.norm.ppf(0.5 ** (1 / k))) for k in budgets]
        held = np.zeros(len(true))
        for each in values.tolist():
            curve = best_of_curve(each, higher_is_better=True)
            held += [
                best.interval.low <= median <= best.interval.high
                for best, median in zip(curve, true, strict=False)
            ]
        covered = 100 * held / studies
        what = ("Sobol's " if sampler == "sobol" else "") + f"{draws} draws"
        yield Figure(f"intervals that hold, {what}, least", covered.min(), "95 %", "%", "higher")
        yield Figure(f"intervals that hold, {what}, most", covered.max(), "95 %", "%", "higher")
