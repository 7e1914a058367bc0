"""How often settings that are equal are told from the best, and how often one that is worse is.

Tables of seven settings with normal noise, of seeds of their own or of shared ones, which then add
three standard deviations to all settings. *Wrong*: the share of tables of equal settings in which
one is called worse than the best. *One worse*, *one better*: how often the setting that is two
standard deviations worse than the others, or the others, are found when one is so much better.
*Holm* is what is often done: t-tests against whichever setting came out best, adjusted by Holm's
method.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.harness import Figure, Session
from deltagclip_cli.results.statistics.difference import (
    SIGNIFICANT,
    Design,
    Difference,
    adjusted_to_best,
    holm,
)

Values = NDArray[np.float64]


def measure(session: Session) -> Iterator[Figure]:
    tables, settings = (100 if session.quick else 2_000), 7
    for paired in (False, True):
        for seeds in (3, 10) if session.quick else (3, 5, 10, 20):
            which = f"{seeds} {'shared' if paired else 'own'} seeds"
            holms, ours = shares(tables, settings, seeds, paired=paired)
            for kind, other, own in zip(Shares._fields, holms, ours, strict=True):
                what = f"{kind.replace('_', ' ')}, {which}"
                better = "lower" if kind == "wrong" else "higher"
                yield Figure(what, 100 * own, f"Holm: {100 * other:.1f} %", "%", better)


class Found(NamedTuple):
    """Which settings were called worse than the best, (tables, settings), by which method."""

    holm: NDArray[np.bool_]
    ours: NDArray[np.bool_]


class Shares(NamedTuple):
    """How often a method was wrong, and how often it found what there was to be found."""

    wrong: float
    one_worse: float
    one_better: float


def draw(
    tables: int, means: Sequence[float], seeds: int, *, paired: bool, noise: str = "normal"
) -> Values:
    """Values of settings with these means, (tables, settings, seeds)."""
    rng = np.random.default_rng(seeds)
    values: Values = rng.normal(size=(tables, len(means), seeds))
    if noise == "unequal":
        values[:, -1] *= 4
    elif noise == "lognormal":
        values = (np.exp(values) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)
    common = 3 * rng.normal(size=(tables, 1, seeds)) if paired else 0.0
    return np.asarray(values + np.array(means)[:, None] + common)


def judge(values: Values, *, paired: bool) -> Found:
    """Both methods on each table."""
    found = [_judge(table, paired) for table in values]
    return Found(*(np.array(each) for each in zip(*found, strict=True)))


def _judge(table: Values, paired: bool) -> tuple[list[bool], list[bool]]:
    place = int(table.mean(axis=1).argmax())
    best, others = table[place], np.delete(table, place, axis=0)
    tests = list(_tests(others, best, paired))
    seeds = range(table.shape[1])
    first = 0 if paired else len(seeds)
    adjusted = adjusted_to_best(
        dict(zip(seeds, best.tolist(), strict=True)),
        [dict(enumerate(own.tolist(), first)) for own in others],
        tests,
        higher_is_better=True,
    )
    ps = (holm([test.t_test_p for test in tests]), adjusted)
    found = [[p is not None and p < SIGNIFICANT for p in each] for each in ps]
    for each in found:
        each.insert(place, False)
    return found[0], found[1]


def _tests(others: Values, best: Values, paired: bool) -> Iterator[Difference]:
    """What ``compare`` says of the means; its intervals and ranks would take most of the time."""
    n = len(best)
    if paired:
        found = stats.ttest_rel(others, best[None], axis=1)
    else:
        found = stats.ttest_ind(others, best[None], axis=1, equal_var=False)
    degrees = np.broadcast_to(found.df, found.pvalue.shape)
    design = Design.PAIRED if paired else Design.UNPAIRED
    for own, p, df in zip(others, found.pvalue.tolist(), degrees.tolist(), strict=True):
        difference = float(own.mean() - best.mean())
        yield Difference(design, n, n, 0, difference, t_test_p=p, degrees=df)


def shares(
    tables: int, settings: int, seeds: int, *, paired: bool, noise: str = "normal"
) -> tuple[Shares, Shares]:
    """Of Holm's method and of ours."""
    means = ([0.0] * settings, [0.0] * (settings - 1) + [-2.0], [2.0] + [0.0] * (settings - 1))
    equal, worse, better = (
        judge(draw(tables, each, seeds, paired=paired, noise=noise), paired=paired)
        for each in means
    )
    holms, ours = (
        Shares(float(e.any(axis=1).mean()), float(w[:, -1].mean()), float(b[:, 1:].mean()))
        for e, w, b in zip(equal, worse, better, strict=True)
    )
    return holms, ours
