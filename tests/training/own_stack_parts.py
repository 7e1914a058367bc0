"""Parts of somebody's own, as a stack can train and cannot train them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Net(nn.Module):
    """A layer behind which something else happens."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(math.prod(shape), classes)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(inputs.flatten(1))
        return self.behind(outputs)

    def behind(self, outputs: Tensor) -> Tensor:
        return outputs


class Branching(Net):
    def behind(self, outputs: Tensor) -> Tensor:
        if outputs.sum() > 0:
            outputs = outputs * 2
        return outputs


class Noisy(Net):
    def behind(self, outputs: Tensor) -> Tensor:
        return outputs + torch.normal(0.0, 0.1, outputs.shape) if self.training else outputs


class Normed(Net):
    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__(shape, classes)
        self.norm = nn.BatchNorm1d(classes)


class Convolved(Net):
    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__(shape, classes)
        self.first, self.second = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)


class Drawing(Net):
    """Draws what a stack knows of, and counts its calls in a buffer."""

    calls: Tensor

    def behind(self, outputs: Tensor) -> Tensor:
        if not self.training:
            return outputs / self.calls.clamp(min=1)
        self.calls.add_(1)
        kept = torch.empty_like(outputs).bernoulli_(0.9)
        noise = 0.1 * torch.rand_like(outputs) + 0.1 * torch.randn_like(outputs)
        return nn.functional.dropout(outputs * kept + noise, 0.1)


class Replacing(Optimizer):
    """Gradient descent that puts other tensors in the place of the weights, as some SAMs do."""

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> None:  # type: ignore[override]
        before = {}
        for group in self.param_groups:
            for weight in group["params"]:
                before[weight] = weight.data.clone()
                weight.add_(weight.grad, alpha=0.01)
        with torch.enable_grad():
            closure()
        for group in self.param_groups:
            for weight in group["params"]:
                weight.data = before[weight] - group["lr"] * weight.grad


class SecondOrder(Replacing):
    is_second_order = True
