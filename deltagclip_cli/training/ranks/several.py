"""Several processes that train one trial: they agree, they add up, and they are alike."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from deltagclip_cli.core import RankLostError, UsageError
from deltagclip_cli.parts.nested import Tree
from deltagclip_cli.parts.tasks import Loss
from deltagclip_cli.training.program import Eager, StepBatches, Values
from deltagclip_cli.training.ranks import Ranks
from deltagclip_cli.training.ranks.same_numbers import try_out
from deltagclip_cli.training.ranks.shares import Share, SharedBatches
from deltagclip_cli.training.ranks.whole_batch import Shapes, for_whole_batch

if TYPE_CHECKING:
    from deltagclip_cli.runs.hold import HeldFolder
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.training.assembly import Parts
    from deltagclip_cli.training.checkpoints import Saving

T = TypeVar("T")


class OtherRankError(Exception):
    """The first rank raised an error, which it tells itself."""


def is_of_others(error: BaseException | None) -> bool:
    """Return whether an error may come from a rank that is no longer there."""
    words = ("gloo", "nccl", "peer", "socket", "store", "Broken pipe", "Connection")
    while error is not None:
        if isinstance(error, dist.DistError | RankLostError):
            return True
        if isinstance(error, RuntimeError) and any(each in str(error) for each in words):
            return True
        error = error.__cause__
    return False


class Several(Ranks):
    """One of several processes, each with a device; they have met already.

    What lies on a device is added up by the means of that device (NCCL), all else by gloo.

    Args:
        arrived: called wherever this process has come to, before it waits for the others.
    """

    parallel = ""

    def __init__(self, arrived: Callable[[], None] = lambda: None) -> None:
        self.number, self.count = dist.get_rank(), dist.get_world_size()
        self.arrived = arrived
        warnings.filterwarnings("ignore", message="Dropout mask should only be used for testing")
        self.alike: Shapes = frozenset()  # of random numbers that belong to no sample
        self._pending: tuple[dist.Work, Tensor] | None = None

    def __deepcopy__(self, memo: Any) -> Several:
        return self

    @property
    def conditions(self) -> dict[str, Any]:
        return {"ranks": {"count": self.count, "parallel": self.parallel}}

    def same(self, make: Callable[[], T]) -> T:
        self.arrived()
        told: list[Any] = [None]
        if self.number == 0:
            try:
                told = [("made", make())]
            except BaseException:
                dist.broadcast_object_list([("failed", None)], 0)
                raise
        dist.broadcast_object_list(told, 0)
        how, value = told[0]
        if how == "failed":
            raise OtherRankError("the first process ended")
        made: T = value
        return made

    def check_alike(self, facts: Mapping[str, object]) -> None:
        """Refuse ranks that differ in something, by what it is called.

        Raises:
            UsageError: on all of them.
        """
        everyone: list[Any] = [None] * self.count
        dist.all_gather_object(everyone, dict(facts))
        first = everyone[0]
        for number, other in enumerate(everyone):
            for name, value in other.items():
                if first.get(name) != value:
                    raise UsageError(
                        f"rank {number} has another {name} than rank 0: {value}, and there "
                        f"{first.get(name)}.\n"
                        "  All ranks of a trial need the same code and the same data: use one "
                        "environment and one folder of data on all nodes."
                    )

    def agree(self, stops: bool, saves: bool) -> tuple[bool, bool]:
        """Return what any rank wanted after the step before: nobody waits for the others then."""
        self.arrived()
        decided = self._decided()
        wished = torch.tensor([stops, saves], dtype=torch.int32)
        self._pending = dist.all_reduce(wished, dist.ReduceOp.MAX, async_op=True), wished
        return decided

    def part(self) -> None:
        """Wait for what is still on its way to the others, before the end."""
        self._decided()

    def _decided(self) -> tuple[bool, bool]:
        if self._pending is None:
            return False, False
        work, wished = self._pending
        work.wait()
        self._pending = None
        stops, saves = wished.tolist()
        return bool(stops), bool(saves)

    def spread(self, trial: Trial, parts: Parts) -> Parts:
        self.check_alike({"copy of the data": parts.fingerprint})
        smallest = parts.train.sizes[0]
        if smallest < self.count:
            raise UsageError(
                f"a batch of {smallest} samples is smaller than the {self.count} devices that "
                f"share it.\n  Write data.batch_size: {self.count} or more, or fewer devices."
            )
        self.alike = try_out(self, trial, parts, self._look_at)
        train = SharedBatches(parts.train, self.number, self.count)
        evaluated = {
            split: SharedBatches(batches, self.number, self.count)
            for split, batches in parts.evaluated.items()
        }
        steps = parts.steps.over(train)
        return replace(parts, train=train, evaluated=evaluated, steps=steps, ranks=self)

    def _look_at(self, model: nn.Module, outcome: Loss, varies: bool) -> None:
        """Look at a copy of the network that was applied to few samples."""

    def saving(self, checkpoints: Saving, held: HeldFolder) -> Saving:
        return checkpoints if self.number == 0 else _NoSaving()

    def total(self, values: Values) -> Values:
        """Return the sums over all ranks of 0-dim values, in their own precision."""
        self.arrived()
        names = sorted(values)
        told = torch.stack([values[name].double() for name in names])
        dist.all_reduce(told)
        parts = zip(names, told.unbind(), strict=True)
        return {name: each.to(values[name].dtype) for name, each in parts}


class _NoSaving:
    """Leaves checkpoints to the first rank."""

    def save(self, state: dict[str, Any]) -> None: ...

    def wait(self) -> None: ...

    def close(self) -> None: ...


class TogetherEager(Eager):
    """Steps whose gradient the ranks compute together, each that of its share of a batch."""

    def _prepare(self) -> None:
        ranks = self.parts.ranks
        assert isinstance(ranks, Several)
        self._ranks = ranks
        if self.stepper.create_graph:
            raise UsageError(
                f"Optimizer '{self.trial.optimizer.name}' differentiates gradients, which neither "
                "DDP nor FSDP2 does.\n  Train it on one device, with parallel: ddp."
            )

    def _backward(self, batches: StepBatches) -> tuple[Tensor, Values]:
        shares = [each for each in batches if isinstance(each, Share)]
        samples, objectives = sum(each.whole for each in shares), []
        sums: dict[str, list[Tensor]] = {}
        for number, share in enumerate(shares):
            self._ranks.arrived()
            weight = share.weight(samples, is_sum=self.trial.task.is_sum)
            with self._adding_up(last=number == len(shares) - 1), self._whole(share):
                # torch makes a mean over the ranks of what is to be a sum.
                objective, found = self._gradient(*share, weight * self._ranks.count)
            objectives.append(objective.detach() / self._ranks.count)
            for name, value in share.counted(found).items():
                sums.setdefault(name, []).append(value)
        values = {name: torch.stack(each).sum() for name, each in sums.items()}
        totals = self._ranks.total({**values, "the objective": torch.stack(objectives).sum()})
        return totals.pop("the objective"), totals

    def _whole(self, share: Share) -> AbstractContextManager[Any]:
        return for_whole_batch(share, self._ranks.alike)

    @contextmanager
    def _adding_up(self, *, last: bool) -> Iterator[None]:
        """Add gradients up over the ranks behind the last batch of a step, not before."""
        raise NotImplementedError

    def measure(self, model: nn.Module, batch: tuple[Tree, Tree]) -> Values:
        assert isinstance(batch, Share)
        self._ranks.arrived()
        with self._whole(batch):
            outcome: Loss = self.forward(model, *batch)
        return self._ranks.total(batch.counted(outcome.sums))
