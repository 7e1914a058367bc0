"""How often ``deltagclip try`` calls an optimizer better or worse that is the same as its rivals.

    python benchmarks/false_alarms.py [--tries 1000] [--rounds 6] [--runs FOLDER]

AdamW is trained on every problem with 19 learning rates and four seeds (3 minutes on two cores).
Of these losses whole tries are drawn: AdamW against two rivals that are AdamW as well, each with a
scan around a default of its own (from 0.0003 to 0.003, by chance), rounds of draws, choices by the
validation split, and a seed that is judged. Any word but *not told apart*, in any of the six
comparisons, is a false alarm. *One tuning* is what is often done: a single round chooses, and its
setting is compared on as many fresh seeds, by the same tests.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from machine import describe_machine
from rich.console import Console
from rich.table import Table

from deltagclip_cli.launch.launcher import SweepRequest
from deltagclip_cli.launch.local import LocalLauncher
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.trying.duels import Word, judge
from deltagclip_cli.trying.protocol import (
    CHOSEN_BY,
    JUDGED_BY,
    PROBLEMS,
    ROUNDS,
    SPEC,
    best_rate,
    drawn_rates,
    scanned_rates,
    stored,
)
from deltagclip_cli.trying.tryout import Tryout

_RATES = [10 ** (place / 6 - 3) for place in range(19)]  # others are far from the best
_SEEDS = range(4)

Surface = Mapping[tuple[int, int], tuple[float, float]]
"""Losses of validation and test, by the numbers of a learning rate and of a seed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--runs", type=Path, default=Path(tempfile.gettempdir(), "false-alarms"))
    asked = parser.parse_args()
    surfaces = _surfaces(asked.runs)
    console = Console(width=100)
    table = Table("judged by", "better or worse, of six", "tries")
    for name, losses in (("rounds", _rounds), ("one tuning", _one_tuning)):
        chance = random.Random(0)
        wrong = sum(_is_wrong(surfaces, losses, asked.rounds, chance) for _ in range(asked.tries))
        table.add_row(name, f"{wrong / asked.tries:.1%}", str(asked.tries))
    console.print(describe_machine())
    console.print(table)


def _surfaces(runs: Path) -> dict[str, Surface]:
    spec = load_spec(SPEC, runs=runs)
    study = Tryout(spec, runs, PROBLEMS, [], 1)
    trials = {
        (problem, rate, seed): study.trial(problem, "adamw", _RATES[rate], 2000 + seed)
        for problem in PROBLEMS
        for rate in range(len(_RATES))
        for seed in _SEEDS
    }
    console = Console(stderr=True)
    request = SweepRequest(spec=spec, runs=runs, data=Path(), console=console, jobs=2, quiet=True)
    LocalLauncher(request).run(list(trials.values()))
    surfaces: dict[str, dict[tuple[int, int], tuple[float, float]]] = {}
    for (problem, rate, seed), trial in trials.items():
        losses = [study.loss(trial, metric) for metric in (CHOSEN_BY, JUDGED_BY)]
        assert None not in losses, "every trial has ended"
        surfaces.setdefault(problem, {})[rate, seed] = (losses[0], losses[1])  # type: ignore[assignment]
    return surfaces


Losses = Callable[[Surface, float, int, random.Random], dict[int, float]]


def _is_wrong(
    surfaces: Mapping[str, Surface], losses: Losses, rounds: int, chance: random.Random
) -> bool:
    """Draw one try of three methods that are the same; tell whether a word was spoken."""
    default = [10 ** chance.uniform(-3.5, -2.5) for _ in range(3)]
    drawn = {
        problem: [losses(surface, each, rounds, chance) for each in default]
        for problem, surface in surfaces.items()
    }
    found = judge(
        {problem: each[0] for problem, each in drawn.items()},
        {problem: {"a": each[1], "b": each[2]} for problem, each in drawn.items()},
        {problem: each.untrained for problem, each in stored().items()},
    )
    return any(each.word is not Word.UNTOLD for each in found)


def _scan(surface: Surface, default: float, chance: random.Random) -> float:
    seed = chance.choice(_SEEDS)
    middle = best_rate({rate: _at(surface, rate, seed)[0] for rate in scanned_rates(default)})
    assert middle is not None
    return middle


def _choice(surface: Surface, middle: float, number: int, chance: random.Random) -> float:
    seed = chance.choice(_SEEDS)
    rates = drawn_rates(middle, number)
    chosen = best_rate({rate: _at(surface, rate, seed)[0] for rate in rates})
    assert chosen is not None
    return chosen


def _rounds(
    surface: Surface, default: float, rounds: int, chance: random.Random
) -> dict[int, float]:
    middle = _scan(surface, default, chance)
    first = chance.randrange(10**6)
    return {
        number: _at(
            surface, _choice(surface, middle, first + number, chance), chance.choice(_SEEDS)
        )[1]
        for number in range(rounds)
    }


def _one_tuning(
    surface: Surface, default: float, rounds: int, chance: random.Random
) -> dict[int, float]:
    chosen = _choice(surface, _scan(surface, default, chance), chance.randrange(10**6), chance)
    return {number: _at(surface, chosen, chance.choice(_SEEDS))[1] for number in range(rounds)}


def _at(surface: Surface, rate: float, seed: int) -> tuple[float, float]:
    """Return the losses at the nearest learning rate that was trained."""
    number = min(range(len(_RATES)), key=lambda each: abs(_RATES[each] / rate - 1))
    return surface[number, seed]


if __name__ == "__main__":
    main()
