"""Tasks: what is computed from a batch, and what of it is differentiated and reported.

A task is made as ``Task(**options)`` and called as ``task(model, inputs, targets)``; it returns a
:class:`Loss`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deltagclip_cli.core import Catalogue

if TYPE_CHECKING:
    from torch import Tensor

TABLE = Catalogue(
    "task",
    {
        "autoencode": "deltagclip_cli.parts.tasks.autoencode:Autoencode",
        "classify": "deltagclip_cli.parts.tasks.classify:Classify",
    },
)


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss of a batch as it is differentiated, and what is reported."""

    objective: Tensor  # scalar, with a graph; what the optimizer minimises
    # scalars without a graph, each a sum over the batch's samples, so that dividing by the number
    # of samples weighs every sample the same. Always ``"loss"``; a classifier adds ``"accuracy"``,
    # the number of right answers.
    sums: dict[str, Tensor]
