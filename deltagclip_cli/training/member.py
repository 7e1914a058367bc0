"""A member of a stack: its place, its streams of random numbers, and how it makes a step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts.nested import Tree, leaves
from deltagclip_cli.parts.tasks import Loss
from deltagclip_cli.training.loaded import load_placed
from deltagclip_cli.training.own_streams import OwnStreams
from deltagclip_cli.training.program import Eager, StepBatches, Values, wanted_program
from deltagclip_cli.training.stacked_weights import Applied, check_stackable

if TYPE_CHECKING:
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.training.assembly import Parts
    from deltagclip_cli.training.loaded import Loaded
    from deltagclip_cli.training.meter import Observer
    from deltagclip_cli.training.stack import Stack
    from deltagclip_cli.training.stacked_graphs import OwnSteps
    from deltagclip_cli.training.stepping import Stepper


@dataclass
class Wanted:
    """A gradient or an evaluation that a member waits for."""

    role: int  # of its models: the first, or that of averaged weights
    applied: Applied
    inputs: Tree
    targets: Tree
    weight: float | None  # None for an evaluation
    autocast: torch.dtype | None
    asked_at: float = field(default_factory=time.monotonic)

    @property
    def kind(self) -> Any:
        """All that must agree for several to be computed together."""
        tensors = [(each.shape, each.dtype) for each in leaves((self.inputs, self.targets))]
        is_training = self.applied.model.training
        return (self.role, self.weight is None, is_training, self.autocast, *tensors)


class Member:
    """One trial of a stack, in its place."""

    def __init__(self, stack: Stack, place: int, layer: int, at_once: int) -> None:
        self.stack, self.place, self.layer = stack, place, layer
        self.at_once = at_once  # places that are computed at once; fewer where memory is short
        self.streams = OwnStreams(stack.device)
        self.step = 0  # how far its training is
        self.request: Wanted | None = None
        self.is_captured = False  # whether its steps are worth a CUDA graph
        self.record: Callable[[Mapping[str, Any]], None] = lambda told: None
        self._models: list[Applied] = []

    @property
    def conditions(self) -> dict[str, Any]:
        """All of the stack that the bits of this member hang on, beside its width."""
        places, at_once = self.stack.places, self.at_once
        return {"stack": {"place": self.place, "at_once": at_once, "places": places}}

    def begin(self, step: int, record: Callable[[Mapping[str, Any]], None]) -> None:
        """Begin behind so many steps; ``record`` keeps conditions that change."""
        self.step, self.record = step, record

    def load(self, trial: Trial, data_dir: Path, device: torch.device, *, download: bool) -> Loaded:
        """Return the data, which the first member loads for all if they can be shared."""
        if self.stack.loaded is not None:
            return self.stack.loaded
        loaded = load_placed(trial, data_dir, device, download=download)
        if loaded.can_be_shared:
            self.stack.loaded = loaded
        return loaded

    def make_program(
        self, trial: Trial, parts: Parts, stepper: Stepper, observer: Observer
    ) -> Stacked:
        """Make what carries out the steps of this member."""
        self.is_captured = wanted_program(trial, parts) == "captured"
        return Stacked(self, trial, parts, stepper, observer)

    def applied(self, task: Callable[..., Any], model: nn.Module) -> tuple[int, Applied]:
        """Return the role of one of its models, which the stack adopts when it first sees it."""
        for role, applied in enumerate(self._models):
            if applied.model is model:
                self.stack.keep(self, role, applied)
                return role, applied
        role = len(self._models)
        self.stack.adopt(self, role, model)
        self._models.append(Applied(task, model))
        return role, self._models[role]

    def ask(self, request: Wanted) -> Any:
        """Wait until the stack has computed what is asked for, and return it."""
        self.request = request
        # Modes are those of the thread: the others must not be in what this one is in.
        with torch.inference_mode(False), torch.enable_grad():
            answer = self.stack.main.switch()
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Stacked(Eager):
    """Steps whose gradients the stack computes; all else is done for one member, as ever."""

    name = "stacked"

    def __init__(
        self, member: Member, trial: Trial, parts: Parts, stepper: Stepper, observer: Observer
    ) -> None:
        super().__init__(trial, parts, stepper, observer)
        self._member = member
        check_stackable(parts.model)
        if stepper.create_graph:
            raise UsageError(
                f"stack: optimizer '{trial.optimizer.name}' differentiates gradients, of which a "
                "stack keeps no graph.\n  Leave stack out."
            )
        if hasattr(parts.model, "is_stacked"):
            parts.model.is_stacked = True  # type: ignore[assignment]
        member.applied(parts.task, parts.model)
        self._captured: OwnSteps | None = None
        if member.is_captured:
            from deltagclip_cli.training.stacked_graphs import OwnSteps  # with a compiler

            steps = OwnSteps(trial, parts, stepper, observer)
            self._captured = None if steps.obstacle else steps

    def step(self, batches: StepBatches, number: int) -> tuple[Values, Values]:
        if self._captured is None:
            told = super().step(batches, number)
        else:
            self.parts.optimizer.zero_grad()
            objective, sums = self._backward(batches)
            weights = enumerate(self.stepper.weights)
            gradients = {index: each.grad for index, each in weights if each.grad is not None}
            told = sums, self._captured.step([(gradients, objective)], number)[1]
        self._member.step += 1
        return told

    def _gradient(self, inputs: Tree, targets: Tree, weight: float = 1.0) -> tuple[Tensor, Values]:
        made: tuple[Tensor, Values] = self._ask(self.parts.model, inputs, targets, weight)
        return made

    def forward(self, model: nn.Module, inputs: Tree, targets: Tree) -> Loss:
        sums = self._ask(model, inputs, targets, None)
        return Loss(sums["loss"], sums)

    def _ask(self, model: nn.Module, inputs: Tree, targets: Tree, weight: float | None) -> Any:
        role, applied = self._member.applied(self.parts.task, model)
        padded = getattr(self.parts.train, "padded", None)
        if padded is not None:  # texts, of which hardly two batches are equally long
            inputs = padded(inputs)
        autocast = torch.bfloat16 if self.trial.precision == "bf16" else None
        return self._member.ask(Wanted(role, applied, inputs, targets, weight, autocast))


def detached(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Let a state have tensors of its own, for a file would hold the whole stack behind a view."""
    own: dict[tuple[int, torch.Size], Tensor] = {}
    for name, each in state.items():
        if isinstance(each, Tensor):
            key = (each.data_ptr(), each.shape)
            state[name] = own.setdefault(key, each.detach().clone())
