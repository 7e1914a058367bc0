"""Parts that use an operation without a deterministic kernel, on a CPU too."""

from __future__ import annotations

import math
import random
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def half(numbers: Tensor) -> Tensor:
    """Halve the first number by ``put_``, which has no deterministic kernel anywhere."""
    return numbers.put_(torch.tensor([0]), numbers.flatten()[:1] / 2)


class Putting(nn.Module):
    """A linear layer behind a norm, with a mask that is put together in some modes."""

    def __init__(self, features: int, classes: int, modes: tuple[bool, ...]) -> None:
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(features), nn.Linear(features, classes)
        self.modes, self.calls = modes, 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += self.training
        inputs: Tensor = self.norm(images.flatten(1))
        if self.training in self.modes:
            inputs = inputs * half(torch.ones_like(inputs))
        return self.linear(inputs)  # type: ignore[no-any-return]


def putting(shape: tuple[int, ...], classes: int) -> nn.Module:
    return Putting(math.prod(shape), classes, (True, False))


def putting_in_evaluation(shape: tuple[int, ...], classes: int) -> nn.Module:
    return Putting(math.prod(shape), classes, (False,))


def unpooling(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Another operation besides, ``max_unpool2d``."""

    class Unpooled(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            pooled, places = nn.functional.max_pool2d(images, 2, return_indices=True)
            return nn.functional.max_unpool2d(pooled, places, 2)

    return nn.Sequential(Unpooled(), putting(shape, classes))


def pooled(shape: tuple[int, ...], classes: int) -> nn.Module:
    """The gradient of such pooling has no deterministic kernel on a GPU."""
    pooling = nn.AdaptiveAvgPool2d(3)
    return nn.Sequential(pooling, nn.Flatten(), nn.Linear(9 * shape[0], classes))


class Moody(nn.Module):
    """Draws from all streams, warns, counts, and refuses few samples, but only in training."""

    def __init__(self, features: int, classes: int, least: int) -> None:
        super().__init__()
        self.putting = Putting(features, classes, ())
        self.least = least

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            warnings.warn("a mood", stacklevel=1)
            if len(images) < self.least:
                raise ValueError("too few samples")
            images = images * (random.random() + np.random.rand() + torch.rand(1))
        return self.putting(images)  # type: ignore[no-any-return]


def moody(shape: tuple[int, ...], classes: int, *, least: int = 1) -> nn.Module:
    return Moody(math.prod(shape), classes, least)


class LateSGD(torch.optim.SGD):
    """Uses the operation from its sixth step on."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step()
        weight = self.param_groups[0]["params"][0]
        state = self.state[weight]
        state["steps"] = state.get("steps", 0) + 1
        if state["steps"] >= 6:
            half(weight.data)
