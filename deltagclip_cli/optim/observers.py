"""What can be told of an optimizer's steps: the gradient's norm, the step size and the regimes."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from deltagclip_cli.optim.delta_gclip import DeltaGClip
from deltagclip_cli.optim.update import gather_norms, tensor_norms


class Observer(Protocol):
    """Reads an optimizer after each of its steps, without waiting for the device."""

    def observe(self) -> dict[str, Tensor]:
        """Of the step just made: ``grad_norm`` and, where there is one, ``step_size``; 0-dim."""

    def regimes(self) -> Tensor | None:
        """How many steps so far were plain, clipped and floored (int64, shape (3,)), or None."""


class NormObserver:
    """Any optimizer: the norm of its gradient is all that can be told."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def observe(self) -> dict[str, Tensor]:
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norms = gather_norms(tensor_norms(gradients, differentiable=False))
        return {"grad_norm": torch.linalg.vector_norm(norms)}

    def regimes(self) -> Tensor | None:
        return None


class PlainObserver(NormObserver):
    """Gradient descent without momentum: every step is plain, with h = η."""

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer)
        self._groups = optimizer.param_groups
        self._steps = 0

    def observe(self) -> dict[str, Tensor]:
        self._steps += 1
        return {**super().observe(), "step_size": torch.as_tensor(self._groups[0]["lr"])}

    def regimes(self) -> Tensor | None:
        return torch.tensor([self._steps, 0, 0])


class ClippingObserver:
    """δ-GClip and GClip, which know all of it themselves."""

    def __init__(self, optimizer: DeltaGClip) -> None:
        self._optimizer = optimizer

    def observe(self) -> dict[str, Tensor]:
        norm, step_size = self._optimizer.grad_norm, self._optimizer.step_size
        if norm is None or step_size is None:
            return {}
        return {"grad_norm": norm.mean(), "step_size": step_size.mean()}

    def regimes(self) -> Tensor | None:
        counts = self._optimizer.regime_counts
        return None if counts is None else counts.clone()


def observer(optimizer: Optimizer) -> Observer:
    """The observer that tells most of ``optimizer``."""
    if isinstance(optimizer, DeltaGClip):
        return ClippingObserver(optimizer)
    if isinstance(optimizer, SGD) and all(
        not group["momentum"] for group in optimizer.param_groups
    ):
        return PlainObserver(optimizer)
    return NormObserver(optimizer)
