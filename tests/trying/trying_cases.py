"""Tries without training: what every trial comes to is made up."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

from deltagclip_cli.runs.folder import State
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.trying.answer import TryAnswer
from deltagclip_cli.trying.candidate import read_candidate
from deltagclip_cli.trying.protocol import PROBLEMS, RIVALS, Rival, Stored
from deltagclip_cli.trying.tryout import Tryout

BEST_RATE = 0.01
STORED = {
    problem: Stored(2.0, {rival: Rival([BEST_RATE] * 30, 0.4) for rival in RIVALS})
    for problem in PROBLEMS
}
Loss = Callable[[Trial], float]


def noise(trial: Trial, size: float = 0.02) -> float:
    """Draw what depends on the trial alone."""
    return random.Random(trial.folder).gauss(0, size)


def like_a_rival(trial: Trial) -> float:
    """Return a loss that is least at one learning rate, and no number far above it."""
    away = math.log10(trial.optimizer.options.get("lr", BEST_RATE) / BEST_RATE)
    return math.inf if away > 1.5 else min(2.0, 0.4 + 0.3 * away**2) + noise(trial)


def only(label: str, loss: Loss) -> Loss:
    """Return losses that one optimizer has of its own; all others are like rivals."""
    return lambda trial: loss(trial) if trial.label == label else like_a_rival(trial)


class MadeUp(Tryout):
    """A study whose trials have ended when they are asked for."""

    of: Loss

    def loss(self, trial: Trial, metric: str) -> float:
        status = State.FINISHED if math.isfinite(self.of(trial)) else State.DIVERGED
        seconds = {"epochs": 1.0, "last_start": 1.5}
        self._results[trial.folder] = {"status": status, "seconds": seconds}
        return self.of(trial)


def study(
    name: str,
    loss: Loss,
    *,
    sets: tuple[str, ...] = (),
    around: float | None = None,
    rounds: int = 6,
) -> tuple[MadeUp, TryAnswer]:
    """Try an optimizer, given what each trial comes to."""
    spec, candidate = read_candidate(name, sets, around, Path("runs"))
    made = MadeUp(
        spec,
        Path("runs"),
        PROBLEMS,
        [candidate.method],
        rounds,
        {
            name: {rival: each.rivals[rival].rates for rival in RIVALS}
            for name, each in STORED.items()
        },
        {name: each.progress for name, each in STORED.items()},
    )
    made.of = loss
    return made, TryAnswer(candidate, made, STORED, 2)
