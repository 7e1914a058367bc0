"""Parameters whose tensors are spread over several processes (DTensor, as FSDP2 makes them)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import Placement

    Layout: TypeAlias = tuple[DeviceMesh, tuple[Placement, ...]]


def local_shards(param: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Layout | None]:
    """This process's part of a parameter and of its gradient, and how the whole is laid out."""
    if not torch.distributed.is_available():
        return param, grad, None
    # Only here, because the import takes a noticeable part of a second.
    from torch.distributed.tensor import DTensor

    if not (isinstance(param, DTensor) and isinstance(grad, DTensor)):
        return param, grad, None
    if grad.placements != param.placements:
        grad = grad.redistribute(param.device_mesh, param.placements)
    return param.to_local(), grad.to_local(), (param.device_mesh, tuple(param.placements))


def norms_over_shards(norms: list[Tensor], layouts: list[Layout | None]) -> list[Tensor]:
    """Turn the norms of local shards into the norms of the whole tensors.

    One collective per layout, whatever the number of tensors. Every process must hold gradients
    for the same tensors, as FSDP2 guarantees.
    """
    from torch.distributed.tensor import DTensor, Partial, Replicate

    whole = list(norms)
    for layout in dict.fromkeys(layouts):
        if layout is None:
            continue
        mesh, placements = layout
        members = [i for i, other in enumerate(layouts) if other == layout]
        summed = [p if p.is_replicate() else Partial("sum") for p in placements]
        if all(isinstance(p, Replicate) for p in summed):
            continue
        squares = torch.stack([norms[i] for i in members]).square()
        total = DTensor.from_local(squares, mesh, summed, run_check=False).full_tensor().sqrt()
        for i, norm in zip(members, total.unbind(), strict=True):
            whole[i] = norm
    return whole
