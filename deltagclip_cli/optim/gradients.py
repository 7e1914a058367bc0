"""Which tensors a step concerns, and which of them share a step size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from deltagclip_cli.optim.sharding import local_shards

if TYPE_CHECKING:
    from deltagclip_cli.optim.sharding import Layout

_NATIVE = (Tensor, torch.nn.Parameter)


class Gradients(NamedTuple):
    """The tensors of one parameter group that have a gradient, as local real tensors."""

    group: dict[str, Any]
    params: list[Tensor]
    grads: list[Tensor]
    layouts: list[Layout | None]


def collect(group: dict[str, Any]) -> Gradients:
    """The tensors of a parameter group that have a gradient."""
    params: list[Tensor] = []
    grads: list[Tensor] = []
    layouts: list[Layout | None] = []
    for param in group["params"]:
        grad = param.grad
        if grad is None:
            continue
        if grad.layout is not torch.strided:
            raise RuntimeError(
                "δ-GClip does not support sparse gradients, but a parameter of shape "
                f"{tuple(param.shape)} has a gradient of layout {grad.layout}"
            )
        layout = None
        if type(param) not in _NATIVE:
            param, grad, layout = local_shards(param, grad)
        if param.is_complex():
            param, grad = torch.view_as_real(param), torch.view_as_real(grad)
        params.append(param)
        grads.append(grad)
        layouts.append(layout)
    return Gradients(group, params, grads, layouts)


def blocks(
    params: list[Tensor], grads: list[Tensor], step_size: Tensor
) -> list[tuple[list[Tensor], list[Tensor], Tensor]]:
    """Tensors that share a step size, and that step size (0-dim)."""
    if step_size.numel() == 1:
        return [(params, grads, step_size[0])]
    each = zip(params, grads, step_size.unbind(), strict=True)
    return [([param], [grad], h) for param, grad, h in each]
