"""The step of δ-GClip beside other optimizers, and beside the memory that it has to touch.

All contenders but the floors update the same tensors, with one thread on a CPU. Before each step
that is timed a contender takes one that is not, so that all find the caches as their own step
leaves them. On a GPU each is timed in a CUDA graph too, but for the straightforward one, which
waits for the device.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from benchmarks.harness import Figure, Session, Times
from deltagclip_cli.optim import DeltaGClip

DEVICES = ("cpu", "cuda")

Shape = tuple[int, ...]
ETA, GAMMA, DELTA = 1e-6, 0.25, 1e-3
OURS, FLOOR, PLAIN = "δ-GClip", "one dot product + one axpy", "straightforward δ-GClip"
NORM_FLOOR = "one vector_norm + one axpy"
NORMED_SGD = "_foreach_norm + SGD(fused)"


def measure(session: Session) -> Iterator[Figure]:
    device = torch.device(session.device)
    on_gpu = session.device == "cuda"
    rounds = 5 if session.quick else 30
    torch.set_num_threads(1)
    for graph in (True, False) if on_gpu else (False,):
        for model, make_shapes in {**MODELS, **MORE_ON_A_GPU}.items() if on_gpu else MODELS.items():
            steps = contenders(list(make_shapes()), device, graph)
            if graph:
                steps = captured_ones(steps)
                if OURS not in steps:
                    continue
            times = timed(session, steps, rounds)
            where = f"{model}, in a CUDA graph" if graph else model
            for name in [each for each in steps if each != OURS]:
                floors = (FLOOR, NORM_FLOOR, NORMED_SGD)
                compare = times.as_long if name in floors else times.as_fast
                yield compare(f"δ-GClip, {where}", OURS, name)


def timed(session: Session, steps: dict[str, Callable[[], object]], rounds: int) -> Times:
    """Seconds of each contender's step."""
    return session.turns(steps, rounds, warm_up=3, untimed=1)


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


def vit_tiny_shapes(width: int = 192) -> Iterator[Shape]:
    """ViT-Tiny: 5.53 million numbers in 152 tensors."""
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


def kan_shapes() -> Iterator[Shape]:
    """The KAN 784-64-10: 508,160 numbers in 6 tensors."""
    for width_in, width in ((784, 64), (64, 10)):
        yield from [(width, width_in), (width, width_in), (width, 8, width_in)]


def vae_shapes() -> Iterator[Shape]:
    """The VAE of linear layers: 91,984 numbers in 14 tensors."""
    for width_in, width in ((784, 50), (50, 50), (50, 50), (50, 50), (50, 50), (50, 50), (50, 784)):
        yield from [(width, width_in), (width,)]


MODELS = {
    "ResNet-18": resnet18_shapes,
    "ViT-Tiny": vit_tiny_shapes,
    "DistilBERT": distilbert_shapes,
}
MORE_ON_A_GPU = {
    "ViT-Small": partial(vit_tiny_shapes, width=384),
    "KAN": kan_shapes,
    "VAE": vae_shapes,
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
        NORM_FLOOR: floor(lambda: torch.linalg.vector_norm(grad)),
    }


def clipped_sgd(params: list[Tensor]) -> Callable[[], None]:
    """GClip as torch's own parts make it; it rewrites the gradients."""
    optimizer = torch.optim.SGD(params, lr=ETA, fused=True)

    def step() -> None:
        # A norm that is never reached leaves the gradients as they are for the others.
        clip_grad_norm_(params, 1e30)
        optimizer.step()

    return step


def normed_sgd(params: list[Tensor]) -> Callable[[], None]:
    """The two passes over memory that δ-GClip makes, by torch's kernels for many tensors."""
    optimizer = torch.optim.SGD(params, lr=ETA, fused=True)

    def step() -> None:
        torch.linalg.vector_norm(torch.stack(torch._foreach_norm([p.grad for p in params])))  # type: ignore[arg-type]
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
        NORMED_SGD: normed_sgd(params),
        "clip_grad_norm_ + SGD(fused)": clipped_sgd(params),
        "SGD(fused)": torch.optim.SGD(params, lr=ETA, fused=True).step,
        "Adam(fused)": torch.optim.Adam(params, lr=ETA, fused=True, capturable=graph).step,
    }
    if graph:
        del steps[PLAIN]
    return steps


def captured_ones(steps: dict[str, Callable[[], object]]) -> dict[str, Callable[[], object]]:
    """Those steps that can be captured, so captured; of the others the log tells why."""
    found: dict[str, Callable[[], object]] = {}
    for name, step in steps.items():
        try:
            with torch.cuda.stream(torch.cuda.current_stream()):  # which a failure leaves otherwise
                found[name] = captured(step)
        except RuntimeError as error:
            print(f"{name} cannot be captured: {error}", file=sys.stderr)
    return found


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
