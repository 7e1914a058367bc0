"""Parameters whose tensors are spread over several processes (DTensor, as FSDP2 makes them)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor
from torch.nn import Parameter

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Placement

    Layout: TypeAlias = tuple[DeviceMesh, tuple[Placement, ...]]


def _as_sharded(tensor: Tensor) -> DTensor | None:
    if type(tensor) in (Tensor, Parameter) or not torch.distributed.is_available():
        return None
    # Only here, because the import takes a noticeable part of a second.
    from torch.distributed.tensor import DTensor

    return tensor if isinstance(tensor, DTensor) else None


def local_shards(param: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Layout | None]:
    """This process's part of a parameter and of its gradient, and how the whole is laid out."""
    whole, whole_grad = _as_sharded(param), _as_sharded(grad)
    if whole is None or whole_grad is None:
        return param, grad, None
    if whole_grad.placements != whole.placements:
        whole_grad = whole_grad.redistribute(whole.device_mesh, whole.placements)
    layout = (whole.device_mesh, tuple(whole.placements))
    return whole.to_local(), whole_grad.to_local(), layout


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
