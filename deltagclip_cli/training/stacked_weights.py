"""The networks of all members of a stack, as one: their tensors stacked, and one step of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts.nested import Tree, leaves, map_tree
from deltagclip_cli.training.memberwise import Memberwise, PlaceStreams

_ALIGNED = 16  # elements: what a member has begins where the fastest kernels want it to


class Applied(nn.Module):
    """A task with its model, which returns plain tensors as ``vmap`` wants them."""

    def __init__(self, task: Callable[..., Any], model: nn.Module) -> None:
        super().__init__()
        self.task, self.model = task, model
        self.weights = tuple(model.parameters())

    def forward(self, inputs: Tree, targets: Tree) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the objective of a batch and its sums."""
        outcome = self.task(self.model, inputs, targets)
        return outcome.objective, outcome.sums


@dataclass
class Occupied:
    """A place with the batch of the member there, and how much its objective weighs."""

    applied: Applied
    inputs: Tree
    targets: Tree
    weight: float
    generator: torch.Generator


Rows = Mapping[int, Occupied]
"""Rows by their places; all of them of the same shapes."""

Answers = dict[int, tuple[Tensor, dict[str, Tensor], Sequence[Tensor | None]]]
"""Objective, sums and gradients, in the order of parameters, by places."""


class Gathered(NamedTuple):
    """The batches of places that compute together, each tensor with a leading dimension of them."""

    applied: Applied
    inputs: Tree
    targets: Tree
    weights: Tensor | None  # of objectives, float64; None where all are 1
    streams: PlaceStreams


class Made(NamedTuple):
    """All that a step of places made, each tensor with a leading dimension of them."""

    objective: Tensor
    sums: dict[str, Tensor]
    gradients: Sequence[Tensor | None]  # of all parameters, in their order


class StackedWeights:
    """The parameters and buffers of all members, each with a leading dimension of places.

    The model of a member has views of its place for its own tensors, so that its optimizer, its
    checkpoints and all others who hold on to them see and change what is stacked.

    Args:
        model: of the first member; its values fill the places that nobody has.
        places: of the stack.
    """

    def __init__(self, model: nn.Module, places: int) -> None:
        self._parameters = {
            f"model.{name}": _stacked(each, places) for name, each in model.named_parameters()
        }
        self._buffers = {
            f"model.{name}": _stacked(each, places) for name, each in model.named_buffers()
        }
        self._inside: dict[str, Tensor] = {}  # parameters of those that compute
        self._numbers = torch.arange(places, device=next(model.parameters()).device)

    @torch.no_grad()
    def adopt(self, place: int, model: nn.Module) -> None:
        """Take over the values of a member's model, whose tensors become views of its place."""
        theirs: dict[str, Tensor] = dict(model.named_parameters())
        theirs |= dict(model.named_buffers())
        ours = {**self._parameters, **self._buffers}
        outlines = [
            {name: (each.shape[skip:], each.dtype) for name, each in tensors.items()}
            for skip, tensors in ((1, ours), (0, {f"model.{k}": v for k, v in theirs.items()}))
        ]
        if outlines[0] != outlines[1]:
            raise UsageError(
                f"{type(model).__name__} has other parameters than those of other members of the "
                "stack.\n  Let its shape hang on the settings alone, or leave stack out."
            )
        for name, own in theirs.items():
            view = ours[f"model.{name}"].detach()[place]
            view.copy_(own)
            own.data = view

    def has(self, place: int, weights: Sequence[nn.Parameter]) -> bool:
        """Return whether they are still those of the place; some optimizers put in others."""
        return all(
            own.data_ptr() == ours.data_ptr() + place * ours.stride(0) * ours.element_size()
            for own, ours in zip(weights, self._parameters.values(), strict=True)
            if own.numel()
        )

    def evaluate(self, rows: Rows, start: int, stop: int) -> dict[int, dict[str, Tensor]]:
        """Return the sums of each row within some places."""
        _, sums = self._forward(gathered(rows, start, stop), start, stop)
        return {place: _row(sums, place - start) for place in rows if start <= place < stop}

    def differentiate(self, rows: Rows, start: int, stop: int) -> Answers:
        """Return objective, sums and gradients of each row within some places."""
        return answers(self.compute(gathered(rows, start, stop), start, stop), rows, start, stop)

    def compute(self, batch: Gathered, start: int, stop: int) -> Made:
        """Carry out a step of some places, all of it on the device if weights are there."""
        objective, sums = self._forward(batch, start, stop)
        if batch.weights is not None:
            weights = batch.weights.to(objective.dtype)
            objective = objective * weights.to(objective.device, non_blocking=True)
        wanted = [each for each in self._inside.values() if each.requires_grad]
        found = iter(torch.autograd.grad(objective.sum(), wanted, allow_unused=True))
        gradients = [next(found) if p.requires_grad else None for p in self._inside.values()]
        self._inside = {}
        sums = {name: each.detach() for name, each in sums.items()}
        return Made(objective.detach(), sums, [g if g is None else _aligned(g) for g in gradients])

    def _forward(self, batch: Gathered, start: int, stop: int) -> tuple[Tensor, dict[str, Tensor]]:
        whole = (start, stop) == (0, len(self._numbers))
        self._inside = {
            name: each if whole else each[start:stop] for name, each in self._parameters.items()
        }
        buffers = {name: each[start:stop] for name, each in self._buffers.items()}

        def apply(
            tensors: dict[str, Tensor], inputs: Tree, targets: Tree, place: Tensor
        ) -> tuple[Tensor, dict[str, Tensor]]:
            with Memberwise(batch.streams, place):
                outcome: tuple[Tensor, dict[str, Tensor]] = functional_call(
                    batch.applied, tensors, (inputs, targets)
                )
            return outcome

        try:
            objective, sums = vmap(apply, randomness="error")(
                {**self._inside, **buffers},
                batch.inputs,
                batch.targets,
                self._numbers[start:stop],
            )
        except BaseException:
            batch.streams.rewind()
            raise
        return objective, sums

    @property
    def versions(self) -> list[int]:
        """The version of each buffer, which changes where applying a model writes to it."""
        return [each._version for each in self._buffers.values()]


def gathered(rows: Rows, start: int, stop: int) -> Gathered:
    """Stack the batches of places; those that nobody has are filled with another's."""
    there = [rows.get(place) for place in range(start, stop)]
    first = next(row for row in there if row is not None)
    filled = [first if row is None else row for row in there]
    inputs, targets = _stacked_trees([(row.inputs, row.targets) for row in filled])
    weights = [1.0 if row is None else row.weight for row in there]
    return Gathered(
        first.applied,
        inputs,
        targets,
        None if all(each == 1 for each in weights) else torch.tensor(weights, dtype=torch.float64),
        PlaceStreams([None if row is None else row.generator for row in there]),
    )


def answers(made: Made, rows: Rows, start: int, stop: int) -> Answers:
    """Return to each row what was made at its place."""
    columns = [[None] * (stop - start) if g is None else g.unbind() for g in made.gradients]
    return {
        place: (
            made.objective[place - start],
            _row(made.sums, place - start),
            [column[place - start] for column in columns],
        )
        for place in rows
        if start <= place < stop
    }


def check_stackable(model: nn.Module) -> None:
    """Refuse networks that a stack would not train as one member trains, or more slowly."""
    found = [each for each in model.modules() if isinstance(each, (_BatchNorm, _ConvNd))]
    norm = next((each for each in found if isinstance(each, _BatchNorm)), None)
    if norm is None and len(found) <= 1:
        return
    what = (
        f"has {len(found)} convolutions, which a stack makes slower than single trials"
        if norm is None
        else f"has a {type(norm).__name__}, whose statistics a stack does not keep"
    )
    raise UsageError(
        f"stack: {type(model).__name__} {what}.\n"
        "  Leave stack out; on a GPU, several trials can train side by side: --trials-per-gpu N."
    )


def _stacked(own: Tensor, places: int) -> Tensor:
    """Return a tensor in all places, of which each begins at a multiple of 64 bytes or so."""
    size = own.numel()
    memory = own.detach().new_empty(places, max(1, math.ceil(size / _ALIGNED)) * _ALIGNED)
    stacked = memory[:, :size].view(places, *own.shape)
    stacked.copy_(own.detach())
    return stacked.requires_grad_(own.requires_grad)


def _aligned(gradient: Tensor) -> Tensor:
    """Return a gradient whose rows lie where the norm of any place adds up the same bits."""
    if gradient[0].numel() % _ALIGNED or not gradient.is_contiguous():
        gradient = _stacked(gradient[0], len(gradient)).copy_(gradient)
    return gradient


def _row(sums: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    return {name: each[number] for name, each in sums.items()}


def _stacked_trees(trees: Sequence[Tree]) -> Any:
    columns: Iterable[tuple[Tensor, ...]] = zip(*map(leaves, trees), strict=True)
    stacked = iter([torch.stack(column) for column in columns])
    return map_tree(lambda leaf: next(stacked), trees[0])
