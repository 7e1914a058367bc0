"""The tangent kernel of a wide network, beside a per-sample Jacobian that is made as a whole.

The rival is what tutorials of ``torch.func`` have: ``vmap(jacrev(...))`` over all points, and then
J Jᵀ. Ours is made in chunks: from factors where all weights are those of linear maps, and else from
the Jacobian of some points at a time. Both are float64, and agree. Each is measured in a process of
its own, so that the peak of memory is its own too.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from benchmarks.harness import Figure, Session
from deltagclip_cli.parts.models.wide_mlp import wide_mlp
from deltagclip_cli.theory import landscape

RIVAL = "the Jacobian as a whole"


def measure(session: Session) -> Iterator[Figure]:
    points, width, rounds = (32, 512, 1) if session.quick else (64, 2048, 3)
    found = {name: in_process(name, points, width, rounds) for name in WAYS}
    whole = found.pop(RIVAL)
    for name, (seconds, memory, trace) in found.items():
        assert abs(trace / whole[2] - 1) < 1e-9, f"{name} gives another kernel"
        what = f"{name}, n = {points}, width {width:,}"
        yield Figure.as_fast(what, [whole[0] / seconds], RIVAL)
        yield Figure(f"{what}, memory", memory / 1e9, f"{RIVAL}: {whole[1] / 1e9:.2f} GB", "GB")


def in_process(name: str, points: int, width: int, rounds: int) -> tuple[float, float, float]:
    """Median seconds, bytes above what was there before, and the trace of what came out."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(there, name, points, width, rounds))
    process.start()
    there.close()
    answer: tuple[float, float, float] = here.recv()
    process.join()
    return answer


def _work(answer: Connection, name: str, points: int, width: int, rounds: int) -> None:
    """Run one way for one round to warm up, and then for some."""
    torch.manual_seed(0)
    network = wide_mlp((16,), 1, width=width).double()
    inputs = torch.nn.functional.normalize(torch.randn(points, 16, dtype=torch.float64))
    WAYS[name](wide_mlp((16,), 1, width=8).double(), inputs[:2])  # loads what is lazy
    before = peak()
    times = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        found = WAYS[name](network, inputs)
        times.append(time.perf_counter() - started)
    answer.send((statistics.median(times[1:]), peak() - before, float(found.trace())))


def peak() -> int:
    """The most bytes that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def whole(network: nn.Module, inputs: Tensor) -> Tensor:
    """All rows of the Jacobian, and then their products."""
    weights = {name: each.detach() for name, each in network.named_parameters()}

    def output(weights: dict[str, Tensor], point: Tensor) -> Any:
        return functional_call(network, weights, (point[None],))[0]

    parts = vmap(jacrev(output), in_dims=(None, 0))(weights, inputs)
    rows = torch.cat([each.flatten(0, 1).flatten(1) for each in parts.values()], 1)
    return rows @ rows.T


def chunks(network: nn.Module, inputs: Tensor) -> Tensor:
    """What a certificate does for all networks but those of linear maps."""
    with mock.patch.object(landscape, "_is_linear_maps", return_value=False):
        return landscape.tangent_kernel(network, inputs)


WAYS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    RIVAL: whole,
    "from factors": landscape.tangent_kernel,
    "in chunks": chunks,
}
