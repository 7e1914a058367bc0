"""The wide networks of the theorem, in the NTK parametrisation."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": functional.relu,
    "gelu": functional.gelu,
    "softplus": functional.softplus,
}


def wide_mlp(
    shape: tuple[int, ...],
    classes: int,
    *,
    width: int = 2048,
    depth: int = 2,
    activation: Literal["tanh", "relu", "gelu", "softplus"] = "tanh",
) -> nn.Module:
    """Wide network in the NTK parametrisation, for which the convergence theorem is stated.

    Every layer is ``α ↦ σ(W α / √width_in)``, the last one linear; all entries of W are drawn from
    N(0, 1), and there are no biases. A width of 2048 is wide enough for μ-PL* on 64 points; the
    theorem wants a smooth σ, which relu is not.

    Source: arXiv 2404.08624, the networks of its convergence theorem.
    """
    return WideMLP((math.prod(shape), *[width] * depth, classes), _ACTIVATIONS[activation])


class WideMLP(nn.Module):
    """Layers ``σ(W α / √width_in)``; see :func:`wide_mlp`."""

    def __init__(self, widths: tuple[int, ...], activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activation = activation
        self.layers = nn.ModuleList(
            _Layer(fan_in, fan_out, bias=False) for fan_in, fan_out in pairwise(widths)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs ``(N, *shape)`` to outputs ``(N, classes)``."""
        *hidden, last = self.layers
        features = inputs.flatten(1)
        for layer in hidden:
            features = self.activation(layer(features / math.sqrt(features.shape[1])))
        outputs: Tensor = last(features / math.sqrt(features.shape[1]))
        return outputs


class _Layer(nn.Linear):
    """A linear map whose weights are all drawn from N(0, 1)."""

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)
