"""Variational autoencoding."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts.tasks import Loss


class Autoencode:
    """Reconstruct the inputs through a code that is drawn from a Gaussian.

    The loss of a sample is the squared error summed over its entries, plus the Kullback-Leibler
    divergence of the code from N(0, 1): ``-½ Σ (1 + log σ² - μ² - σ²)``. The objective is the sum
    over the batch (as published) or the mean.

    Source: Kingma and Welling (2014); the VAE experiment of arXiv 2404.08624.
    """

    def __init__(self, *, reduction: Literal["sum", "mean"] = "sum") -> None:
        self._mean = reduction == "mean"

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Loss:
        """Apply the model to inputs ``(B, ...)``; it returns reconstruction, mean, log-variance."""
        outputs = model(inputs)
        if not isinstance(outputs, tuple) or len(outputs) != 3:
            raise UsageError(
                "task autoencode needs a model that returns (reconstruction, mean, log_variance), "
                f"which {type(model).__name__} does not.\n"
                "  Choose the model vae, or the task classify."
            )
        # Half precision would lose digits of the sums.
        decoded, mean, log_variance = (
            each.to(torch.promote_types(each.dtype, torch.float32)) for each in outputs
        )
        reconstruction = functional.mse_loss(decoded, inputs, reduction="sum")
        divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum()
        total = reconstruction + divergence
        return Loss(
            total / len(inputs) if self._mean else total,
            {
                "loss": total.detach(),
                "reconstruction": reconstruction.detach(),
                "divergence": divergence.detach(),
            },
        )
