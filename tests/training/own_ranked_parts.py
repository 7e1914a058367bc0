"""A network and data of somebody's own, which draw random numbers in many ways."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class Drawing(nn.Module):
    """Measures batches, drops out, adds noise, and has a layer that nothing uses."""

    def __init__(self, classes: int, unused: bool = True) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.dropped = nn.Dropout2d(0.2)
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)
        self.last = nn.Linear(8, classes)
        if unused:
            self.unused = nn.Linear(3, 3)

    def forward(self, images: Tensor) -> Tensor:
        words = self.dropped(torch.relu(self.norm(self.convolution(images)))).flatten(2).mT[:, ::8]
        words = words + self.attention(words, words, words, need_weights=False)[0]
        for block in self.blocks:
            words = functional.dropout(torch.relu(block(words)), 0.1, self.training)
        words = functional.alpha_dropout(words, 0.1, self.training)
        words = functional.feature_alpha_dropout(words, 0.1, self.training)
        if self.training:
            words = words + 0.01 * torch.randn_like(words)
        scores: Tensor = self.last(words.mean(1))
        return scores


class Looking(nn.Module):
    """Looks at all samples of a batch, has noise on its weights, or a layer that it leaves out.

    As ``kind`` says.
    """

    def __init__(self, classes: int, kind: str) -> None:
        super().__init__()
        self.body, self.last, self.kind = nn.Linear(64, 16), nn.Linear(16, classes), kind
        self.register_buffer("centre", torch.zeros(16))
        if kind == "layer":
            self.more = nn.Linear(16, 16)
        nn.init.zeros_(self.last.weight)  # so that nothing of the body is seen at first

    def forward(self, images: Tensor) -> Tensor:
        weight = self.body.weight
        if self.kind == "noise" and self.training:
            weight = weight + 0.1 * torch.randn_like(weight)
        inner = functional.dropout(functional.linear(images.flatten(1), weight), 0.1, self.training)
        if self.kind == "layer" and (not self.training or torch.rand(()) < 0.8):
            inner = self.more(inner)
        if self.kind == "buffer" and self.training:
            self.centre.lerp_(inner.detach().mean(0), 0.1)
        if self.kind == "network":
            inner = inner - inner.mean(0)
        scores: Tensor = self.last(inner)
        return scores


def weighed(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """A mean by the weights of the classes that a batch has."""
    weights = torch.tensor([1.0, 4.0, 9.0, 16.0])
    return functional.cross_entropy(model(inputs), targets, weight=weights)


class Points:
    """Points on a line, fetched one by one; noise is drawn where there is to be some."""

    def __init__(self, samples: int, noise: float) -> None:
        self.samples, self.noise = samples, noise

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        point = torch.tensor([place % 4, place % 3, 1.0, place / self.samples])
        if self.noise:
            drawn = torch.randn(4) + random.random() + torch.from_numpy(np.random.rand(4)).float()
            point = point + self.noise * drawn
        return point, place % 4


def points(noise: float = 0.0) -> dict[str, Any]:
    return {"train": Points(97, noise), "test": Points(50, 0.0), "classes": 4}
