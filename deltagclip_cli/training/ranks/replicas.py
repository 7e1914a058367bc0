"""Ranks of which each has the whole network (DDP), so that any of them could go on alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from torch.nn.parallel import DistributedDataParallel

from deltagclip_cli.parts.nested import Tree
from deltagclip_cli.parts.tasks import Loss
from deltagclip_cli.training.ranks.several import Several, TogetherEager

if TYPE_CHECKING:
    from deltagclip_cli.training.program import ProgramMaker


class Replicas(Several):
    """Each rank has the whole network, and adds up its gradients with the others while it can."""

    parallel = "ddp"

    def program(self, chosen: Callable[[], ProgramMaker]) -> ProgramMaker:
        return ReplicatedEager


class ReplicatedEager(TogetherEager):
    """Steps of a network that torch's DDP holds, which hears of gradients as they are made."""

    def _prepare(self) -> None:
        super()._prepare()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._replica = _Replica(
                self.parts.model,
                broadcast_buffers=False,  # they are alike, for all ranks measure all samples
                find_unused_parameters=not self._ranks.uses_all,
            )

    def _apply(self, inputs: Tree, targets: Tree) -> Loss:
        return self.forward(self._replica, inputs, targets)

    @contextmanager
    def _adding_up(self, *, last: bool) -> Iterator[None]:
        with nullcontext() if last else self._replica.no_sync():
            yield


class _Replica(DistributedDataParallel):
    """Has whatever the network has, for tasks that look at more than its outputs."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)
