"""Ranks come to the numbers of one process, or are refused: few samples tell before they train."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts.nested import Tree, map_tree, samples_in
from deltagclip_cli.parts.tasks import Loss
from deltagclip_cli.training.chance import other_streams, seed_streams, streams_kept
from deltagclip_cli.training.ranks.shares import Share, share_of
from deltagclip_cli.training.ranks.whole_batch import Draws, Shapes, WholeBatch, for_whole_batch

if TYPE_CHECKING:
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.training.assembly import Parts
    from deltagclip_cli.training.ranks.several import Several

logger = logging.getLogger(__name__)

_CLOSE = 1e-3  # relative: kernels that round numbers to ten bits are nearer than that
_LEAST = 1e-6
_SHAKEN = 0.5  # of weights that begin with zero, and hide what is before them

_LOSS = ""
Numbers = dict[str, Tensor]
"""The loss, and the buffers of the network behind it, by their names."""


def try_out(
    ranks: Several, trial: Trial, parts: Parts, look_at: Callable[[nn.Module, Loss, bool], None]
) -> Shapes:
    """Return the shapes of random numbers that belong to no sample; see that ranks agree with one.

    Each rank has all of some samples, and computes what one process does; then each has its share,
    and they compute it together.

    Args:
        look_at: gets a copy of the network, the loss that it had, and whether it may do something
            else another time, which depends on values or on numbers that are not torch's.

    Raises:
        UsageError: they come to something else, and not by chance.
    """
    trying = _Trying(ranks, trial, parts)
    draws, all_, fewer = Draws(), trying.whole(), trying.whole(left_out=1)
    with draws, all_:
        tried = trying.apply(trying.few)
        look_at(*tried, draws.reads_values or trying.draws_elsewhere)
    if ranks.count == 1:
        return frozenset()
    with fewer:
        trying.apply(trying.cut(slice(0, trying.size - 1)))
    alike = all_.drawn & fewer.drawn
    names = [*sorted(draws.names)]
    if not names and (differs := trying.differing(alike)):
        if not trying.draws_elsewhere:
            raise UsageError(differs)
        names = ["numpy or Python"]
    if names:
        logger.warning(
            "The network draws random numbers by %s, which each of the %d devices does alike for "
            "its own samples: with another number of devices they are others.",
            ", ".join(names),
            ranks.count,
        )
    return alike


class _Trying:
    """Applies copies of a network to few samples, with the same random numbers each time.

    Attributes:
        draws_elsewhere: whether it has drawn from streams that are not torch's.
    """

    def __init__(self, ranks: Several, trial: Trial, parts: Parts) -> None:
        from deltagclip_cli.training.assembly import first_samples

        self._ranks, self._trial, self._parts = ranks, trial, parts
        by_seed = torch.Generator().manual_seed(trial.seed)
        order = torch.randperm(parts.train.samples, generator=by_seed)  # lest all are of one class
        most = 2 * ranks.count + 1  # which no share is an equal part of
        generator = torch.Generator(parts.device)
        self.few = first_samples(parts.train, most, generator, order)
        self.size = samples_in(self.few[1])
        weights = parts.model.named_parameters()
        self._zero = {name for name, each in weights if not each.any()}
        self.draws_elsewhere = False

    def cut(self, rows: slice) -> tuple[Tree, Tree]:
        """Return some of the samples."""
        found: tuple[Tree, Tree] = map_tree(lambda leaf: leaf[rows], self.few)
        return found

    def whole(self, left_out: int = 0) -> WholeBatch:
        """Let operations take the samples, but for so many, for the whole batch."""
        rows = slice(0, self.size - left_out)
        return WholeBatch(Share.of(self.few, rows.stop, rows))

    def apply(self, samples: tuple[Tree, Tree], *, trains: bool = True) -> tuple[nn.Module, Loss]:
        """Apply a copy of the network, in the mode of training or not; return both."""
        device, model = self._parts.device, deepcopy(self._parts.model).train(trains)
        generator = torch.Generator(device).manual_seed(0)
        for name, each in model.named_parameters():
            if name in self._zero:
                shaken = torch.randn(
                    each.shape, generator=generator, dtype=each.dtype, device=device
                )
                each.data = _SHAKEN * shaken
        with streams_kept(device):
            seed_streams(self._trial.seed, "noise", 0)
            before = other_streams()
            outcome = self._parts.task(model, *samples)
            self.draws_elsewhere |= other_streams() != before
        return model, outcome

    def differing(self, alike: Shapes) -> str:
        """Say what is another together than alone, if anything is."""
        for trains in (True, False):
            alone = self._numbers(self.few, nullcontext(), trains=trains)
            together = self._together(alike, trains=trains)
            mine = [name for name, each in alone.items() if not _close(each, together[name])]
            everyone: list[Any] = [None] * self._ranks.count
            dist.all_gather_object(everyone, mine)
            for name in (name for each in everyone for name in each):
                return self._said(name, alone, together)
        return ""

    def _together(self, alike: Shapes, *, trains: bool) -> Numbers:
        rows = share_of(self.size, self._ranks.number, self._ranks.count)
        share = Share.of(self.cut(rows), self.size, rows)
        found = self._numbers(share, for_whole_batch(share, alike), trains=trains)
        weight = share.weight(self.size, is_sum=self._trial.task.is_sum)
        return {**found, **self._ranks.total({_LOSS: found[_LOSS] * weight})}

    def _numbers(
        self, samples: tuple[Tree, Tree], context: AbstractContextManager[Any], *, trains: bool
    ) -> Numbers:
        with context:
            model, outcome = self.apply(samples, trains=trains)
        return {_LOSS: outcome.objective.detach(), **dict(model.named_buffers())}

    def _said(self, name: str, alone: Numbers, together: Numbers) -> str:
        count = self._ranks.count
        if name == _LOSS:
            return (
                f"devices: the loss of {self.size} samples is {float(alone[name]):.6g} on one "
                f"device, and {float(together[name]):.6g} on {count} that share them: the network "
                "or the loss looks at the samples of a batch together.\n"
                "  Train it on one device; or return a loss for each sample, if it is a mean over "
                "what samples have more or less of, such as tokens or weights."
            )
        return (
            f"devices: the buffer '{name}' of the network comes from the samples of a batch, of "
            f"which each of {count} devices has its share alone.\n"
            "  Train it on one device. Only what batch norm measures is that of the whole batch."
        )


def _close(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors differ by no more than rounding does; True if it overflows."""
    if one.shape != other.shape:
        return False
    one, other = (each.detach().to(torch.complex128) for each in (one, other))
    size = float(one.norm())
    return not math.isfinite(size) or float((one - other).norm()) <= _CLOSE * size + _LEAST
