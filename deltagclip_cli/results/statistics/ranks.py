"""Rank tests that are exact for small samples, with ties and all.

Scipy's fall back on the normal distribution as soon as two values are equal: of three seeds against
three it then gives p = 0.047, where no arrangement of them has less than 0.1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from deltagclip_cli.results.statistics.sample import Numbers, no_warnings

LARGEST_EXACT = 50
"""How many values, or pairs, have all of their arrangements counted; more have almost the same p
by the normal distribution."""

_ULPS = 4  # of a number that was computed, such as the mean over a test set, this many may be wrong


def signed_rank_p(ours: Numbers, theirs: Numbers) -> float:
    """Of Wilcoxon's test of pairs, two-sided; pairs that are equal are left out, as he does.

    Args:
        ours: a value for each pair; an infinite one has diverged, at the bad end.
        theirs: likewise; what has diverged on both sides is equal.
    """
    errors = np.add(*_rounding(ours, theirs))
    with np.errstate(invalid="ignore", over="ignore"):
        differences = ours - theirs
    differs = np.abs(differences) > errors
    differences, errors = differences[differs], errors[differs]
    ranks = _tied_ranks(np.abs(differences), errors)
    is_positive = differences > 0
    if len(ranks) > LARGEST_EXACT:
        with no_warnings():
            signed = np.where(is_positive, ranks, -ranks)
            return float(stats.wilcoxon(signed, method="asymptotic").pvalue)
    doubled = np.rint(2 * ranks).astype(int)
    ways = np.zeros(doubled.sum() + 1)  # in how many ways the signs give each sum of doubled ranks
    ways[0] = 1
    for rank in doubled:
        ways[rank:] += ways[:-rank]
    return _two_sided(ways, int(doubled[is_positive].sum()))


def rank_sum_p(ours: Numbers, theirs: Numbers) -> float:
    """Of two samples, two-sided: Mann and Whitney's, or Brunner and Munzel's if that is larger.

    Mann and Whitney's compares whole distributions: it takes a small sample of the larger spread
    for one that lies elsewhere. Brunner and Munzel's does not, but of few values is approximate.
    Where sizes differ, both have to agree; where they do not, the first hardly has this fault.

    Args:
        ours: at least one; an infinite one has diverged, at the bad end.
        theirs: likewise.
    """
    everything = np.concatenate([ours, theirs])
    ranks = _tied_ranks(everything, np.concatenate(_rounding(ours, theirs)))
    ours, theirs = ranks[: len(ours)], ranks[len(ours) :]
    p = _mann_whitney_p(ours, theirs)
    if len(ours) == len(theirs) or min(len(ours), len(theirs)) < 2:
        return p
    with no_warnings():
        other = float(stats.brunnermunzel(ours, theirs).pvalue)
    return float(np.fmax(p, other))  # NaN where the samples do not overlap


def _mann_whitney_p(ours: Numbers, theirs: Numbers) -> float:
    """Of ranks."""
    if len(ours) + len(theirs) > LARGEST_EXACT:
        with no_warnings():
            return float(stats.mannwhitneyu(ours, theirs, method="asymptotic").pvalue)
    doubled = np.rint(2 * np.concatenate([ours, theirs])).astype(int)
    # In how many ways so many values, (n + 1,), have each sum of doubled ranks.
    ways = np.zeros((len(ours) + 1, np.sort(doubled)[-len(ours) :].sum() + 1))
    ways[0, 0] = 1
    for rank in doubled[doubled < ways.shape[1]]:
        ways[1:, rank:] += ways[:-1, : ways.shape[1] - rank]
    return _two_sided(ways[-1], int(doubled[: len(ours)].sum()))


def _two_sided(ways: Numbers, found: int) -> float:
    """Twice the part of all ways that are as far out as the sum that was found, on its side."""
    tail = min(ways[: found + 1].sum(), ways[found:].sum())
    return min(1.0, 2 * float(tail / ways.sum()))


def _rounding(ours: Numbers, theirs: Numbers) -> list[Numbers]:
    """How far rounding may have put each value off.

    A whole number is what it says. Event files hold single precision: what fits into that has it.
    """
    with np.errstate(over="ignore"):
        fits = all((each.astype(np.float32) == each).all() for each in (ours, theirs))
    precision = float(np.finfo(np.float32 if fits else np.float64).eps)
    return [
        np.where(each == np.rint(each), 0.0, _ULPS * precision * np.abs(each))
        for each in (ours, theirs)
    ]


def _tied_ranks(values: Numbers, errors: Numbers) -> Numbers:
    """Ranks from 1; neighbours that are equal but for their errors share the mean of theirs."""
    order = np.argsort(values, kind="stable")
    with np.errstate(invalid="ignore", over="ignore"):
        gaps = np.diff(values[order])  # NaN between two that have diverged
    is_new = gaps > errors[order][1:] + errors[order][:-1]
    places: NDArray[np.int_] = np.concatenate([[0], np.cumsum(is_new)])[: len(values)]
    ranks = np.empty(len(values))
    ranks[order] = stats.rankdata(places)
    return ranks
