"""Ranks of which each has the whole network (DDP), so that any of them could go on alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from deltagclip_cli.parts.nested import Tree
from deltagclip_cli.parts.tasks import Loss
from deltagclip_cli.training.ranks.several import Several, TogetherEager, is_of_others

if TYPE_CHECKING:
    from deltagclip_cli.training.program import ProgramMaker
    from deltagclip_cli.training.trainer import Trainer


class Replicas(Several):
    """Each rank has the whole network, and adds up its gradients with the others while it can."""

    parallel = "ddp"

    def _look_at(self, model: nn.Module, outcome: Loss, varies: bool) -> None:
        outcome.objective.backward()  # type: ignore[no-untyped-call]
        trained = [each for each in model.parameters() if each.requires_grad]
        self.uses_all = not varies and all(each.grad is not None for each in trained)

    _undo: Callable[[], None] | None = None

    def begin_step(self, trainer: Trainer) -> None:
        """Keep what a step changes before all gradients are there, where it can be undone.

        That is by the first rank, on a CPU: a GPU waits in the kernels of NCCL for who is lost.
        """
        if self.number or trainer.parts.device.type == "cuda":
            return
        random = trainer.streams()
        buffers = [(each, each.clone()) for each in trainer.parts.model.buffers()]

        def undo() -> None:
            trainer.go_on_with(random)
            for buffer, before in buffers:
                buffer.copy_(before)

        self._undo = undo

    def end_step(self) -> None:
        self._undo = None

    def rescue(self, trainer: Trainer, error: Exception) -> None:
        """Save on the first rank, which needs nobody for that; the step that failed is undone.

        Not if an evaluation is under way, nor where a step moves weights between its gradients, nor
        on a GPU, whose last checkpoint it is that the trial goes on from.
        """
        can_be_saved = trainer.can_be_saved and not trainer.stepper.needs_closure
        is_gpu = trainer.parts.device.type == "cuda"
        if self.number or is_gpu or not is_of_others(error) or not can_be_saved:
            return
        if self._undo is not None:
            with torch.no_grad():
                self._undo()
        trainer.save()

    def program(self, chosen: Callable[[], ProgramMaker]) -> ProgramMaker:
        return ReplicatedEager


class ReplicatedEager(TogetherEager):
    """Steps of a network that torch's DDP holds, which hears of gradients as they are made."""

    def _prepare(self) -> None:
        super()._prepare()
        ranks = self._ranks
        assert isinstance(ranks, Replicas)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._replica = _Replica(
                self.parts.model,
                broadcast_buffers=False,  # they are alike, for all ranks measure all samples
                find_unused_parameters=not ranks.uses_all,
            )

    def _apply(self, inputs: Tree, targets: Tree) -> Loss:
        return self.forward(self._replica, inputs, targets)

    @contextmanager
    def _adding_up(self, *, last: bool) -> Iterator[None]:
        with nullcontext() if last else self._replica.no_sync():
            yield


class _Replica(DistributedDataParallel):
    """Has whatever the network has, for tasks that look at more than its outputs.

    The place of a gradient in a bucket decides in which order more than two ranks add it up. DDP
    makes its buckets anew behind its first step, in the order in which gradients come. So a trial
    that is gone on with would make its first step with other buckets. Here they are made at once,
    in the opposite order of the weights, and stay.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.reducer._push_all_rebuilt_params()
        self.reducer._rebuild_buckets()

    def _build_params_for_reducer(self) -> tuple[list[nn.Parameter], list[bool]]:
        weights, are_sparse = super()._build_params_for_reducer()  # type: ignore[no-untyped-call]
        return weights[::-1], are_sparse[::-1]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)
