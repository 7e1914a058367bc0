"""Words on an optimizer against its rivals, which their rounds can carry.

A round is one independent study of a method; rounds of two methods share their seeds, and are
compared in pairs. A word is spoken only where Holm's correction, over all problems and rivals, lets
it be: of two methods that are alike on every problem, one is called better or worse anywhere in at
most 5 % of tries (``benchmarks/false_alarms.py`` counts it).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

import numpy as np
from scipy import special, stats

from deltagclip_cli.results.statistics.difference import SIGNIFICANT, Difference, compare, holm

POWER = 0.8
"""The chance with which a number of rounds that is said to be enough tells a difference."""
_MOST_COUNTED = 1000

Losses = Mapping[int, float]
"""The loss that each round came to; infinite if it diverged."""


class Word(StrEnum):
    """Verdicts on an optimizer against one rival on one problem."""

    BETTER = "better"
    WORSE = "worse"
    UNTOLD = "not told apart"


@dataclass(frozen=True)
class Duel:
    """An optimizer against one rival on one problem."""

    problem: str
    rival: str
    ours: float  # the mean loss of the rounds
    theirs: float  # that of the rival
    difference: Difference  # of the losses, the optimizer's minus the rival's
    p: float | None  # by Holm's method, over all comparisons; None if no round differs
    rounds_needed: int | None  # to tell a difference as large as it looks; None if none does

    @property
    def word(self) -> Word:
        if self.p is None or self.p >= SIGNIFICANT:
            return Word.UNTOLD
        return Word.BETTER if self.difference.difference < 0 else Word.WORSE


def scores(losses: Losses, untrained: float) -> dict[int, float]:
    """Return the losses, where none counts as worse than that of the untrained network."""
    return {number: min(loss, untrained) for number, loss in losses.items()}


def levelled(ours: Losses, theirs: Losses, untrained: float) -> tuple[Losses, Losses]:
    """Return the losses of two methods, of which a diverged round counts as the worst that did not.

    So every round has a number, and one that diverged does not outweigh all others, which would
    hide what they say. No loss counts as worse than that of the untrained network.
    """
    finite = [loss for loss in (*ours.values(), *theirs.values()) if math.isfinite(loss)]
    worst = min(max(finite, default=untrained), untrained)
    return scores(ours, worst), scores(theirs, worst)


def judge(
    ours: Mapping[str, Losses],
    theirs: Mapping[str, Mapping[str, Losses]],
    untrained: Mapping[str, float],
) -> list[Duel]:
    """Compare an optimizer with every rival on every problem where both have rounds.

    Args:
        ours: its losses by problem, without those on which it does not train.
        theirs: those of its rivals, by problem and label.
        untrained: the loss of the untrained network of each problem.
    """
    found = [
        (problem, rival, *levelled(losses, others, untrained[problem]))
        for problem, losses in ours.items()
        for rival, others in theirs[problem].items()
    ]
    differences = [compare(one, other, higher_is_better=False) for _, _, one, other in found]
    adjusted = holm([each.p for each in differences])
    level = SIGNIFICANT / max(1, len(found))
    return [
        Duel(
            *(problem, rival, fmean(one.values()), fmean(other.values())),
            *(difference, p, rounds_needed(_effect(one, other), level)),
        )
        for (problem, rival, one, other), difference, p in zip(
            found, differences, adjusted, strict=True
        )
    ]


def _effect(ours: Mapping[int, float], theirs: Mapping[int, float]) -> float:
    """Return the mean of the differences of pairs, in their standard deviations; 0 for none."""
    differences = np.array([ours[each] - theirs[each] for each in ours if each in theirs])
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    return abs(float(differences.mean())) / spread if spread > 0 else 0.0


def rounds_needed(effect: float, level: float, power: float = POWER) -> int | None:
    """Return how many pairs a paired t-test needs to see an effect; None for more than a thousand.

    Args:
        effect: the mean of the differences in their standard deviations.
        level: the p-value below which the difference counts.
    """
    if effect <= 0:
        return None
    for pairs in range(2, _MOST_COUNTED + 1):
        if _power(effect, pairs, level) >= power:
            return pairs
    return None


def _power(effect: float, pairs: int, level: float) -> float:
    least = float(stats.t.isf(level / 2, pairs - 1))
    found = float(special.nctdtr(pairs - 1, effect * math.sqrt(pairs), least))
    return 1 - found if math.isfinite(found) else float(effect * math.sqrt(pairs) > least)


def headline(comparisons: Sequence[Duel], rival: str) -> str:
    """Return on how many problems an optimizer is better or worse than a rival, in words."""
    words = [each.word for each in comparisons if each.rival == rival]
    counts = [(word, words.count(word)) for word in Word if words.count(word)]
    return ", ".join(f"{word} on {count} of {len(words)}" for word, count in counts)
