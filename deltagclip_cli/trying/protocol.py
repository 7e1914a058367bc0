"""The tuning that is the same for every optimizer: which learning rates are drawn, and which wins.

All of it is repeated in every round, so that rounds are independent studies of a *method*, an
optimizer with so many draws: a round draws, chooses by the validation split, and trains once more,
on a seed of its own, at what it chose. Fresh seeds alone would judge the two settings that came
out of one tuning, of which the luck counts as an effect.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from deltagclip_cli.spec.axes import rounded

PROBLEMS = ("try-shapes", "try-grammar", "try-measurements")
RIVALS = ("adamw", "sgd-momentum")
SPEC = Path(__file__).with_name("problems.yaml")
STORED = Path(__file__).with_name("rivals.json")

ROUNDS = 6
MOST_ROUNDS = 30
"""The rounds for which settings of the rivals are stored."""
DRAWS = 4
"""Learning rates of a round, evenly spread but for chance over a factor of 100."""
SCANNED = 7
"""Powers of ten around the default learning rate, of which the best is the middle of the draws."""
CHOSEN_BY, JUDGED_BY = "validation/loss", "test/loss"
UNSAID_RATE = 0.01
"""The middle of the scan of an optimizer that has no default."""
_DIGITS = 3


def scan_seed() -> int:
    """Return the seed of the scan."""
    return 1000


def tuning_seed(number: int) -> int:
    """Return the seed at which a round, counted from 1, tries its draws."""
    return 1000 + number


def scanned_rates(default: float) -> list[float]:
    """Return the learning rates of the scan: powers of ten around a default."""
    half = SCANNED // 2
    return [rounded(default * 10.0**power, _DIGITS) for power in range(-half, half + 1)]


def drawn_rates(middle: float, number: int) -> list[float]:
    """Return the draws of a round: one in each quarter of the two decades around ``middle``.

    Where in its quarter is chance, the same for every optimizer.
    """
    chance = random.Random(number)
    places = [(at + chance.random()) / DRAWS for at in range(DRAWS)]
    return [rounded(middle * 10.0 ** (2 * place - 1), _DIGITS) for place in places]


def best_rate(values: Mapping[float, float]) -> float | None:
    """Return the learning rate with the least loss; None if all of them diverged."""
    finite = {rate: value for rate, value in values.items() if math.isfinite(value)}
    return min(finite, key=lambda rate: (finite[rate], rate)) if finite else None


@dataclass(frozen=True)
class Rival:
    """An optimizer that was tuned beforehand on one problem, as everybody is."""

    rates: Sequence[float]  # that its rounds chose, from the first on
    best: float  # the least validation loss of its scan


@dataclass(frozen=True)
class Stored:
    """One problem, as far as it was found out beforehand."""

    untrained: float  # the loss of the network before its first step, the mean over ten seeds
    rivals: Mapping[str, Rival]

    def progress(self, loss: float) -> float:
        """Return how far a loss is on the way from the untrained network to the best rival's."""
        best = min(each.best for each in self.rivals.values())
        return (self.untrained - loss) / (self.untrained - best) if math.isfinite(loss) else 0.0


@cache
def stored() -> Mapping[str, Stored]:
    """Read what was found out beforehand, by problem."""
    return {name: _problem(found) for name, found in read_stored()["problems"].items()}


def read_stored() -> dict[str, Any]:
    """Read the whole file, with every draw and how it was made."""
    content: dict[str, Any] = json.loads(STORED.read_text(encoding="utf-8"))
    return content


def _problem(found: Mapping[str, Any]) -> Stored:
    rivals = {
        name: Rival(
            [each["chosen"] for each in of_one["rounds"]],
            min(value for _, value in of_one["scan"] if value is not None),
        )
        for name, of_one in found["rivals"].items()
    }
    return Stored(found["untrained"], rivals)
