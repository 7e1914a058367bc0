"""Learning-rate schedules: our own, every one of ``torch.optim.lr_scheduler``, and anybody's.

One is called as ``schedule(optimizer, **options)``, and with what it names of ``epochs`` and
``steps`` of the whole training; ``periods``, its length in the unit of the schedule; and
``warmup``, how many of these the warm-up takes.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING

from deltagclip_cli.core import Catalogue, UsageError, compact
from deltagclip_cli.parts.making import make, wrong_kind
from deltagclip_cli.source.signatures import classes_in

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from deltagclip_cli.spec.schema import Schedule

# These take Python functions or other schedulers, which a spec cannot write.
_NOT_BY_NAME = ("LRScheduler", "LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler")

TABLE = Catalogue(
    "schedule",
    {
        "multistep": "deltagclip_cli.parts.schedules.multistep:multistep",
        "cosine": "deltagclip_cli.parts.schedules.cosine:cosine",
    },
    supplied=frozenset({"optimizer", "periods", "warmup", "last_epoch", "verbose"}),
    offered=frozenset({"epochs", "steps"}),
    positional=1,
    installed=partial(classes_in, "torch.optim.lr_scheduler", *_NOT_BY_NAME),
    spelling=compact,
)


def build_schedule(
    schedule: Schedule, optimizer: Optimizer, *, epochs: int, steps: int
) -> LRScheduler:
    """Make a schedule, behind a linear warm-up: η/(warmup + 1), 2η/(warmup + 1), ..., η.

    Args:
        epochs: of the whole training.
        steps: of the optimizer, in the whole training.

    Raises:
        UsageError: the schedule refuses its options, or cannot be combined with a warm-up or steps,
            the warm-up takes the whole training, or there is no learning rate.
    """
    from torch.optim.lr_scheduler import LinearLR, LRScheduler, ReduceLROnPlateau, SequentialLR

    name, warmup, unit = schedule.name, schedule.warmup, schedule.unit or "epoch"
    periods = steps if unit == "step" else epochs
    if warmup >= periods:
        raise UsageError(
            f"schedule '{name}': warmup is {warmup} {unit}s, but the training has {periods}, "
            "so that the full learning rate would never be reached.\n"
            f"  Set warmup to at most {periods - 1}, or train for longer."
        )
    if not all("lr" in group for group in optimizer.param_groups):
        raise UsageError(
            f"schedule '{name}': the optimizer has no learning rate that it could change.\n"
            "  Remove the schedule, or let all groups of the optimizer have an 'lr'."
        )
    warm = (
        LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup) if warmup else None
    )
    supplied = {"epochs": epochs, "steps": steps, "periods": periods, "warmup": warmup}
    made = make(schedule, optimizer, supplied=supplied)
    if not isinstance(made, LRScheduler):
        hint = "torch.optim.lr_scheduler.LambdaLR makes one of any function of the number of a step"
        raise wrong_kind(schedule, made, "a torch.optim.lr_scheduler.LRScheduler", hint)
    if isinstance(made, ReduceLROnPlateau) and (warm is not None or unit == "step"):
        raise UsageError(
            f"schedule '{name}': it waits for an epoch's training loss, so it has neither a "
            "warm-up nor 'unit: step'."
        )
    if warm is None:
        return made
    # In torch 2.6, SequentialLR itself does what this warning is about.
    warnings.filterwarnings("ignore", "The epoch parameter in `scheduler.step", UserWarning)
    return SequentialLR(optimizer, [warm, made], milestones=[warmup])
