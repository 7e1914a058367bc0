"""The splines of a KAN and its whole layer, against the recursion of Cox and de Boor.

    python benchmarks/kan_basis.py [--repeat 20] [--device cpu] [--threads 2]

The rival is written as the formula is, and as KANs in circulation are: a recursion that allocates
new arrays at each order, on knots kept for each input, with the splines on the last axis; its layer
has the same base, scale and weights as ours. Both take turns with the same inputs, some of which
lie outside the grid's range, and every figure is a median over the rounds. A network's first layer
needs no gradient of its inputs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import quantiles

import torch
from machine import describe_machine
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from deltagclip_cli.parts.models.kan import SplineLayer, spline_basis

TARGET = 1.5


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


def seconds(step: Step, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def ratios(pair: tuple[Step, Step], device: torch.device, repeat: int) -> list[float]:
    """The rival's time over ours in each round, after rounds that warm up."""
    rounds = [[seconds(step, device) for step in pair] for _ in range(3 + repeat)]
    return [theirs / ours for theirs, ours in rounds[3:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=20, help="rounds that count, at least 2")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads of torch (default: its own)")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    console = Console()
    console.print(
        f"{describe_machine()}; medians of {options.repeat} rounds, quartiles in brackets; "
        f"target at least {TARGET}"
    )
    for size in SIZES:
        table = Table(str(size), "recursion / ours", "target")
        for name, pair in contenders(size, device).items():
            measured = ratios(pair, device, options.repeat)
            low, middle, high = quantiles(measured, n=4)
            reached = "met" if middle >= TARGET else "missed"
            table.add_row(name, f"{middle:.2f} ({low:.2f}-{high:.2f})", reached)
        console.print(table)


if __name__ == "__main__":
    main()
