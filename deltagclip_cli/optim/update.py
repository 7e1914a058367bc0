"""The arithmetic of δ-GClip as functions: gradients, norms, step sizes, the update of the weights.

Nothing here reads a value back from the device: a host that waits cannot queue the next step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._foreach_utils import (
    _get_foreach_kernels_supported_devices,
    _get_fused_kernels_supported_devices,
)

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import Placement

    # How a tensor is spread over several processes (a DTensor, as FSDP2 makes them).
    Layout: TypeAlias = tuple[DeviceMesh, tuple[Placement, ...]]

_Implementation: TypeAlias = Callable[[list[Tensor], list[Tensor], Tensor, float, bool], None]
_Part: TypeAlias = tuple[_Implementation, list[Tensor], list[Tensor]]

# On CPUs vector_norm keeps one float32 sum, which is wrong by 1e-3 for 23 million numbers
# (DistilBERT's embedding); a dot product of a piece is right to 2e-6, and faster. How long a piece
# may be for that depends on the processor: of four times the length, it is wrong by 1e-5 on some.
_SMALL = 2**15
_PIECE = 2**20

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
            param, grad, layout = _local_shards(param, grad)
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


def _local_shards(param: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Layout | None]:
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


def local(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor that is spread over several, and any other as is."""
    if type(tensor) in _NATIVE or not hasattr(tensor, "to_local"):
        return tensor
    part: Tensor = tensor.to_local()
    return part


def whole_norms(grads: list[Tensor]) -> list[Tensor]:
    """The Euclidean norm of every gradient, whole where it is spread over several processes."""
    if all(type(each) in _NATIVE for each in grads):
        return tensor_norms(grads, differentiable=False)
    parts = [_local_shards(each, each) for each in grads]
    norms = tensor_norms([part for part, _, _ in parts], differentiable=False)
    return norms_over_shards(norms, [layout for _, _, layout in parts])


def on_host(tensor: Tensor) -> bool:
    """Return whether a tensor lies in the host's memory, where nobody waits for its value."""
    return tensor.device.type == "cpu"


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Float64 for float64, float32 for everything narrower."""
    return torch.promote_types(dtype, torch.float32)


def tensor_norms(grads: list[Tensor], differentiable: bool) -> list[Tensor]:
    """The Euclidean norm of every tensor, on its device and in its accumulation dtype."""
    if differentiable or torch.compiler.is_compiling():
        return [torch.linalg.vector_norm(g, dtype=accumulation_dtype(g.dtype)) for g in grads]
    norms: list[Tensor] = list(grads)
    for members, indices in _by_device_and_dtype(grads):
        dtype = accumulation_dtype(members[0].dtype)
        if members[0].device.type == "cpu":
            results = _norms_on_cpu(members, dtype)
        else:
            results = list(torch._foreach_norm(members, 2, dtype))
        for i, norm in zip(indices, results, strict=True):
            norms[i] = norm
    return norms


def _norms_on_cpu(grads: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    small = [grad for grad in grads if grad.numel() <= _SMALL]
    norms = iter(torch._foreach_norm(small, 2, dtype) if small else ())
    # All views first, for whatever comes between two products finds the caches full of numbers.
    large = [_pieces(grad) for grad in grads if grad.numel() > _SMALL]
    products = [[_square(piece, dtype) for piece in pieces] for pieces in large]
    squares = [each[0] if len(each) == 1 else torch.stack(each).sum() for each in products]
    roots = iter(torch._foreach_sqrt(squares) if squares else ())
    return [next(norms if grad.numel() <= _SMALL else roots) for grad in grads]


def _pieces(grad: Tensor) -> tuple[Tensor, ...]:
    """The numbers of a tensor in vectors of at most ``_PIECE``, in the order of its memory."""
    dense = torch._debug_has_internal_overlap(grad) == 0
    flat = grad.as_strided((grad.numel(),), (1,)) if dense else grad.reshape(-1)
    return (flat,) if grad.numel() <= _PIECE else flat.unsafe_split(_PIECE)


def _square(piece: Tensor, dtype: torch.dtype) -> Tensor:
    piece = piece.to(dtype)
    return piece.dot(piece)


def gather_norms(norms: list[Tensor]) -> Tensor:
    """Norms in one vector (n,), on the first one's device and in the widest of their dtypes."""
    kinds = {(norm.device, norm.dtype) for norm in norms}
    if len(kinds) > 1:
        dtype = max((dtype for _, dtype in kinds), key=lambda dtype: dtype.itemsize)
        norms = [norm.to(norms[0].device, dtype) for norm in norms]
    return torch.stack(norms)


def step_sizes(
    norm: Tensor, *, lr: float | Tensor, gamma: float, delta: float
) -> tuple[Tensor, Tensor]:
    """``h = η · min(1, max(δ, γ/‖g‖))`` of every block (n,), and its regime 0, 1 or 2 (n,)."""
    # γ/‖g‖ by way of max(1, ‖g‖/γ): no division by zero, and exactly 1 in a plain step.
    # And by a γ that is not 0 in the norm's dtype, for 0/0 is no number.
    ratio = (norm / max(gamma, torch.finfo(norm.dtype).tiny)).clamp(min=1).reciprocal()
    share = ratio.clamp(min=delta, max=1)
    if isinstance(lr, Tensor):
        lr = lr.reshape(())
        if lr.device.type != "cpu":
            lr = lr.to(norm.device)
    # A whole step is plain, also where δ >= 1 lets no other be made.
    return share * lr, (share < 1) * ((ratio <= delta) + 1)


def apply_update(
    params: list[Tensor],
    grads: list[Tensor],
    step_size: Tensor,
    *,
    weight_decay: float,
    maximize: bool,
    foreach: bool | None,
    fused: bool | None,
    differentiable: bool,
) -> None:
    """``w ← w − h·(g + λw)`` in place, for tensors that share the step size h (0-dim)."""
    # From the last to the first, for the gradients that were read last are still in the cache.
    for members, indices in _by_device_and_dtype(params[::-1]):
        first = members[0]
        # Not in the parameters' own dtype: h = 5e-9 is 0 in float16.
        h = step_size.to(first.device, accumulation_dtype(first.dtype))
        member_grads = [grads[-1 - i] for i in indices]
        if fused and not torch.compiler.is_compiling():
            _refuse_unfusable(members, member_grads)
            parts: list[_Part] = [(_fused, members, member_grads)]
        elif fused is None and foreach is None:
            parts = _fastest(members, member_grads, weight_decay, differentiable)
        else:
            parts = [(_foreach if foreach or fused else _loop, members, member_grads)]
        for implementation, part, part_grads in parts:
            implementation(part, part_grads, h, weight_decay, maximize)


def _fastest(
    params: list[Tensor], grads: list[Tensor], weight_decay: float, differentiable: bool
) -> list[_Part]:
    """On CPUs a plain sum if that is all; else fused, where legal; else foreach or the loop."""
    if differentiable:
        return [(_loop, params, grads)]
    if torch.compiler.is_compiling():
        return [(_foreach, params, grads)]
    is_exact = params[0].dtype == accumulation_dtype(params[0].dtype)
    if on_host(params[0]) and is_exact and not weight_decay:
        return [(_sum, params, grads)]
    on_accelerator = params[0].device.type in _get_foreach_kernels_supported_devices()
    otherwise = _foreach if on_accelerator else _loop
    if not _fused_supports(params[0]):
        return [(otherwise, params, grads)]
    legal = [_same_memory_order(p, g) for p, g in zip(params, grads, strict=True)]
    if all(legal):
        return [(_fused, params, grads)]
    illegal = [not is_legal for is_legal in legal]
    parts: list[_Part] = [
        (implementation, list(compress(params, chosen)), list(compress(grads, chosen)))
        for implementation, chosen in ((_fused, legal), (otherwise, illegal))
    ]
    return [part for part in parts if part[1]]


def _loop(
    params: list[Tensor], grads: list[Tensor], h: Tensor, weight_decay: float, maximize: bool
) -> None:
    sign = 1 if maximize else -1
    for param, grad in zip(params, grads, strict=True):
        if weight_decay:
            grad = grad.to(h.dtype).add(param, alpha=-sign * weight_decay)
        # Expanded, because type promotion ignores the dtype of a 0-dim tensor.
        param.addcmul_(grad, h.expand_as(param), value=sign)


def _sum(
    params: list[Tensor], grads: list[Tensor], h: Tensor, weight_decay: float, maximize: bool
) -> None:
    step = cast(float, h.tolist()) * (1 if maximize else -1)
    for param, grad in zip(params, grads, strict=True):
        param.add_(grad, alpha=step)


def _foreach(
    params: list[Tensor], grads: list[Tensor], h: Tensor, weight_decay: float, maximize: bool
) -> None:
    sign = 1 if maximize else -1
    directions = [grad.to(h.dtype) for grad in grads]
    if weight_decay:
        directions = list(torch._foreach_add(directions, params, alpha=-sign * weight_decay))
    torch._foreach_add_(params, torch._foreach_mul(directions, h), alpha=sign)


def _fused(
    params: list[Tensor], grads: list[Tensor], h: Tensor, weight_decay: float, maximize: bool
) -> None:
    torch._fused_sgd_(
        params,
        grads,
        [],
        weight_decay=weight_decay,
        momentum=0.0,
        lr=h,
        dampening=0.0,
        nesterov=False,
        maximize=maximize,
        is_first_step=False,
    )


def _fused_supports(param: Tensor) -> bool:
    # On accelerators the kernel reads the step size as a float32, too narrow for float64. On CPUs
    # that of torch 2.6 is wrong for half precision.
    on_cpu = param.device.type == "cpu"
    unfit = (torch.float16, torch.bfloat16) if on_cpu else (torch.float64,)
    return (
        param.is_floating_point()
        and param.device.type in _get_fused_kernels_supported_devices()
        and param.dtype not in unfit
    )


def _same_memory_order(param: Tensor, grad: Tensor) -> bool:
    """Return whether a kernel that walks through memory pairs the right numbers."""
    dense = torch._debug_has_internal_overlap(param) == 0
    return dense and param.stride() == grad.stride() and param.dtype == grad.dtype


def _refuse_unfusable(params: list[Tensor], grads: list[Tensor]) -> None:
    for param, grad in zip(params, grads, strict=True):
        if not _fused_supports(param):
            raise RuntimeError(
                f"fused=True cannot update a {param.dtype} parameter on {param.device.type}; "
                "leave fused unset to let the optimizer choose."
            )
        if not _same_memory_order(param, grad):
            raise RuntimeError(
                "fused=True needs parameters without gaps in memory and gradients of the same "
                f"dtype and strides, but has a parameter {tuple(param.shape)} with strides "
                f"{param.stride()} and gradient strides {grad.stride()}; "
                "leave fused unset to let the optimizer choose."
            )


def _by_device_and_dtype(tensors: list[Tensor]) -> list[tuple[list[Tensor], Sequence[int]]]:
    if len({(tensor.device, tensor.dtype) for tensor in tensors}) == 1:
        return [(tensors, range(len(tensors)))]
    groups = Optimizer._group_tensors_by_device_and_dtype([cast(Any, tensors)], with_indices=True)
    return [(cast(list[Tensor], lists[0]), indices) for lists, indices in groups.values()]
