"""The splines of a KAN and its whole layer, beside the recursion of Cox and de Boor.

The rival is written as the formula is, and as KANs in circulation are: a recursion that allocates
new arrays at each order, on knots kept for each input, with the splines on the last axis; its layer
has the same base, scale and weights as ours. Both take turns with the same inputs, some of which
lie outside the grid's range. A network's first layer needs no gradient of its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.harness import Figure, Session
from deltagclip_cli.parts.models.kan import SplineLayer, spline_basis

DEVICES = ("cpu", "cuda")
RIVAL = "a recursion that allocates at each order"


def measure(session: Session) -> Iterator[Figure]:
    rounds = 5 if session.quick else 20
    for size in SIZES[:1] if session.quick else SIZES:
        for name, (theirs, ours) in contenders(size, torch.device(session.device)).items():
            times = session.turns({RIVAL: theirs, "ours": ours}, rounds, warm_up=3)
            yield times.as_fast(f"{name}, {size}", "ours", RIVAL)


@dataclass(frozen=True)
class Size:
    """Of a batch and a layer."""

    batch: int
    fan_in: int
    fan_out: int
    grid: int
    order: int

    def __str__(self) -> str:
        shape = f"{self.fan_in} x {self.fan_out}, batch {self.batch}"
        return f"{shape}, grid {self.grid}, order {self.order}"


SIZES = [Size(64, 784, 64, 5, 3), Size(64, 784, 64, 5, 2), Size(256, 1024, 256, 10, 3)]


def recursion(inputs: Tensor, knots: Tensor, order: int) -> Tensor:
    """Splines ``(N, D, K)`` at inputs ``(N, D)`` on knots ``(D, K + order + 1)``."""
    x = inputs.unsqueeze(-1)
    basis = ((x >= knots[:, :-1]) & (x < knots[:, 1:])).to(x.dtype)
    for n in range(1, order + 1):
        rising = (x - knots[:, : -n - 1]) / (knots[:, n:-1] - knots[:, : -n - 1])
        falling = (knots[:, n + 1 :] - x) / (knots[:, n + 1 :] - knots[:, 1:-n])
        basis = rising * basis[..., :-1] + falling * basis[..., 1:]
    return basis


class PlainLayer(nn.Module):
    """The weights of one of our layers around the recursion."""

    def __init__(self, layer: SplineLayer, size: Size) -> None:
        super().__init__()
        self.order = size.order
        self.base_weight = nn.Parameter(layer.base_weight.detach().clone())
        self.spline_scale = nn.Parameter(layer.spline_scale.detach().clone())
        last = layer.spline_weight.detach().transpose(1, 2)
        self.spline_weight = nn.Parameter(last.clone(memory_format=torch.contiguous_format))
        knots = torch.arange(-size.order, size.grid + size.order + 1) * 2 / size.grid - 1
        self.register_buffer("knots", knots.repeat(size.fan_in, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        basis = recursion(inputs, self.knots, self.order)
        weight = self.spline_weight * self.spline_scale.unsqueeze(-1)
        base = functional.linear(functional.silu(inputs), self.base_weight)
        return base + functional.linear(basis.flatten(1), weight.flatten(1))


Step = Callable[[], object]


def backward(function: Callable[[Tensor], Tensor], inputs: Tensor) -> Step:
    """Evaluate a function and send a gradient back through it."""
    gradient = torch.randn_like(function(inputs))
    weights = list(function.parameters()) if isinstance(function, nn.Module) else []

    def step() -> None:
        for tensor in (inputs, *weights):
            tensor.grad = None
        function(inputs).backward(gradient)

    return step


def contenders(size: Size, device: torch.device) -> dict[str, tuple[Step, Step]]:
    """What is timed, with the rival's and our way to do it."""
    layer = SplineLayer(
        size.fan_in, size.fan_out, grid=size.grid, order=size.order, grid_range=(-1.0, 1.0)
    ).to(device)
    rival = PlainLayer(layer, size).to(device)
    inputs = (2.4 * torch.rand(size.batch, size.fan_in, device=device) - 1.2).requires_grad_()
    fixed = inputs.detach()

    def theirs(x: Tensor) -> Tensor:
        return recursion(x, rival.knots, size.order)

    def ours(x: Tensor) -> Tensor:
        return spline_basis(x / layer.spacing, layer.centres, size.order)

    torch.testing.assert_close(theirs(fixed).mT, ours(fixed), rtol=0, atol=2e-6)
    torch.testing.assert_close(rival(fixed), layer(fixed), rtol=1e-3, atol=1e-4)
    return {
        "basis, forward": (lambda: theirs(fixed), lambda: ours(fixed)),
        "basis, forward + backward": (backward(theirs, inputs), backward(ours, inputs)),
        "layer, forward + backward": (backward(rival, inputs), backward(layer, inputs)),
        "first layer, forward + backward": (backward(rival, fixed), backward(layer, fixed)),
    }
