"""Classification."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts.tasks import Loss


class Classify:
    """Choose one class for each input.

    The loss of a sample is the cross-entropy, or ``½ Σ_k (F_k - onehot_k)²``, the squared loss for
    which the convergence theorem is stated (with ``reduction="sum"``).

    Source: arXiv 2404.08624; ``L(w) = ½‖F(w) - y‖²`` with one-hot ``y``.
    """

    def __init__(
        self,
        *,
        loss: Literal["cross_entropy", "squared"] = "cross_entropy",
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        self._loss = functional.cross_entropy if loss == "cross_entropy" else _squared
        self._reduction = reduction

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Loss:
        """Apply the model to inputs ``(B, ...)`` and compare its logits with classes ``(B,)``."""
        outputs = model(inputs)
        if not isinstance(outputs, Tensor):
            raise UsageError(
                f"task classify needs a model that returns logits (B, classes), got a "
                f"{type(outputs).__name__} from {type(model).__name__}.\n"
                "  Choose another model, or the task autoencode for a variational autoencoder."
            )
        # Half precision would lose digits of the loss.
        logits = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        objective = self._loss(logits, targets, reduction=self._reduction)
        samples = len(targets) if self._reduction == "mean" else 1
        correct = (logits.detach().argmax(dim=1) == targets).sum()
        return Loss(objective, {"loss": objective.detach() * samples, "accuracy": correct})


def _squared(outputs: Tensor, targets: Tensor, *, reduction: str) -> Tensor:
    wanted = functional.one_hot(targets, outputs.shape[1])
    total = 0.5 * (outputs - wanted).square().sum()
    return total / len(targets) if reduction == "mean" else total
