"""Eight convolutional trials that share one GPU by MPS, beside the same trials taking turns on it.

Each is a process, as a sweep has them. What counts is the sum of their samples a second, each
trial's median over its epochs without the first and the last, in which some of them start or end.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import Figure, Session, Skipped
from benchmarks.paper_models import PaperModels
from deltagclip_cli.core import SPEED
from deltagclip_cli.launch.local import LocalRunner
from deltagclip_cli.launch.supervisor import PlannedQueue
from deltagclip_cli.plan.planned import look_up
from deltagclip_cli.spec.trial import Trial

DEVICES = ("cuda",)
TRIALS = 8
STEPS = {"ResNet-18": 60, "VAE": 150}  # of an epoch: about a second of each
EPOCHS = 6
TURNS, MPS, ALONE = "time slicing", "MPS", "one alone"
MPS_CONTROL = "nvidia-cuda-mps-control"


def measure(session: Session) -> Iterator[Figure]:
    if shutil.which(MPS_CONTROL) is None:  # which cannot be called without a daemon
        raise Skipped(f"needs CUDA MPS: there is no {MPS_CONTROL} on the path")
    models = PaperModels(session.folder, session.quick)
    for name, steps in STEPS.items():
        trial = models.trial(name, f"epochs={EPOCHS}", steps=steps)
        several = [trial.model_copy(update={"seed": seed}) for seed in range(TRIALS)]
        speeds = {
            TURNS: speed(TakingTurns, several, session, gpus="0", trials_per_gpu=TRIALS),
            MPS: speed(AtOnce, several, session, gpus="0", trials_per_gpu=TRIALS),
            ALONE: speed(LocalRunner, several[:1], session, gpus="0"),
        }
        for against in (TURNS, ALONE):
            ratio = speeds[MPS] / speeds[against]
            yield Figure.as_fast(f"8 trials with MPS, {name}", [ratio], against)
        ratio = speeds[TURNS] / speeds[ALONE]
        yield Figure.as_fast(f"8 trials taking turns, {name}", [ratio], ALONE)


class TakingTurns(LocalRunner):
    """Lets trials that share a GPU take turns."""

    def _sharing(self) -> AbstractContextManager[Mapping[str, str]]:
        return nullcontext({})


class AtOnce(LocalRunner):
    """Has MPS, or does not measure."""

    def run(self, queue: Any, watcher: Any) -> None:
        from deltagclip_cli.launch.mps import mps

        with mps() as environment:
            if not environment:
                raise Skipped("MPS cannot be used here, or is used already")
        super().run(queue, watcher)


class Unseen:
    """A watcher that looks away."""

    def started(self, *arguments: object) -> None: ...

    def looked(self, *arguments: object) -> None: ...

    def ended(self, *arguments: object) -> None: ...


def speed(
    made: type[LocalRunner], trials: Sequence[Trial], session: Session, **slots: Any
) -> float:
    """Return the samples a second of all trials together."""
    runs: Path = session.new_folder()
    runner = made(session.folder, lambda: False, download=False, **slots)
    runner.prepare(trials)
    planned = look_up(trials, runs)
    runner.run(PlannedQueue(planned), Unseen())  # type: ignore[arg-type]
    total = 0.0
    for each in planned:
        records = list(each.folder.metrics())
        if len(records) != EPOCHS:
            raise RuntimeError(f"{each.folder.path}: {each.folder.reason or 'it was not trained'}")
        total += median(record[SPEED] for record in records[1:-1])
    return total
