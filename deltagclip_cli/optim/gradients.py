"""Which tensors a step concerns, and which of them share a step size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from deltagclip_cli.optim.sharding import local_shards

if TYPE_CHECKING:
    from deltagclip_cli.optim.sharding import Layout


class Gradients(NamedTuple):
    """The tensors of one parameter group that have a gradient, as local real tensors."""

    group: dict[str, Any]
    params: list[Tensor]
    grads: list[Tensor]
    layouts: list[Layout | None]


def collect(group: dict[str, Any]) -> Gradients:
    found = Gradients(group, [], [], [])
    for param in group["params"]:
        if param.grad is None:
            continue
        if param.grad.layout != torch.strided:
            raise RuntimeError(
                f"δ-GClip does not support sparse gradients, but a parameter of shape "
                f"{tuple(param.shape)} has a gradient of layout {param.grad.layout}"
            )
        weights, grad, layout = local_shards(param, param.grad)
        is_complex = weights.is_complex()
        found.params.append(torch.view_as_real(weights) if is_complex else weights)
        found.grads.append(torch.view_as_real(grad) if is_complex else grad)
        found.layouts.append(layout)
    return found


def blocks(
    params: list[Tensor], grads: list[Tensor], step_size: Tensor
) -> list[tuple[list[Tensor], list[Tensor], Tensor]]:
    """Tensors that share a step size, and that step size (0-dim)."""
    if step_size.numel() == 1:
        # Backwards, because the gradients that the norm read last are still in the cache.
        return [(params[::-1], grads[::-1], step_size[0])]
    each = zip(params, grads, step_size.unbind(), strict=True)
    return [([param], [grad], h) for param, grad, h in each]
