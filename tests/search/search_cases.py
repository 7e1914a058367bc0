"""Searches without training: run folders are written as a worker would, with made-up losses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from run_cases import result_text

from deltagclip_cli.launch.supervisor import End, Queue
from deltagclip_cli.plan.planned import Planned, look_up, pending
from deltagclip_cli.runs.folder import RunFolder, State
from deltagclip_cli.runs.hold import HeldFolder, create
from deltagclip_cli.search.drawn_search import Drawn, DrawsQueue
from deltagclip_cli.search.searched import SearchedOptimizer, find_searched
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.tuning.halving import part_of

SPACE = {
    "lr": {"log_uniform": [1e-4, 1]},
    "gamma": {"uniform": [0.1, 2]},
    "delta": {"choice": [1e-3, 1e-2]},
}
EPOCHS = 3


def experiment_of(protocol: Mapping[str, Any] | None = None, **search: Any) -> Experiment:
    """Two seeds and some optimizers, of which one has a space unless another is given."""
    metric = {} if protocol else {"metric": "test/loss"}
    return Experiment.model_validate(
        {
            "model": {"name": "mlp", "hidden": [8]},
            "data": {"name": "synthetic", "batch_size": 8, "size": 4, "train": 32, "test": 16},
            "epochs": EPOCHS,
            "seeds": [0, 1],
            "optimizers": {
                "dgc": {"name": "delta_gclip", "lr": 0.1, "gamma": 1.0, "delta": 1e-3},
                "sgd": {"name": "sgd", "lr": 0.1},
                "adam": {"name": "adam"},
            },
            "search": {**metric, "space": {"dgc": SPACE}, **search},
            "protocol": protocol,
        }
    )


def optimizers_of(experiment: Experiment) -> list[SearchedOptimizer]:
    return find_searched({"tiny": experiment}, named=True)


Loss = Callable[[Trial, int], float]


def bowl(trial: Trial, epoch: int) -> float:
    """Best at lr 0.01; differs a little between seeds, and falls with the epochs."""
    distance = abs(math.log10(trial.optimizer.options["lr"]) + 2)
    return 1 + distance + 0.1 * trial.seed + trial.optimizer.options["gamma"] / epoch


def taken(queue: Queue) -> Planned | None:
    """The next trial of a search, which hands out one at a time."""
    for (planned,) in filter(None, [queue.take()]):
        return planned
    return None


class Killed(Exception):
    """What ends a made-up search where a real one would be killed."""


@dataclass
class World:
    """Runs what a queue hands out, one epoch after the other.

    Args:
        runs: where run folders go.
        loss: after an epoch; one that is not finite makes the trial diverge.
        fails: whether a trial fails in its second epoch.
        epochs_left: after so many epochs the search is killed.
    """

    runs: Path
    loss: Loss = bowl
    fails: Callable[[Trial], bool] = lambda trial: False
    epochs_left: float = math.inf
    started: list[Planned] = field(default_factory=list)

    def search(self, experiment: Experiment, settings: int) -> Queue:
        """Search to the end."""
        queue = self.queue(experiment, settings)
        while (planned := taken(queue)) is not None:
            queue.ended(planned, self.run(queue, planned))
        assert queue.is_over()
        return queue

    def search_in_pieces(self, experiment: Experiment, settings: int, epochs: int) -> int:
        """Search, killed after so many epochs again and again; how often it was started."""
        for starts in range(1, 1000):
            self.epochs_left = epochs
            try:
                self.search(experiment, settings)
            except Killed:
                continue
            return starts
        raise AssertionError("the search never ended")

    def drawn(self, experiment: Experiment, settings: int) -> list[Drawn]:
        return [Drawn(each, self.runs, settings) for each in optimizers_of(experiment)]

    def queue(self, experiment: Experiment, settings: int, slots: int = 1) -> Queue:
        brackets = [each.bracket for each in self.drawn(experiment, settings)]
        return DrawsQueue(brackets, lambda trials: look_up(trials, self.runs), pending)

    def run(self, queue: Queue, planned: Planned) -> End:
        """Be the worker of a trial, and the supervisor that asks whether to give it up."""
        self.started.append(planned)
        trial, folder = planned.trial, planned.folder
        create(folder, trial)
        HeldFolder(folder).forget_reasons()
        done = sum(1 for _ in folder.metrics())
        for epoch in range(done + 1, trial.epochs + 1):
            if not self.epochs_left:
                raise Killed
            self.epochs_left -= 1
            if epoch == 2 and self.fails(trial):
                HeldFolder(folder).record_failure(ValueError("made up"), "made up")
                return End(State.FAILED, "made up")
            loss = self.loss(trial, epoch)
            write_epoch(folder, epoch, loss)
            if not math.isfinite(loss):
                write_result(folder, trial, "diverged")
                return End(State.DIVERGED)
            if planned.part > 1 and epoch == part_of(trial.length, planned.part):
                HeldFolder(folder).record_stop("waits")
                return End(State.INTERRUPTED, "waits", paused=True)
            reason = queue.give_up(planned)
            assert queue.give_up(planned) == reason, "the answer changes when nothing else does"
            if reason and epoch < trial.epochs:
                HeldFolder(folder).record_pruning(reason)
                return End(State.PRUNED, reason)
        write_result(folder, trial, "finished")
        return End(State.FINISHED)

    @property
    def names(self) -> list[str]:
        """The trials that were started, in this order."""
        return [planned.short_name for planned in self.started]


def write_epoch(folder: RunFolder, epoch: int, loss: float) -> None:
    """Append what a worker writes after an epoch, with a record of a step before it."""
    finite = loss if math.isfinite(loss) else None
    record = {
        "epoch": epoch,
        "step": 4 * epoch,
        "time": 0.0,
        "train/loss": 0.5,
        "test/loss": finite,
    }
    with folder.metrics_file.open("a") as file:
        file.write(json.dumps(record) + "\n")


def write_result(folder: RunFolder, trial: Trial, status: str) -> None:
    *_, last = folder.metrics()
    metrics = {name: value for name, value in last.items() if "/" in name}
    text = result_text(status, identity=trial.identity, epochs=last["epoch"], last=metrics)
    folder.result_file.write_text(text)


@contextmanager
def interrupted_after(world: World, epochs: int) -> Iterator[None]:
    """Expect that the search is killed after so many epochs."""
    world.epochs_left = epochs
    try:
        yield
    except Killed:
        world.epochs_left = math.inf
        return
    raise AssertionError("the search ended before it was killed")


def options_of(planned: Planned) -> Mapping[str, Any]:
    return planned.trial.optimizer.options
