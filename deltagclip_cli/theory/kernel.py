"""The tangent kernel K = J Jᵀ, J the derivatives of all outputs by all weights, and its extremes.

J has n·C rows, one for each output of each point, and a column for each weight. It is never made as
a whole: blocks of K come from chunks of the points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap

from deltagclip_cli.theory.lanczos import Estimate, extreme_eigenvalues
from deltagclip_cli.theory.network import Network, Weights

MOST_EXACT = 4096
"""Outputs n·C up to which all eigenvalues are computed: 134 MB, and seconds to a minute."""

CHUNK_BYTES = 2**30
"""What the derivatives of one chunk of points may take; two of them are there at a time.

The fewer chunks, the less is computed twice: n/2k times, for k points in a chunk."""


def extremes(network: Network, weights: Weights, inputs: Tensor) -> tuple[Estimate, Estimate]:
    """The least and the largest eigenvalue of the tangent kernel.

    Up to :data:`MOST_EXACT` outputs all are computed, with an error by rounding alone; above that,
    Lanczos' method looks for these two.

    Args:
        network: the function.
        weights: where it is differentiated, float64.
        inputs: all points, (n, ...), float64.
    """
    outputs = _outputs(network, weights, inputs)
    if outputs > MOST_EXACT:
        generator = torch.Generator().manual_seed(0)
        start = torch.randn(outputs, dtype=torch.float64, generator=generator).to(inputs.device)
        return extreme_eigenvalues(_product(network, weights, inputs), start)
    kernel = tangent_kernel(network, weights, inputs)
    if not bool(kernel.isfinite().all()):
        return Estimate(float("nan"), 0.0), Estimate(float("nan"), 0.0)
    values = torch.linalg.eigvalsh(kernel)
    rounding = torch.finfo(torch.float64).eps * outputs * float(values[-1])
    return Estimate(float(values[0]), rounding), Estimate(float(values[-1]), rounding)


def tangent_kernel(
    network: Network, weights: Weights, inputs: Tensor, chunk_bytes: int = CHUNK_BYTES
) -> Tensor:
    """K, (n·C, n·C), the outputs of a point beside one another.

    Args:
        network: the function.
        weights: where it is differentiated, float64.
        inputs: all points, (n, ...), float64.
        chunk_bytes: what the derivatives of one chunk may take; no less than those of one point.
    """
    if _is_linear_maps(network, inputs):
        return _from_chunks(partial(_Factors.of, network, weights), inputs, chunk_bytes)
    return _from_chunks(partial(_Jacobian.of, network, weights), inputs, chunk_bytes)


class _Derivatives(Protocol):
    """The rows of J that belong to some points."""

    @property
    def nbytes(self) -> int: ...

    def products(self, other: Self) -> Tensor:
        """Of each row with each row of the other."""


D = TypeVar("D", bound=_Derivatives)


def _from_chunks(derive: Callable[[Tensor], D], inputs: Tensor, chunk_bytes: int) -> Tensor:
    """K, of which a chunk of points gives some rows, and each chunk before it some columns."""
    first = derive(inputs[:1])
    outputs = len(first.products(first))
    points = max(1, chunk_bytes // first.nbytes)
    chunks = [slice(start, start + points) for start in range(0, len(inputs), points)]
    kernel = inputs.new_empty(len(inputs) * outputs, len(inputs) * outputs)
    blocks = kernel.view(len(inputs), outputs, len(inputs), outputs)
    for number, across in enumerate(chunks):
        rows = derive(inputs[across])
        for down in chunks[: number + 1]:
            columns = rows if down == across else derive(inputs[down])
            block = rows.products(columns).view_as(blocks[across, :, down])
            blocks[across, :, down] = block
            blocks[down, :, across] = block.permute(2, 3, 0, 1)
    return kernel


@dataclass(frozen=True)
class _Jacobian:
    """The rows as they are, (B·C, P): for any network."""

    rows: tuple[Tensor, ...]  # for each tensor of weights, (B·C, its size)

    @classmethod
    def of(cls, network: Network, weights: Weights, inputs: Tensor) -> _Jacobian:
        def output(weights: Weights, point: Tensor) -> Tensor:
            return network.outputs(weights, point[None])[0]

        fixed = {name: each.detach() for name, each in weights.items()}
        derivatives = vmap(jacrev(output), in_dims=(None, 0))(fixed, inputs)
        return cls(tuple(each.flatten(0, 1).flatten(1) for each in derivatives.values()))

    @property
    def nbytes(self) -> int:
        return sum(each.nbytes for each in self.rows)

    def products(self, other: _Jacobian) -> Tensor:
        first, *others = zip(self.rows, other.rows, strict=True)
        total = first[0] @ first[1].T
        for mine, theirs in others:
            total.addmm_(mine, theirs.T)
        return total


@dataclass(frozen=True)
class _Layer:
    """A linear map z = W a + b: its inputs a (B, d), and the derivatives of outputs by z (B·C, w).

    The derivative of an output by W is their outer product, and the product of two of those is
    (a · a')(∂z · ∂z'), so that nothing as large as W is made.
    """

    inputs: Tensor
    derivatives: Tensor
    has_bias: bool

    def products(self, other: _Layer) -> Tensor:
        inner = self.inputs @ other.inputs.T + self.has_bias
        outer = self.derivatives @ other.derivatives.T
        height, width = inner.shape
        parts = outer.view(height, outer.shape[0] // height, width, outer.shape[1] // width)
        return parts.mul_(inner[:, None, :, None]).view_as(outer)


@dataclass(frozen=True)
class _Factors:
    """The rows in factors: for networks whose weights are those of linear maps alone."""

    layers: tuple[_Layer, ...]

    @classmethod
    def of(cls, network: Network, weights: Weights, inputs: Tensor) -> _Factors:
        with _calls(network.model) as calls:
            outputs = network.outputs(weights, inputs)
        made = [call.made for call in calls]
        columns = [
            torch.autograd.grad(column.sum(), made, retain_graph=True) for column in outputs.T
        ]
        derivatives = [torch.stack(each, 1).flatten(0, 1) for each in zip(*columns, strict=True)]
        layers = zip(calls, derivatives, strict=True)
        return cls(tuple(_Layer(c.given.detach(), d, c.module.bias is not None) for c, d in layers))

    @property
    def nbytes(self) -> int:
        return sum(each.inputs.nbytes + 2 * each.derivatives.nbytes for each in self.layers)

    def products(self, other: _Factors) -> Tensor:
        pairs = zip(self.layers, other.layers, strict=True)
        total, *others = (one.products(another) for one, another in pairs)
        for each in others:
            total += each
        return total


class _Call(NamedTuple):
    """A linear map, what it was given and what it made of it."""

    module: nn.Linear
    given: Tensor
    made: Tensor


@contextmanager
def _calls(model: nn.Module) -> Iterator[list[_Call]]:
    """The calls of the linear maps of a model, in their order, while the context lasts."""
    calls: list[_Call] = []

    def note(module: nn.Module, given: tuple[Tensor], made: Tensor) -> None:
        assert isinstance(module, nn.Linear)
        calls.append(_Call(module, *given, made))

    maps = (each for each in model.modules() if isinstance(each, nn.Linear))
    hooks = [each.register_forward_hook(note) for each in maps]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _is_linear_maps(network: Network, inputs: Tensor) -> bool:
    """Whether all weights are those of linear maps, each trained and applied once to vectors."""
    maps = [each for each in network.model.modules() if isinstance(each, nn.Linear)]
    theirs = [parameter for each in maps for parameter in each.parameters()]
    everything = list(network.model.parameters())
    if len(theirs) != len(everything) or not all(each.requires_grad for each in theirs):
        return False
    with _calls(network.model) as calls:
        network.outputs({}, inputs[:1])
    is_once = sorted(id(call.module) for call in calls) == sorted(map(id, maps))
    return is_once and all(call.given.dim() == 2 for call in calls)


@torch.no_grad()
def _outputs(network: Network, weights: Weights, inputs: Tensor) -> int:
    """How many outputs there are for all inputs."""
    return network.outputs(weights, inputs[:1]).numel() * len(inputs)


def _product(network: Network, weights: Weights, inputs: Tensor) -> Callable[[Tensor], Tensor]:
    """Products K u = J (Jᵀ u): Jᵀ u is linear in u, and the derivative of that gives J."""
    tensors = list(weights.values())
    outputs = network.outputs(weights, inputs).flatten()
    anywhere = torch.zeros_like(outputs, requires_grad=True)
    pulled = torch.autograd.grad(outputs, tensors, anywhere, create_graph=True)

    def product(vector: Tensor) -> Tensor:
        directions = torch.autograd.grad(outputs, tensors, vector, retain_graph=True)
        (image,) = torch.autograd.grad(pulled, anywhere, directions, retain_graph=True)
        return image

    return product
