"""Classification."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts.tasks import Loss, logits_of


class Classify:
    """Choose one class for each input.

    The loss of a sample is the cross-entropy, or ``½ Σ_k (F_k - onehot_k)²``, the squared loss for
    which the convergence theorem is stated (with ``reduction="sum"``).

    Args:
        top_k: measures ``accuracy_topK`` as well: how often the class is among the K largest
            outputs.
        label_smoothing: the share of a target, from 0 to 1, that is spread evenly over all classes
            for what is minimised (torch's cross-entropy). The loss that is reported stays that of
            the classes themselves, so that runs with and without it can be compared.

    Source: arXiv 2404.08624; ``L(w) = ½‖F(w) - y‖²`` with one-hot ``y``.
    """

    def __init__(
        self,
        *,
        loss: Literal["cross_entropy", "squared"] = "cross_entropy",
        reduction: Literal["mean", "sum"] = "mean",
        top_k: int | None = None,
        label_smoothing: float | None = None,
    ) -> None:
        if label_smoothing and loss != "cross_entropy":
            raise UsageError(
                f"task classify: label_smoothing is for the cross-entropy, not for loss: {loss}.\n"
                "  Leave out one of the two."
            )
        self._loss = functional.cross_entropy if loss == "cross_entropy" else _squared
        self._reduction, self._top_k = reduction, top_k
        self._smoothing = label_smoothing

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Loss:
        """Apply the model to inputs ``(B, ...)`` and compare its logits with classes ``(B,)``."""
        outputs = logits_of(model(inputs))
        if not isinstance(outputs, Tensor):
            raise UsageError(
                f"task classify needs a model that returns logits (B, classes), got a "
                f"{type(outputs).__name__} from {type(model).__name__}.\n"
                "  Choose another model, or the task autoencode for a variational autoencoder."
            )
        if targets.is_floating_point():
            raise UsageError(
                f"task classify needs classes, which are whole numbers, but the targets are "
                f"{targets.dtype}.\n  Choose the task regress, or say that they are classes "
                "(csv: classes: true)."
            )
        # Half precision would lose digits of the loss.
        logits = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        objective = self._loss(logits, targets, reduction=self._reduction)
        samples = len(targets) if self._reduction == "mean" else 1
        likeliest = logits.detach()
        sums = {
            "loss": objective.detach() * samples,
            "accuracy": (likeliest.argmax(dim=1) == targets).sum(),
        }
        if self._top_k is not None:
            sums[f"accuracy_top{self._top_k}"] = _among(likeliest, targets, self._top_k)
        if self._smoothing:
            objective = functional.cross_entropy(
                logits, targets, reduction=self._reduction, label_smoothing=self._smoothing
            )
        return Loss(objective, sums)


def _among(logits: Tensor, targets: Tensor, largest: int) -> Tensor:
    """Return for how many samples the class is among the largest outputs."""
    if largest >= logits.shape[1]:
        raise UsageError(
            f"task classify: top_k is {largest}, but the model has {logits.shape[1]} outputs, so "
            "that it would always be right.\n  Choose a smaller number, or leave it out."
        )
    return (logits.topk(largest, dim=1).indices == targets[:, None]).any(dim=1).sum()


def _squared(outputs: Tensor, targets: Tensor, *, reduction: str) -> Tensor:
    wanted = functional.one_hot(targets, outputs.shape[1])
    total = 0.5 * (outputs - wanted).square().sum()
    return total / len(targets) if reduction == "mean" else total
