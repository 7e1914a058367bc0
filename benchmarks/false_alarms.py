"""How often ``deltagclip try`` calls an optimizer better or worse that is the same as its rivals.

Whole tries are drawn from what the rivals came to when they were tuned (``rivals.json``): a
learning rate comes to the validation loss of one of the stored draws that are nearest to it, of any
seed. One of the rivals, by chance, is tried against two others that are the same as it, each with a
scan around a default of its own, rounds of draws, choices, and a loss that is judged. Any word but
*not told apart*, in any of the six comparisons, is a false alarm. *One tuning* is what is often
done: a single round chooses, and its setting is compared on as many fresh seeds, by the same tests.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

from benchmarks.harness import Figure, Session
from deltagclip_cli.trying.duels import Word, judge
from deltagclip_cli.trying.protocol import (
    PROBLEMS,
    RIVALS,
    ROUNDS,
    best_rate,
    drawn_rates,
    read_stored,
    scanned_rates,
    stored,
)

_NEAREST = 8  # of 120 draws in two decades, within a seventh of a decade

Surface = Sequence[tuple[float, float]]
"""Decimal logarithms of learning rates and their losses."""


def measure(session: Session) -> Iterator[Figure]:
    tries = 20 if session.quick else 600
    ways = {"rounds, as we do": _rounds, "one tuning, as is often done": _one_tuning}
    for name, losses in ways.items():
        chance = random.Random(0)
        wrong = sum(_is_wrong(losses, ROUNDS, chance) for _ in range(tries))
        yield Figure(f"tries with a false word, {name}", 100 * wrong / tries, unit="%")


def _surfaces(label: str) -> dict[str, Surface]:
    problems = read_stored()["problems"]
    found = {}
    for problem in PROBLEMS:
        rival = problems[problem]["rivals"][label]
        drawn = [pair for each in rival["rounds"] for pair in each["draws"]]
        pairs = [*(rival["scan"] * _NEAREST), *drawn]
        found[problem] = [
            (math.log10(rate), math.inf if loss is None else loss) for rate, loss in pairs
        ]
    return found


_BY_LABEL = {label: _surfaces(label) for label in RIVALS}

Losses = Callable[[Surface, float, int, random.Random], Mapping[int, float]]


def _is_wrong(losses: Losses, rounds: int, chance: random.Random) -> bool:
    """Draw one try of three methods that are the same; tell whether a word was spoken."""
    surfaces = _BY_LABEL[chance.choice(RIVALS)]
    defaults = [10 ** chance.uniform(-3.5, -2.5) for _ in range(3)]
    drawn = {
        problem: [losses(surface, each, rounds, chance) for each in defaults]
        for problem, surface in surfaces.items()
    }
    found = judge(
        {problem: each[0] for problem, each in drawn.items()},
        {problem: {"a": each[1], "b": each[2]} for problem, each in drawn.items()},
        {problem: each.untrained for problem, each in stored().items()},
    )
    return any(each.word is not Word.UNTOLD for each in found)


def _best(surface: Surface, rates: Sequence[float], chance: random.Random) -> float:
    losses = {rate: _loss(surface, rate, chance) for rate in rates}
    return best_rate(losses) or min(rates)


def _rounds(
    surface: Surface, default: float, rounds: int, chance: random.Random
) -> Mapping[int, float]:
    middle = _best(surface, scanned_rates(default), chance)
    return {
        number: _loss(surface, _best(surface, drawn_rates(middle, number), chance), chance)
        for number in range(1, rounds + 1)
    }


def _one_tuning(
    surface: Surface, default: float, rounds: int, chance: random.Random
) -> Mapping[int, float]:
    middle = _best(surface, scanned_rates(default), chance)
    chosen = _best(surface, drawn_rates(middle, chance.randrange(10**6)), chance)
    return {number: _loss(surface, chosen, chance) for number in range(1, rounds + 1)}


def _loss(surface: Surface, rate: float, chance: random.Random) -> float:
    """Return the loss of one of the draws that are nearest to a learning rate."""
    place = math.log10(rate)
    return chance.choice(sorted(surface, key=lambda each: abs(each[0] - place))[:_NEAREST])[1]
