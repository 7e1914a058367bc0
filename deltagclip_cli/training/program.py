"""Carries out one optimizer step, and the forward pass of an evaluation."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from deltagclip_cli.core import load_target
from deltagclip_cli.parts.nested import Tree, samples_in

if TYPE_CHECKING:
    from deltagclip_cli.parts.tasks import Loss
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.training.assembly import Parts
    from deltagclip_cli.training.meter import Observer
    from deltagclip_cli.training.stepping import Stepper

Values = dict[str, Tensor]
StepBatches = Sequence[tuple[Tree, Tree]]


class Program(Protocol):
    """Carries out steps for a trainer, which knows no compiler, no captured graph and no stack.

    ``name`` says which bits it makes: it is recorded as a condition of the start.
    """

    @property
    def name(self) -> str: ...

    def step(self, batches: StepBatches, number: int) -> tuple[Values, Values]:
        """Make step ``number`` of a round, from 0, with the gradient of all its batches.

        Returns the sums over its samples, from before the weights moved, and what was observed of
        the optimizer; all 0-dim, and never written to again.
        """

    def measure(self, model: nn.Module, batch: tuple[Tree, Tree]) -> Values:
        """Apply the task to a batch, and return the sums over its samples; without a gradient."""


ProgramMaker: TypeAlias = Callable[["Trial", "Parts", "Stepper", "Observer"], Program]


class Eager:
    """One operation after the other, as torch does it."""

    name = "eager"

    def __init__(self, trial: Trial, parts: Parts, stepper: Stepper, observer: Observer) -> None:
        self.trial, self.parts = trial, parts
        self.stepper, self.observer = stepper, observer
        self._prepare()

    def _prepare(self) -> None:
        """Do what is done once, before the first step."""

    def step(self, batches: StepBatches, number: int) -> tuple[Values, Values]:
        first: list[tuple[Values, Values]] = []

        def evaluate() -> Tensor:
            self.parts.optimizer.zero_grad()
            objective, sums = self._backward(batches)
            if not first:
                first.append((sums, self.observer.before(number)))
            return objective

        self.stepper.step(evaluate)
        sums, observed = first[0]
        observed = {**observed, **self.observer.after()}
        if self.stepper.grad_norm is not None:
            observed["grad_norm"] = self.stepper.grad_norm
        return sums, observed

    def _backward(self, batches: StepBatches) -> tuple[Tensor, Values]:
        """Compute the gradient of all batches of a step, as if they were one, and its objective."""
        if len(batches) == 1:
            return self._gradient(*batches[0])
        sizes = [samples_in(targets) for _, targets in batches]
        objectives: list[Tensor] = []
        sums: dict[str, list[Tensor]] = {}
        for (inputs, targets), size in zip(batches, sizes, strict=True):
            weight = 1.0 if self.trial.task.is_sum else size / sum(sizes)
            objective, found = self._gradient(inputs, targets, weight)
            objectives.append(objective.detach())
            for name, value in found.items():
                sums.setdefault(name, []).append(value)
        totals = {name: torch.stack(values).sum() for name, values in sums.items()}
        return torch.stack(objectives).sum(), totals

    def _gradient(self, inputs: Tree, targets: Tree, weight: float = 1.0) -> tuple[Tensor, Values]:
        """Add a batch's gradient times its weight to that of the weights; return its objective."""
        outcome = self._apply(inputs, targets)
        objective = outcome.objective if weight == 1 else outcome.objective * weight
        objective.backward(create_graph=self.stepper.create_graph)  # type: ignore[no-untyped-call]
        return objective, outcome.sums

    def _apply(self, inputs: Tree, targets: Tree) -> Loss:
        """Apply the task to a batch that is trained on."""
        return self.forward(self.parts.model, inputs, targets)

    def measure(self, model: nn.Module, batch: tuple[Tree, Tree]) -> Values:
        return self.forward(model, *batch).sums

    def forward(self, model: nn.Module, inputs: Tree, targets: Tree) -> Loss:
        """Apply the task to a batch, in the precision of the trial."""
        if self.trial.precision != "bf16":
            return self.parts.task(model, inputs, targets)
        with torch.autocast(self.parts.device.type, dtype=torch.bfloat16):
            return self.parts.task(model, inputs, targets)


def has_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies numbers in bf16 itself, and faster than in float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if platform.machine() in ("x86_64", "AMD64"):
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


PROGRAMS = {
    "eager": "deltagclip_cli.training.program:Eager",
    "compiled": "deltagclip_cli.training.compiled:Compiled",
    "captured": "deltagclip_cli.training.captured:Captured",
}

LEAST_STEPS = 1_000
"""Of a training on a GPU that is worth waiting for a compiler, which takes up to some minutes."""

MOST_CAPTURED = 32_000_000
"""Parameters of a network whose steps are captured: launching its kernels takes longer than they
do. Larger ones keep a GPU busy, and a graph would only hold memory."""

PAYS_ON_CPU = {"kan": 5_000}
"""Networks that train faster compiled on a CPU, and from how many steps on that makes up for the
wait. benchmarks/programs.py measures them: of the others, the time goes into products that a
library makes."""


def chosen_program(trial: Trial, parts: Parts, before: str | None) -> ProgramMaker:
    """Return the program of a trial: the one that it was begun with, or what its spec wants.

    What ``compile: auto`` chooses follows from the trial and the kind of device alone, never from
    a measurement, so that all trials of a sweep run alike.
    """
    made: ProgramMaker = load_target(
        PROGRAMS.get(before or wanted_program(trial, parts), PROGRAMS["eager"])
    )
    return made


def wanted_program(trial: Trial, parts: Parts) -> str:
    """Return the name of the program that the spec of a trial wants."""
    steps = trial.course(len(parts.steps)).steps
    on_gpu = parts.device.type == "cuda"
    least = LEAST_STEPS if on_gpu else PAYS_ON_CPU.get(trial.model.name)
    pays = least is not None and steps >= least
    if trial.compile == "off" or (trial.compile == "auto" and not pays):
        return "eager"
    size = sum(each.numel() for each in parts.model.parameters())
    # Code of one's own may do in Python, at each step, what no graph repeats.
    return "captured" if on_gpu and size <= MOST_CAPTURED and trial.code is None else "compiled"
