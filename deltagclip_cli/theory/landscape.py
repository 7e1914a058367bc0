"""What the theorem speaks of, measured at the weights that a model has now."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from deltagclip_cli.parts.tasks import Loss
from deltagclip_cli.theory.kernel import extremes
from deltagclip_cli.theory.lanczos import Estimate, largest_eigenvalue
from deltagclip_cli.theory.network import Network, Weights, flat
from deltagclip_cli.theory.smooth import has_smooth_operations_only


class Landscape:
    """The loss L(w) = ½‖F(w) - y‖² of all points, around the weights of a model.

    Everything is computed in float64, the same bits each time, and changes neither the model nor
    the state of a generator.

    Args:
        model: whose outputs are F.
        task: gives L as its objective.
        inputs: all points, (n, ...).
        targets: their classes, (n,).

    Raises:
        UsageError: F of one point depends on other points, or on chance.

    Source: arXiv 2404.08624; β is the smoothness of L, and K = J Jᵀ its tangent kernel.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Callable[[nn.Module, Tensor, Tensor], Loss],
        inputs: Tensor,
        targets: Tensor,
    ) -> None:
        self._network = Network(model)
        self._task = task
        self._inputs = inputs.double()
        self._targets = targets

    @property
    def points(self) -> int:
        """n."""
        return len(self._targets)

    def position(self) -> Tensor:
        """All weights as one vector (P,), a copy."""
        return flat(self._network.weights()).detach()

    def is_smooth(self) -> bool:
        """Whether F is made of operations that are known to be smooth, which ReLU is not."""
        outputs = self._network.outputs(self._network.weights(), self._inputs[:1])
        return has_smooth_operations_only(outputs)

    def kernel_extremes(self, position: Tensor | None = None) -> tuple[Estimate, Estimate]:
        """λ_min and λ_max of the tangent kernel of all n·C outputs.

        Args:
            position: all weights as one vector (P,); those of now if None.
        """
        return extremes(self._network, self._network.weights(position), self._inputs)

    def smoothness(self, position: Tensor | None = None) -> float:
        """β: the largest eigenvalue of the Hessian, to eight digits, and rather above than below.

        It is β of these weights alone; the theorem wants the largest along the whole way.

        Args:
            position: all weights as one vector (P,); those of now if None.
        """
        found = largest_eigenvalue(*self._hessian(self._network.weights(position)))
        return found.value + found.error

    def _hessian(self, weights: Weights) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """Products of the Hessian with vectors (P,), and a vector to start with."""
        tensors = list(weights.values())
        model = cast(nn.Module, partial(self._network.outputs, weights))
        loss = self._task(model, self._inputs, self._targets).objective
        gradient = torch.autograd.grad(loss, tensors, create_graph=True)
        sizes = [each.numel() for each in tensors]

        def product(vector: Tensor) -> Tensor:
            parts = torch.split(vector, sizes)
            directions = [part.view_as(each) for part, each in zip(parts, tensors, strict=True)]
            images: Any = torch.autograd.grad(gradient, tensors, directions, retain_graph=True)
            return torch.cat([each.reshape(-1) for each in images])

        generator = torch.Generator().manual_seed(0)
        start = torch.randn(sum(sizes), dtype=torch.float64, generator=generator)
        return product, start.to(self._inputs.device)
