"""A model as the function of its weights that the theorem is about."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from deltagclip_cli.core import UsageError

Weights = Mapping[str, Tensor]


class Network:
    """The outputs of a model for inputs and weights, in float64 whatever the model computes in.

    The least eigenvalues of a wide network's kernel are a small part of the largest, and would be
    lost in the rounding of float32.

    Args:
        model: whose outputs are ``(B, C)`` and depend, for each input, on that input alone. It is
            never changed.

    Raises:
        UsageError: the outputs of a sample depend on other samples, or on chance.
    """

    def __init__(self, model: nn.Module) -> None:
        _check(model)
        self.model = model

    def weights(self, position: Tensor | None = None) -> dict[str, Tensor]:
        """What is trained, by its names; float64, with a gradient.

        Args:
            position: the weights as one vector (P,), see :func:`flat`; as they are now if None.
        """
        trained = {n: p.detach() for n, p in self.model.named_parameters() if p.requires_grad}
        if position is not None:
            parts = torch.split(position, [each.numel() for each in trained.values()])
            named = zip(trained.items(), parts, strict=True)
            trained = {name: part.view_as(each) for (name, each), part in named}
        return {name: each.double().requires_grad_() for name, each in trained.items()}

    def outputs(self, weights: Weights, inputs: Tensor) -> Tensor:
        """The outputs (B, C) for inputs (B, ...) in float64."""
        others = {
            name: value.detach().double() if value.is_floating_point() else value
            for name, value in (*self.model.named_parameters(), *self.model.named_buffers())
            if name not in weights
        }
        outputs: Tensor = functional_call(self.model, {**others, **weights}, (inputs,))
        return outputs


def flat(weights: Weights) -> Tensor:
    """All weights as one vector (P,)."""
    return torch.cat([each.reshape(-1) for each in weights.values()])


def _check(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            why = "batch normalisation makes outputs of a sample depend on all others"
        elif isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
            why = "dropout makes outputs depend on chance"
        else:
            continue
        raise UsageError(
            f"{type(model).__name__} has {type(module).__name__}: {why}, and the theorem is about "
            "functions of one input each.\n"
            "  Choose a model without it, such as wide_mlp, or leave out certificate and lr: auto."
        )
