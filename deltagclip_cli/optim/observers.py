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
    """Reads an optimizer around each of its steps, without waiting for the device."""

    def before(self, batch: int) -> dict[str, Tensor]:
        """What the gradients tell, before the step that uses, and perhaps overwrites, them.

        Args:
            batch: the number of the step in its epoch, from 0.

        Returns:
            ``grad_norm``, or nothing; 0-dim.
        """

    def after(self) -> dict[str, Tensor]:
        """What the step just made tells: ``step_size`` and ``grad_norm``, or less; 0-dim."""

    def regimes(self) -> Tensor | None:
        """How many steps so far were plain, clipped and floored (int64, shape (3,)), or None."""


class NormObserver:
    """Any optimizer: the norm of its gradient is all that can be told."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def before(self, batch: int) -> dict[str, Tensor]:
        if batch % NORM_EVERY:
            return {}
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norms = gather_norms(tensor_norms(gradients, differentiable=False))
        return {"grad_norm": torch.linalg.vector_norm(norms)}

    def after(self) -> dict[str, Tensor]:
        return {}

    def regimes(self) -> Tensor | None:
        return None


class PlainObserver(NormObserver):
    """Gradient descent without momentum: every step is plain, with h = η."""

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer)
        self._groups = optimizer.param_groups
        self._steps = 0

    def after(self) -> dict[str, Tensor]:
        self._steps += 1
        rate = self._groups[0]["lr"]
        # In a new tensor each time, for a schedule changes a rate that is a tensor in place.
        copied = rate.clone() if isinstance(rate, Tensor) else torch.tensor(rate, dtype=_EXACT)
        return {"step_size": copied}

    def regimes(self) -> Tensor | None:
        return torch.tensor([self._steps, 0, 0])


class ClippingObserver:
    """δ-GClip and GClip, which know all of it themselves.

    Where several blocks of tensors have a step of their own, the norm is that of all together, the
    step size is the mean of theirs, and the regimes count a step for each of them.
    """

    def __init__(self, optimizer: DeltaGClip) -> None:
        self._optimizer = optimizer

    def before(self, batch: int) -> dict[str, Tensor]:
        return {}

    def after(self) -> dict[str, Tensor]:
        norm, step_size = self._optimizer.grad_norm, self._optimizer.step_size
        if norm is None or step_size is None:
            return {}
        whole = torch.linalg.vector_norm(norm) if norm.numel() > 1 else norm.reshape(())
        return {"grad_norm": whole, "step_size": _mean(step_size)}

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
