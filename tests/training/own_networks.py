"""Networks of somebody's own that a compiler cannot take whole."""

from __future__ import annotations

from torch import Tensor, nn


class Branching(nn.Module):
    """Does one thing or the other, as the values of a tensor are."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(64, 8), nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.inner(images.flatten(1))
        if hidden.sum().item() > 0:
            hidden = hidden.relu()
        logits: Tensor = self.outer(hidden)
        return logits


class Counting(nn.Module):
    """Counts how often it was applied, and computes with that."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.outer, self.applied = nn.Linear(64, classes), 0

    def forward(self, images: Tensor) -> Tensor:
        self.applied += 1
        logits: Tensor = self.outer(images.flatten(1)) / self.applied
        return logits
