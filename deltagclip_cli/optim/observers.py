"""What can be told of an optimizer's steps: the gradient's norm, the step size and the regimes."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from deltagclip_cli.optim.delta_gclip import DeltaGClip
from deltagclip_cli.optim.update import gather_norms, tensor_norms

# A norm is one more pass over all gradients. For optimizers that do not make it themselves, every
# tenth step tells the same story at a tenth of the price.
NORM_EVERY = 10

_EXACT = torch.float64  # a Python float, unrounded


class Observer(Protocol):
    """Reads an optimizer after each of its steps, without waiting for the device."""

    def observe(self, batch: int) -> dict[str, Tensor]:
        """Of the step just made, on the epoch's batch number ``batch`` from 0: what is known.

        ``grad_norm`` and, where there is one, ``step_size``; 0-dim.
        """

    def regimes(self) -> Tensor | None:
        """How many steps so far were plain, clipped and floored (int64, shape (3,)), or None."""


class NormObserver:
    """Any optimizer: the norm of its gradient is all that can be told."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def observe(self, batch: int) -> dict[str, Tensor]:
        if batch % NORM_EVERY:
            return {}
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

    def observe(self, batch: int) -> dict[str, Tensor]:
        self._steps += 1
        rate = self._groups[0]["lr"]
        # In a new tensor each time, for a schedule changes a rate that is a tensor in place.
        copied = rate.clone() if isinstance(rate, Tensor) else torch.tensor(rate, dtype=_EXACT)
        return {**super().observe(batch), "step_size": copied}

    def regimes(self) -> Tensor | None:
        return torch.tensor([self._steps, 0, 0])


class ClippingObserver:
    """δ-GClip and GClip, which know all of it themselves."""

    def __init__(self, optimizer: DeltaGClip) -> None:
        self._optimizer = optimizer

    def observe(self, batch: int) -> dict[str, Tensor]:
        norm, step_size = self._optimizer.grad_norm, self._optimizer.step_size
        if norm is None or step_size is None:
            return {}
        return {"grad_norm": _mean(norm), "step_size": _mean(step_size)}

    def regimes(self) -> Tensor | None:
        counts = self._optimizer.regime_counts
        return None if counts is None else counts.clone()


def _mean(values: Tensor) -> Tensor:
    return values.mean() if values.numel() > 1 else values.reshape(())


def observer(optimizer: Optimizer) -> Observer:
    """The observer that tells most of ``optimizer``."""
    if isinstance(optimizer, DeltaGClip):
        return ClippingObserver(optimizer)
    if isinstance(optimizer, SGD) and all(
        not group["momentum"] for group in optimizer.param_groups
    ):
        return PlainObserver(optimizer)
    return NormObserver(optimizer)
