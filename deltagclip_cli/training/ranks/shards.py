"""Ranks of which each has a part of each tensor (FSDP2), for networks that one device cannot hold.

Tensors are gathered for as long as a block of the network is computed. What an optimizer keeps is
divided as the weights are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor, empty

from deltagclip_cli.core import UsageError, stopped
from deltagclip_cli.training.ranks.several import Several, TogetherEager
from deltagclip_cli.training.ranks.sharded_checkpoints import ShardedSaving, read_parts
from deltagclip_cli.training.stepping import make_optimizer, make_schedule

if TYPE_CHECKING:
    from deltagclip_cli.runs.folder import RunFolder
    from deltagclip_cli.runs.hold import HeldFolder
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.training.assembly import Parts
    from deltagclip_cli.training.checkpoints import Saving
    from deltagclip_cli.training.program import ProgramMaker


class Shards(Several):
    """Each rank has a part of each tensor."""

    parallel = "fsdp"

    def __init__(self, device: torch.device, arrived: Callable[[], None] = lambda: None) -> None:
        super().__init__(arrived)
        self._mesh = init_device_mesh(device.type, (self.count,))
        self._twin: nn.Module | None = None

    def spread(self, trial: Trial, parts: Parts) -> Parts:
        parts = super().spread(trial, parts)
        model = parts.model
        if trial.ema is not None:  # torch copies no network that it has divided
            self._twin = shard(deepcopy(model), self._mesh)
        self._shapes = {tuple(each.shape) for each in model.parameters()}
        self._model = shard(model, self._mesh)
        rate = parts.optimizer.param_groups[0]["lr"] if trial.optimizer.wants_auto else None
        optimizer = make_optimizer(trial, model, len(parts.steps), rate)
        schedule = make_schedule(trial, optimizer, len(parts.steps))
        return replace(parts, optimizer=optimizer, schedule=schedule)

    def program(self, chosen: Callable[[], ProgramMaker]) -> ProgramMaker:
        return ShardedEager

    def copied(self, model: nn.Module) -> nn.Module:
        assert self._twin is not None, "it is made where one is wanted"
        twin, self._twin = self._twin, None
        return twin

    def saving(self, checkpoints: Saving, held: HeldFolder) -> Saving:
        return ShardedSaving(super().saving(checkpoints, held), self, held)

    def loaded(self, state: Mapping[str, Any], folder: RunFolder) -> Mapping[str, Any]:
        if "shards" in state:
            return read_parts(state, folder, self._empty)
        divided = {
            name for name, each in self._model.state_dict().items() if isinstance(each, DTensor)
        }
        found = dict(state)
        for part in ("model", "average"):
            if found.get(part) is not None:
                found[part] = {
                    name: self._divide(each) if name in divided else each
                    for name, each in found[part].items()
                }
        for part in ("optimizer", "inner"):
            if part in found:
                found[part] = self._divided_state(found[part])
        return found

    def _divided_state(self, value: Any) -> Any:
        """Divide what an optimizer keeps for each weight, in the shape of a weight."""
        if isinstance(value, Tensor):
            return self._divide(value) if tuple(value.shape) in self._shapes else value
        if isinstance(value, dict):
            return {key: self._divided_state(each) for key, each in value.items()}
        if type(value) in (list, tuple):
            return type(value)(map(self._divided_state, value))
        return value

    def _divide(self, tensor: Tensor) -> DTensor:
        tensor = tensor.to(self._mesh.device_type)
        return distribute_tensor(tensor, self._mesh, [Shard(0)], src_data_rank=None)

    def _empty(self, shape: list[int], dtype: torch.dtype) -> DTensor:
        placed = [Shard(0)] if shape else [Replicate()]
        return empty(shape, dtype=dtype, device_mesh=self._mesh, placements=placed)


def shard(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Divide a network over a mesh in place: the blocks of its lists one by one, then the rest.

    Raises:
        UsageError: a module cannot be divided.
    """
    model.to(memory_format=torch.contiguous_format)  # FSDP2 divides no other
    blocks = [
        (f"{name}.{key}" if name else key, block)
        for name, each in model.named_modules()
        if isinstance(each, nn.ModuleList)
        for key, block in each.named_children()
        if any(True for _ in block.parameters()) and not isinstance(block, nn.ModuleList)
    ]
    for name, module in model.named_modules():
        for weight, each in module.named_parameters(recurse=False):
            if each.ndim == 0:
                raise UsageError(
                    f"parallel: fsdp cannot divide the number '{weight}' of "
                    f"{type(module).__name__}{f' ({name})' if name else ''}.\n"
                    "  Write parallel: ddp, or give it a dimension: torch.ones(1)."
                )
    for name, module in [*blocks[::-1], ("", model)]:
        try:
            fully_shard(module, mesh=mesh)
        except (ValueError, NotImplementedError, RuntimeError, TypeError, AssertionError) as error:
            said = f"{type(module).__name__}{f' ({name})' if name else ''}"
            raise UsageError(
                f"parallel: fsdp cannot divide {said} of the network: {stopped(error)}\n"
                "  Write parallel: ddp, or change that module."
            ) from None
    return model


class ShardedEager(TogetherEager):
    """Steps of a network that FSDP2 has divided, which gathers and adds up on its own."""

    @contextmanager
    def _adding_up(self, *, last: bool) -> Iterator[None]:
        model = self.parts.model
        assert isinstance(model, FSDPModule)
        model.set_requires_gradient_sync(last)
        yield
