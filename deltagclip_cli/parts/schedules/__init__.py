"""Learning-rate schedules: our own, and every one of ``torch.optim.lr_scheduler``.

One of ours is called as ``schedule(optimizer, periods, warmup, **options)``: the length of the
training in epochs or steps, and how many of these the warm-up takes. Torch's get the optimizer.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from deltagclip_cli.core import Catalogue, UsageError, compact, load_target, stopped
from deltagclip_cli.source.signatures import classes_in

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

Unit = Literal["epoch", "step"]

# These take Python functions or other schedulers, which a spec cannot write.
_NOT_BY_NAME = ("LRScheduler", "LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler")

TABLE = Catalogue(
    "schedule",
    {
        "multistep": "deltagclip_cli.parts.schedules.multistep:multistep",
        "cosine": "deltagclip_cli.parts.schedules.cosine:cosine",
    },
    supplied=frozenset({"optimizer", "periods", "warmup", "last_epoch", "verbose"}),
    installed=partial(classes_in, "torch.optim.lr_scheduler", *_NOT_BY_NAME),
    spelling=compact,
)


def build_schedule(
    name: str,
    options: Mapping[str, Any],
    optimizer: Optimizer,
    *,
    periods: int,
    warmup: int = 0,
    unit: Unit = "epoch",
) -> LRScheduler:
    """Make the schedule called ``name``, behind a linear warm-up.

    Args:
        periods: the length of the training, in units.
        warmup: over how many units η rises linearly: η/(warmup + 1), 2η/(warmup + 1), ..., η.

    Raises:
        UsageError: the schedule refuses its options, or cannot be combined with a warm-up or steps,
            or the warm-up takes the whole training.
    """
    from torch.optim.lr_scheduler import LinearLR, ReduceLROnPlateau, SequentialLR

    target = TABLE.find(name)
    assert target is not None, "the name was checked with the spec"
    if warmup >= periods:
        raise UsageError(
            f"schedule '{name}': warmup is {warmup} {unit}s, but the training has {periods}, "
            "so that the full learning rate would never be reached.\n"
            f"  Set warmup to at most {periods - 1}, or train for longer."
        )
    supplied = {"periods": periods, "warmup": warmup} if name in TABLE.entries else {}
    warm = (
        LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup) if warmup else None
    )
    try:
        schedule: LRScheduler = load_target(target)(optimizer, **supplied, **options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"schedule '{name}': {stopped(error)}") from None
    if isinstance(schedule, ReduceLROnPlateau) and (warm is not None or unit == "step"):
        raise UsageError(
            f"schedule '{name}': it waits for an epoch's training loss, so it has neither a "
            "warm-up nor 'unit: step'."
        )
    if warm is not None:
        # In torch 2.6, SequentialLR itself does what this warning is about.
        warnings.filterwarnings("ignore", "The epoch parameter in `scheduler.step", UserWarning)
        schedule = SequentialLR(optimizer, [warm, schedule], milestones=[warmup])
    return schedule
