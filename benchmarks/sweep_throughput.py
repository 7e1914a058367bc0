"""Eight short trials on two slots beside the same trials one after another in one process.

Both are timed with torch loaded: the sweep from the first trial that is started to the last that is
finished, everything else of it included. A worker's own time is that from its start to its first
step, without importing torch, which the sweep's server has done.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from benchmarks.harness import Figure, Session
from benchmarks.harness.commands import IMPORT_TORCH, command
from deltagclip_cli.launch.local import LocalRunner
from deltagclip_cli.launch.slots import Slot
from deltagclip_cli.launch.supervisor import End, PlannedQueue
from deltagclip_cli.plan.planned import Planned, look_up
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.spec.trial import Trial, distinct_inputs, expand
from deltagclip_cli.training.worker import run_trial

ONE, ALL = "one after another, 1 thread", "one after another, all threads"
SETTINGS = {
    "model": {"name": "mlp", "hidden": [256, 256]},
    "data": {"name": "synthetic", "size": 16, "train": 6000, "test": 1000, "batch_size": 100},
    "optimizers": {
        "delta-gclip": {"name": "delta_gclip", "lr": 0.1, "gamma": 1.0, "delta": 1e-3},
        "adam": {"name": "adam", "lr": 1e-3},
    },
    "checkpoint": {"epochs": 10},
}


def measure(session: Session) -> Iterator[Figure]:
    count, epochs, rounds = (4, 4, 1) if session.quick else (8, 30, 3)
    experiment = Experiment.model_validate({**SETTINGS, "epochs": epochs})
    trials = list(expand("benchmark", experiment, range(count // 2)))
    clock, threads = Clock(), torch.get_num_threads()
    times = session.turns(
        {
            "swept": lambda: sweep(trials, session.new_folder(), clock),
            ONE: lambda: partial(one_after_another, trials, session.new_folder(), 1),
            ALL: lambda: partial(one_after_another, trials, session.new_folder(), threads),
        },
        rounds,
        warm_up=0,
        made_anew=True,
    )
    for rival in (ONE, ALL):
        yield times.as_fast(f"{count} trials on 2 slots", "swept", rival)
    torch_seconds = session.turns({"torch": command(IMPORT_TORCH)}, rounds)["torch"]
    ratio = statistics.median(clock.to_first_step) / statistics.median(torch_seconds)
    yield Figure.as_long("a worker, from start to first step", [ratio], "importing torch")


class Clock:
    """Takes the time that each trial needs from its start to its first heartbeat."""

    def __init__(self) -> None:
        self.started_at: dict[Path, float] = {}
        self.to_first_step: list[float] = []

    def started(self, unit: Sequence[Planned], slot: Slot) -> None:
        self.started_at |= {planned.folder.path: time.time() for planned in unit}

    def ended(self, planned: Planned, end: End) -> None:
        assert end.state == "finished", end
        records = planned.folder.metrics()
        first = next(iter(records))
        begun = first["time"] - first["perf/epoch_seconds"]
        self.to_first_step.append(begun - self.started_at[planned.folder.path])

    def looked(self, running: Sequence[tuple[Sequence[Planned], Slot]]) -> None:
        pass


def sweep(trials: Sequence[Trial], runs: Path, clock: Clock) -> Callable[[], None]:
    """Sweep on two slots, with a server that has loaded torch."""
    runner = LocalRunner(runs, lambda: False, jobs=2)
    runner.prepare(distinct_inputs(trials))
    return lambda: runner.run(PlannedQueue(look_up(trials, runs)), clock)


def one_after_another(trials: Sequence[Trial], runs: Path, threads: int) -> None:
    for each in look_up(trials, runs):
        run_trial(
            each.folder,
            each.trial,
            data_dir=runs,
            device="cpu",
            threads=threads,
            should_stop=lambda: False,
        )
