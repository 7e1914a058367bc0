"""One of two processes that train together; started by test_optim_sharding.py.

    python sharded_worker.py RANK FOLDER

Both processes meet through a file in FOLDER, and rank 0 writes there what came out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from deltagclip_cli.optim import DeltaGClip

WORLD = 2
SCOPES = ("global", "group", "parameter")
KINDS = ("ddp", "fsdp", "mixed", "hybrid")
OPTIONS: dict[str, Any] = {"lr": 0.5, "gamma": 0.4, "delta": 0.06, "weight_decay": 0.05}


def make_model() -> nn.Module:
    """Odd widths, so that the shards are of unequal size."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def make_optimizer(model: nn.Module, **options: Any) -> DeltaGClip:
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    groups = [
        {"params": list(layers[0].parameters())},
        {"params": list(layers[1].parameters()), "lr": 0.2, "gamma": 0.2},
    ]
    return DeltaGClip(groups, **{**OPTIONS, **options})


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    for scale in (0.1, 1.0, 10.0):
        yield torch.randn(8, 5, generator=generator), scale * torch.randn(8, 3, generator=generator)


def train(
    model: nn.Module,
    optimizer: DeltaGClip,
    part_of: Callable[[Tensor], Tensor] = lambda batch: batch,
) -> dict[str, Any]:
    """Train, and tell the weights and what the optimizer said of its steps."""
    said = []
    for data, target in batches():
        optimizer.zero_grad()
        (model(part_of(data)) - part_of(target)).square().mean().backward()
        optimizer.step()
        said.append((optimizer.grad_norm.clone(), optimizer.step_size.clone()))
    return {
        "weights": [whole(p).detach().clone() for p in model.parameters()],
        "said": said,
        "regimes": optimizer.regime_counts.clone(),
    }


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def spread(kind: str) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = make_model()
    if kind == "ddp":
        return nn.parallel.DistributedDataParallel(model)
    if kind == "mixed":
        fully_shard(model[0], mesh=init_device_mesh("cpu", (WORLD,)))
        return model
    shape = (WORLD, 1) if kind == "hybrid" else (WORLD,)
    names = ("copies", "shards")[-len(shape) :]
    fully_shard(model, mesh=init_device_mesh("cpu", shape, mesh_dim_names=names))
    return model


def train_together(kind: str, rank: int, **options: Any) -> dict[str, Any]:
    """Each process sees half of a batch; where a layer is not shared, the whole batch."""
    model = spread(kind)
    half = slice(None) if kind == "mixed" else slice(4 * rank, 4 * rank + 4)
    return train(model, make_optimizer(model, **options), lambda batch: batch[half])


def partial_gradient() -> dict[str, Any]:
    """A gradient whose parts are still to be summed, as tensor parallelism leaves it."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Partial, distribute_tensor

    mesh = init_device_mesh("cpu", (WORLD,))
    param = nn.Parameter(distribute_tensor(torch.zeros(4), mesh))
    param.grad = DTensor.from_local(torch.full((4,), 0.5), mesh, [Partial()])
    optimizer = DeltaGClip([param], lr=1.0, gamma=1.0, delta=0.0)
    optimizer.step()
    return {"weights": whole(param).detach().clone(), "norm": optimizer.grad_norm.clone()}


def checkpointed() -> dict[str, Any]:
    """torch.distributed.checkpoint takes a step of its own, with no rate and zero gradients."""
    from torch.distributed.checkpoint import state_dict as dcp

    model = spread("fsdp")
    optimizer = make_optimizer(model)
    state = dcp.get_optimizer_state_dict(model, optimizer)
    train(model, optimizer)
    other_model = spread("fsdp")
    other = make_optimizer(other_model, lr=9.0, gamma=9.0)
    before = [whole(p).detach().clone() for p in other_model.parameters()]
    dcp.set_optimizer_state_dict(other_model, other, state)
    moved = [
        not torch.equal(whole(p), b) for p, b in zip(other_model.parameters(), before, strict=True)
    ]
    return {
        "rates": [(group["lr"], group["gamma"]) for group in other.param_groups],
        "regimes": other.regime_counts,
        "moved": any(moved),
    }


def main() -> None:
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=WORLD
    )
    results: dict[str, Any] = {}
    for scope in SCOPES:
        for kind in KINDS:
            results[f"{kind} {scope}"] = train_together(kind, rank, norm_scope=scope)
        results[f"foreach {scope}"] = train_together("fsdp", rank, norm_scope=scope, foreach=True)
    results["partial"] = partial_gradient()
    results["checkpointed"] = checkpointed()
    if rank == 0:
        torch.save(results, folder / "results.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
