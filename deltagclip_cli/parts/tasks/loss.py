"""What a task makes of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is differentiated, and what is reported.

    Args:
        objective: scalar, with a graph; what the optimizer minimises.
        sums: scalars without a graph, each a sum over the batch's samples, so that dividing by the
            number of samples weighs every sample the same. Always ``"loss"``; a classifier adds
            ``"accuracy"``, the number of right answers.
    """

    objective: Tensor
    sums: dict[str, Tensor]


def at_least_float32(values: Tensor) -> Tensor:
    """Widen half precision, in which a loss would lose digits; float32 and float64 stay."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
