"""Regression."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts.tasks import Loss

_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "squared": functional.mse_loss,
    "absolute": functional.l1_loss,
    "huber": functional.huber_loss,
}


class Regress:
    """Fit real numbers: the mean squared, absolute or Huber error.

    The loss is that of the targets as they are trained on, which most data standardise. ``mae``
    and ``rmse`` are in the unit that a single target has in its file; of several targets, which
    may have several units, they are means over the standardised ones. ``r2`` is the share of the
    variance of a split's targets that is explained: 1 at best, 0 for their mean, and less than that
    for worse.

    Args:
        loss: ``squared`` is (F - y)², ``absolute`` is |F - y|, ``huber`` is ½ (F - y)² up to 1 and
            |F - y| - ½ beyond. The mean over the targets of a sample.
        reduction: what is minimised: the mean over the samples of a batch, or their sum.
        target_scale: what 1 of the targets is in the unit of their file.
    """

    def __init__(
        self,
        *,
        loss: Literal["squared", "absolute", "huber"] = "squared",
        reduction: Literal["mean", "sum"] = "mean",
        target_scale: float = 1.0,
    ) -> None:
        self._loss, self._is_sum, self._scale = _LOSSES[loss], reduction == "sum", target_scale

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Loss:
        """Apply the model to inputs ``(B, ...)`` and compare its outputs with targets ``(B, T)``.

        Where there is one target, ``(B,)`` and ``(B, 1)`` go together.
        """
        outputs = model(inputs)
        _check(outputs, targets, type(model).__name__)
        # Half precision would lose digits of the loss.
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32)).reshape(
            len(targets), -1
        )
        targets = targets.reshape(len(targets), -1)
        samples = len(targets)
        objective = self._loss(outputs, targets)
        sums = {"loss": objective.detach() * samples}
        with torch.no_grad():
            errors, wanted = outputs - targets, targets.double()  # whose variance is a difference
            sums["mae"] = errors.abs().mean(dim=1).sum() * self._scale
            sums["squared_errors"] = errors.square().sum()
            sums["squares"] = wanted.square().sum()
            for number, total in enumerate(wanted.sum(dim=0).unbind()):
                sums[f"target{number}"] = total
        return Loss(objective * samples if self._is_sum else objective, sums)

    def derived(self, means: dict[str, float]) -> dict[str, float | None]:
        """Return ``rmse`` and ``r2``, in the place of the means that they are made of."""
        centres = [name for name in means if name.startswith("target")]
        error = means["squared_errors"]
        variance = means["squares"] - math.fsum(means[name] ** 2 for name in centres)
        return {
            "rmse": math.sqrt(error / len(centres)) * self._scale,
            # Of targets that are all alike nothing is to be explained.
            "r2": 1 - error / variance if variance > 1e-12 * means["squares"] else None,
            **dict.fromkeys(["squared_errors", "squares", *centres]),
        }


def _check(outputs: object, targets: Tensor, model: str) -> None:
    if not targets.is_floating_point():
        raise UsageError(
            f"task regress needs targets that are real, and these are classes ({targets.dtype}).\n"
            "  Choose the task classify, or data with real targets (csv: leave out classes)."
        )
    if not isinstance(outputs, Tensor):
        raise UsageError(
            f"task regress needs a model that returns a tensor, got a {type(outputs).__name__} "
            f"from {model}.\n  Choose another model."
        )
    shapes = [tuple(each.shape[1:]) for each in (outputs, targets)]
    if shapes[0] != shapes[1] and any(math.prod(each) != 1 for each in shapes):
        raise UsageError(
            f"task regress: the outputs of {model} are {tuple(outputs.shape)}, the targets "
            f"{tuple(targets.shape)}.\n  Give both the same shape: one output for each target."
        )
