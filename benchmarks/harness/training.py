"""Trials that train one epoch at a time, recorded as ``deltagclip train`` records them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import HeldFolder, create
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import Trial, make_trial
from deltagclip_cli.training.assembly import Parts
from deltagclip_cli.training.program import Eager
from deltagclip_cli.training.ranks import Ranks
from deltagclip_cli.training.sinks import Beginning, make_recording
from deltagclip_cli.training.trainer import Trainer


def trials_of(spec: Path) -> Iterator[Trial]:
    """The setting of each optimizer of each experiment in a file, with seed 0."""
    for name, experiment in load_spec(spec).experiments.items():
        for label in experiment.optimizers:
            yield make_trial(name, experiment, label, 0)


class Runner:
    """A trial in a run folder, whose epochs are called one by one.

    It writes no checkpoint, whose time is that of the disk.

    Args:
        ranks: of which this process is one.
    """

    def __init__(self, trial: Trial, parts: Parts, runs: Path, ranks: Ranks) -> None:
        run = RunFolder.of(runs, trial)
        create(run, trial)
        parts, program = ranks.spread(trial, parts), ranks.program(lambda: Eager)
        self.recording = make_recording(HeldFolder(run), (), lambda state: None, rank=ranks.number)
        self.trainer = Trainer(trial, parts, self.recording, self._is_epoch_over, program)
        self.recording.begin(Beginning(trial, str(parts.device), self.trainer.course))

    def epoch(self) -> None:
        """Train and evaluate once more."""
        self.trainer.train()

    def steps(self) -> None:
        """Make the steps of a pass alone: nothing is evaluated, added up or written."""
        trainer = self.trainer
        trainer.parts.model.train()
        order = torch.randperm(trainer.parts.steps.samples)
        for number, step in enumerate(trainer.parts.steps.iterate(order, trainer.augment)):
            trainer.program.step(step, number)

    def _is_epoch_over(self) -> bool:
        return self.trainer.batch == 0


@contextmanager
def runner(trial: Trial, parts: Parts, runs: Path, ranks: Ranks | None = None) -> Iterator[Runner]:
    """A trial that is ended behind its epochs."""
    made = Runner(trial, parts, runs, ranks or Ranks())
    try:
        yield made
    finally:
        made.recording.end(None)


Objective = Callable[[nn.Module, Any, Any], Tensor]


def bare_epoch(
    parts: Parts, generator: torch.Generator | None = None, objective: Objective | None = None
) -> None:
    """Train and evaluate once more as a script does, which is the floor for :class:`Runner`.

    Args:
        generator: of the augmentations.
        objective: what is minimised, and nothing is measured; None for that of the task, of which
            everything that it measures is added up.
    """
    measured: dict[str, float] = defaultdict(float)

    def of_task(model: nn.Module, inputs: Any, targets: Any) -> Tensor:
        loss = parts.task(model, inputs, targets)
        for name, value in loss.sums.items():
            measured[name] += value.item()
        return loss.objective

    bare_steps(parts, generator, objective or of_task)
    parts.model.eval()
    with torch.inference_mode():
        for inputs, targets in parts.evaluated["test"].iterate(None, None):
            (objective or of_task)(parts.model, inputs, targets)


def bare_steps(parts: Parts, generator: torch.Generator | None, objective: Objective) -> None:
    """Make the steps of a pass, the floor for :meth:`Runner.steps`."""
    parts.model.train()
    for inputs, targets in parts.train.iterate(torch.randperm(parts.train.samples), generator):
        parts.optimizer.zero_grad()
        objective(parts.model, inputs, targets).backward()
        parts.optimizer.step()
