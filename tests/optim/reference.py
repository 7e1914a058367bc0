"""δ-GClip as the paper writes it, in Python floats: slow, and short enough to check by eye."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Twin:
    """One parameter group's weights in float64, and its hyper-parameters."""

    weights: list[Tensor]
    lr: float
    gamma: float
    delta: float
    weight_decay: float = 0.0
    maximize: bool = False
    step_sizes: list[float] = field(default_factory=list)
    regimes: list[str] = field(default_factory=list)

    def block(self, indices: list[int], grads: list[Tensor | None], norm: float) -> None:
        """Update the tensors of one block, whose norm is ``norm``."""
        h = self.lr * min(1.0, max(self.delta, self.gamma / norm if norm > 0 else math.inf))
        for i in indices:
            w, g = self.weights[i], grads[i]
            if g is not None:
                g = -g if self.maximize else g
                self.weights[i] = w - h * (g + self.weight_decay * w)
        self.step_sizes.append(h)
        self.regimes.append(regime(norm, self.gamma, self.delta))


def regime(norm: float, gamma: float, delta: float) -> str:
    if norm <= gamma or delta >= 1:
        return "plain"
    return "floored" if gamma / norm <= delta else "clipped"


def norm_of(tensors: list[Tensor | None]) -> float:
    return math.sqrt(
        math.fsum(x * x for t in tensors if t is not None for x in t.flatten().tolist())
    )


def step(groups: list[Twin], grads: list[list[Tensor | None]], norm_scope: str) -> list[float]:
    """One step of all groups; returns the norms, one for each that was taken."""
    used = [(group, g) for group, g in zip(groups, grads, strict=True) if any_gradient(g)]
    if norm_scope == "global":
        norm = norm_of([g for _, group_grads in used for g in group_grads])
        for group, g in used:
            group.block(list(range(len(g))), g, norm)
        return [norm]
    norms = []
    for group, g in used:
        present = [i for i in range(len(g)) if g[i] is not None]
        for indices in [present] if norm_scope == "group" else [[i] for i in present]:
            norms.append(norm_of([g[i] for i in indices]))
            group.block(indices, g, norms[-1])
    return norms


def any_gradient(grads: list[Tensor | None]) -> bool:
    return any(g is not None for g in grads)


def as_float64(tensors: list[Tensor | None]) -> list[Tensor | None]:
    return [None if t is None else t.detach().to(torch.float64).clone() for t in tensors]
