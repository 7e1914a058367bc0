"""The processes that train one trial together, its ranks: one alone, or one for each device.

A trainer, and what makes its parts and writes its checkpoints, are handed a :class:`Ranks` and ask
it for whatever may take several processes. None of them knows how many there are.

    several         what several have in common: to agree, to add up, to be alike
    replicas        each has the whole network (DDP)
    shards          each has a part of each tensor (FSDP2)
    sharded_checkpoints  what these write, each its part
    same_numbers    whether they come to the numbers of one, tried with few samples
    shares          which samples of a batch a rank has
    whole_batch     operations on all samples of a batch, of which a rank has its share
    process_group   how they are started, meet and end
    watch           what they hear of each other, and who is lost
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any, TypeVar

import torch

if TYPE_CHECKING:
    from torch import nn

    from deltagclip_cli.runs.folder import RunFolder
    from deltagclip_cli.runs.hold import HeldFolder
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.training.assembly import Parts
    from deltagclip_cli.training.checkpoints import Saving
    from deltagclip_cli.training.program import ProgramMaker
    from deltagclip_cli.training.trainer import Trainer

T = TypeVar("T")


class Ranks:
    """The only process that trains a trial.

    Attributes:
        number: of this process, from 0; the first alone writes in the run folder.
        count: of the processes.
    """

    number = 0
    count = 1

    @property
    def conditions(self) -> dict[str, Any]:
        """The facts that ``environment.json`` tells of them."""
        return {}

    def same(self, make: Callable[[], T]) -> T:
        """Return on all ranks what ``make`` returns on the first, or raise on all."""
        return make()

    def spread(self, trial: Trial, parts: Parts) -> Parts:
        """Return the parts of this rank: its share of each batch, and its network."""
        return parts

    def program(self, chosen: Callable[[], ProgramMaker]) -> ProgramMaker:
        """Return what makes the program that carries out the steps."""
        return chosen()

    def copied(self, model: nn.Module) -> nn.Module:
        """Return a copy of a network that was spread."""
        return deepcopy(model)

    def agree(self, stops: bool, saves: bool) -> tuple[bool, bool]:
        """Return what is done after a step: what any rank wants, and on all the same."""
        return stops, saves

    def begin_step(self, trainer: Trainer) -> None:
        """Take notice of a step that a trainer begins, before its batches are made."""

    def end_step(self) -> None:
        """Take notice that it is made."""

    def rescue(self, trainer: Trainer, error: Exception) -> None:
        """Save what can be saved where an error says that another rank is lost."""

    def saving(self, checkpoints: Saving, held: HeldFolder) -> Saving:
        """Return what writes the checkpoints, given what writes those of one process."""
        return checkpoints

    def loaded(self, state: Mapping[str, Any], folder: RunFolder) -> Mapping[str, Any]:
        """Return the state of a checkpoint as the parts of this rank load it."""
        if "shards" not in state:
            return state
        from deltagclip_cli.training.ranks.sharded_checkpoints import read_parts

        return read_parts(state, folder, lambda shape, dtype: torch.empty(shape, dtype=dtype))
