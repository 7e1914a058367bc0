"""Time of one δ-GClip step beside other optimizers and the memory floor, in the same run.

    python benchmarks/optimizer_step.py [--repeat 30] [--device cpu] [--threads 2] [--graph]

All contenders but the floors update the same tensors. They take turns, so that a busy machine slows
all of them, and every figure is a median over the rounds. In its turn each takes one step that is
not timed, so that all find the caches as their own step leaves them. With ``--graph`` each is
captured in a CUDA graph first, but for the straightforward one, which waits for the device.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from statistics import median, quantiles

import torch
from machine import describe_machine
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from deltagclip_cli.optim import DeltaGClip

Shape = tuple[int, ...]
ETA, GAMMA, DELTA = 1e-6, 0.25, 1e-3
OURS, FLOOR, PLAIN = "δ-GClip", "floor: dot + axpy", "straightforward δ-GClip"
FLOOR_TARGET, PLAIN_TARGET = 1.2, 4.0


def resnet18_shapes() -> Iterator[Shape]:
    """ResNet-18 with the stem for CIFAR: 11.17 million numbers in 62 tensors."""

    def convolution(width_in: int, width: int, size: int) -> list[Shape]:
        return [(width, width_in, size, size), (width,), (width,)]

    yield from convolution(3, 64, 3)
    width_in = 64
    for width in (64, 128, 256, 512):
        for block in range(2):
            yield from convolution(width_in, width, 3)
            yield from convolution(width, width, 3)
            if block == 0 and width_in != width:
                yield from convolution(width_in, width, 1)
            width_in = width
    yield from [(10, 512), (10,)]


def vit_tiny_shapes() -> Iterator[Shape]:
    """ViT-Tiny: 5.53 million numbers in 152 tensors."""
    width = 192
    norm: list[Shape] = [(width,), (width,)]
    yield from [(1, 1, width), (1, 197, width), (width, 3, 16, 16), (width,)]
    for _ in range(12):
        yield from [*norm, (3 * width, width), (3 * width,), (width, width), (width,)]
        yield from [*norm, (4 * width, width), (4 * width,), (width, 4 * width), (width,)]
    yield from [*norm, (10, width), (10,)]


def distilbert_shapes() -> Iterator[Shape]:
    """DistilBERT base: 66.4 million numbers in 100 tensors."""
    width, hidden = 768, 3072
    norm: list[Shape] = [(width,), (width,)]
    yield from [(30522, width), (512, width), *norm]
    for _ in range(6):
        for _ in range(4):
            yield from [(width, width), (width,)]
        yield from [*norm, (hidden, width), (hidden,), (width, hidden), (width,), *norm]


MODELS = {
    "ResNet-18": resnet18_shapes,
    "ViT-Tiny": vit_tiny_shapes,
    "DistilBERT": distilbert_shapes,
}


def straightforward(params: list[Tensor]) -> Callable[[], None]:
    """The formula as one would first write it."""

    def step() -> None:
        grads = [p.grad for p in params if p.grad is not None]
        norm = torch.cat([g.flatten() for g in grads]).norm().item()
        h = ETA * min(1.0, max(DELTA, GAMMA / norm))
        with torch.no_grad():
            for param, grad in zip(params, grads, strict=True):
                param.add_(grad, alpha=-h)

    return step


def memory_floors(size: int, device: torch.device) -> dict[str, Callable[[], None]]:
    """Read one contiguous gradient for its norm, then add it to one contiguous vector.

    On CPUs a dot product is the fastest way to a norm that torch has; ``vector_norm`` is the one
    that its own clipping takes.
    """
    weights, grad = torch.randn(2, size, device=device).unbind()

    def floor(norm: Callable[[], Tensor]) -> Callable[[], None]:
        def step() -> None:
            norm()
            weights.add_(grad, alpha=-ETA)

        return step

    return {
        FLOOR: floor(lambda: torch.dot(grad, grad).sqrt()),
        "floor: vector_norm + axpy": floor(lambda: torch.linalg.vector_norm(grad)),
    }


def clipped_sgd(params: list[Tensor]) -> Callable[[], None]:
    """GClip as torch's own parts make it; it rewrites the gradients."""
    optimizer = torch.optim.SGD(params, lr=ETA, fused=True)

    def step() -> None:
        # A norm that is never reached leaves the gradients as they are for the others.
        clip_grad_norm_(params, 1e30)
        optimizer.step()

    return step


def contenders(
    shapes: list[Shape], device: torch.device, graph: bool = False
) -> dict[str, Callable[[], object]]:
    params: list[Tensor] = [torch.nn.Parameter(torch.randn(s, device=device)) for s in shapes]
    for param in params:
        param.grad = torch.randn_like(param)
    size = sum(p.numel() for p in params)
    steps: dict[str, Callable[[], object]] = {
        OURS: DeltaGClip(params, lr=ETA, gamma=GAMMA, delta=DELTA, capturable=graph).step,
        **memory_floors(size, device),
        PLAIN: straightforward(params),
        "clip_grad_norm_ + SGD(fused)": clipped_sgd(params),
        "SGD(fused)": torch.optim.SGD(params, lr=ETA, fused=True).step,
        "Adam(fused)": torch.optim.Adam(params, lr=ETA, fused=True, capturable=graph).step,
    }
    if graph:
        del steps[PLAIN]
    return steps


def captured(step: Callable[[], object]) -> Callable[[], None]:
    """A step as a CUDA graph, which is replayed."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # the state of an optimizer is made at its first steps
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def seconds(step: Callable[[], object], device: torch.device) -> float:
    step()
    if device.type != "cuda":
        start = time.perf_counter()
        step()
        return time.perf_counter() - start
    torch.cuda.synchronize(device)
    start_event, end_event = (torch.Event(device, enable_timing=True) for _ in range(2))
    start_event.record()
    step()
    end_event.record()
    torch.cuda.synchronize(device)
    return start_event.elapsed_time(end_event) / 1000


def measure(
    steps: dict[str, Callable[[], object]], device: torch.device, repeat: int
) -> dict[str, list[float]]:
    """Seconds of each contender's step, in each round."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    warm_up = 3
    for round_ in range(warm_up + repeat):
        for name, step in steps.items():
            elapsed = seconds(step, device)
            if round_ >= warm_up:
                times[name].append(elapsed)
    return times


def ratio(times: dict[str, list[float]], of: str, to: str) -> tuple[float, str]:
    """The median over rounds of one time over another, and as text with its quartiles."""
    ratios = [a / b for a, b in zip(times[of], times[to], strict=True)]
    low, _, high = quantiles(ratios, n=4)
    return median(ratios), f"{median(ratios):.2f} ({low:.2f}-{high:.2f})"


def report(model: str, shapes: list[Shape], times: dict[str, list[float]]) -> Table:
    size = sum(torch.Size(s).numel() for s in shapes)
    table = Table(title=f"{model}: {size / 1e6:.2f} M numbers in {len(shapes)} tensors")
    for heading in ("step", f"time / ({FLOOR})", "time / δ-GClip"):
        table.add_column(heading, justify="left" if heading == "step" else "right")
    for name in times:
        to_floor, to_ours = ratio(times, name, FLOOR)[1], ratio(times, name, OURS)[1]
        table.add_row(name, to_floor, to_ours)
    return table


def verdict(times: dict[str, list[float]]) -> str:
    floor = ratio(times, OURS, FLOOR)[0]
    words = (
        f"target at most {FLOOR_TARGET} x floor: {floor:.2f} "
        f"({'met' if floor <= FLOOR_TARGET else 'missed'})"
    )
    if PLAIN not in times:
        return words
    plain = ratio(times, PLAIN, OURS)[0]
    return (
        f"{words}; target at least {PLAIN_TARGET} x faster than straightforward: {plain:.2f} "
        f"({'met' if plain >= PLAIN_TARGET else 'missed'})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=30, help="rounds that count, at least 2")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads of torch (default: its own)")
    parser.add_argument("--graph", action="store_true", help="capture the steps in CUDA graphs")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    console = Console()
    console.print(
        f"{describe_machine()}; medians of {options.repeat} rounds, quartiles in brackets"
    )
    for model, make_shapes in MODELS.items():
        shapes = list(make_shapes())
        steps = contenders(shapes, device, options.graph)
        if options.graph:
            steps = {name: captured(step) for name, step in steps.items()}
        times = measure(steps, device, options.repeat)
        console.print(report(model, shapes, times))
        console.print(verdict(times))


if __name__ == "__main__":
    main()
