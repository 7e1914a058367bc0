"""Tests of an optimizer in two processes that train together, under DDP and FSDP2."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deltagclip_cli.conformance.conformance_test import (
    Broken,
    InapplicableError,
    conformance_test,
    raised_by,
)
from deltagclip_cli.conformance.subject import (
    Subject,
    Weights,
    evaluating,
    need_close,
    need_no_chance,
    need_same,
    seeded,
    weights_of,
)

GROUP = "Use"
WORLD = 2
_STEPS = 3
_SHARE = 0.05  # of the way: products of shards are added up in another order, of Muon in bf16
_HALVES = (slice(0, 4), slice(4, 8))  # of a batch, for each process its own


def spread(network: nn.Module, kind: str) -> nn.Module:
    """Return a network for several processes."""
    if kind == "ddp":
        return nn.parallel.DistributedDataParallel(network)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    fully_shard(network, mesh=init_device_mesh("cpu", (WORLD,)))
    return network


def _train_together(subject: Subject, kind: str, rank: int, folder: str) -> None:
    """Train in one of two processes, and leave the weights, or what went wrong, in a file."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    said: Any
    try:
        warnings.simplefilter("ignore")
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD
        )
        network = subject.network()
        model = spread(network, kind)
        stepper = subject.make(network)
        torch.manual_seed(rank)  # as the workers that draw samples do
        for step in subject.steps(_STEPS):
            stepper.step(evaluating(model, step, _HALVES[rank]))
        said = weights_of(network)
        dist.destroy_process_group()
    except Exception as error:
        said = raised_by(error.__cause__ or error)
    torch.save(said, Path(folder) / f"{rank}.part")
    os.replace(Path(folder) / f"{rank}.part", Path(folder) / f"{rank}.pt")
    os._exit(0)


def together(subject: Subject, kind: str) -> list[torch.Tensor]:
    """Return the weights that each of two processes ends with.

    Raises:
        Broken: one of them failed.
    """
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        workers = [
            context.Process(target=_train_together, args=(subject, kind, rank, folder))
            for rank in range(WORLD)
        ]
        for worker in workers:
            worker.start()
        answers: list[Any] = []
        for rank, worker in enumerate(workers):
            file = Path(folder) / f"{rank}.pt"
            worker.join()
            if not file.exists():
                raise Broken(f"process {rank} of {WORLD} ended with code {worker.exitcode}")
            answers.append(torch.load(file, weights_only=True))
            if isinstance(answers[-1], str):
                for other in workers:
                    other.kill()
                    other.join()
                raise Broken(f"{answers[-1]}, in process {rank} of {WORLD}")
    return answers


def _need_alike(subject: Subject, kind: str, name: str) -> None:
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        raise InapplicableError("torch was built without gloo")
    subject.idle  # noqa: B018 - found out once, before there are two processes
    first, second = together(subject, kind)
    need_same(first, second, f"under {name}, process 0 and process 1 (with seeds of their own)")
    need_no_chance(subject, Weights(each for each in subject.network().parameters()))
    network = subject.network()
    stepper, start = subject.make(network), weights_of(network)
    with seeded(0):
        for step in subject.steps(_STEPS):
            stepper.step(_adding_up(network, step))
    words = f"under {name}, and in one process"
    need_close(first, weights_of(network), words, start, _SHARE)


def _adding_up(network: nn.Module, step: int) -> Callable[[], Tensor]:
    """Return a closure whose gradients are those of two processes to the bit.

    For the factors of a matrix that has no full rank follow rounding errors at any distance.
    """

    def evaluate() -> Tensor:
        parts = []
        for rows in _HALVES:
            loss = evaluating(network, step, rows)()
            parts.append((loss, [each.grad for each in network.parameters()]))
            network.zero_grad()
        for each, first, second in zip(network.parameters(), *(p[1] for p in parts), strict=True):
            assert first is not None and second is not None, "every weight is used"
            each.grad = first / WORLD + second / WORLD
        return sum((part[0] for part in parts), torch.zeros(())) / WORLD

    return evaluate


@conformance_test(GROUP, "DDP", seconds=40.0)
def ddp(subject: Subject) -> None:
    """Two processes under DistributedDataParallel end with the weights of one process.

    Otherwise the copies of the network drift apart: for random numbers, as each process has its own
    seed to draw samples, or for a norm of each its own.
    """
    _need_alike(subject, "ddp", "DDP")


@conformance_test(GROUP, "FSDP2", seconds=40.0)
def fsdp2(subject: Subject) -> None:
    """Two processes under fully_shard end with the weights of one process.

    A norm or a factorisation over a shard is not that of the whole, and nobody is told.
    """
    _need_alike(subject, "fsdp", "FSDP2")


TESTS = (ddp, fsdp2)
