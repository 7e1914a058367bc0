"""A plain multilayer perceptron."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

from torch import nn

from deltagclip_cli.parts.models import check_widths

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


def mlp(
    shape: tuple[int, ...],
    classes: int,
    *,
    hidden: tuple[int, ...] = (256, 256),
    activation: Literal["relu", "gelu", "tanh"] = "relu",
) -> nn.Module:
    """Multilayer perceptron on the flattened input, with torch's default initialisation.

    Two layers of 256 are a usual size for MNIST; an empty list makes a linear classifier.
    """
    check_widths("mlp", hidden)
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise((math.prod(shape), *hidden)):
        layers += [nn.Linear(fan_in, fan_out), _ACTIVATIONS[activation]()]
    layers.append(nn.Linear(hidden[-1] if hidden else math.prod(shape), classes))
    return nn.Sequential(*layers)
