"""Steps a schedule when its time comes, whatever kind it is."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR, LRScheduler, ReduceLROnPlateau, SequentialLR

from deltagclip_cli.core import UsageError, load_target, stopped
from deltagclip_cli.parts.schedules import TABLE

Unit = Literal["epoch", "step"]


class ScheduleDriver:
    """A learning-rate schedule, or none, that is told of every step and epoch.

    ``ReduceLROnPlateau`` watches the training loss: a schedule must not look at the test set.
    """

    def __init__(self, schedule: LRScheduler | None, unit: Unit = "epoch") -> None:
        self._schedule = schedule
        self._unit = unit

    def after_step(self) -> None:
        """Take notice of a finished optimizer step."""
        if self._schedule is not None and self._unit == "step":
            self._schedule.step()

    def after_epoch(self, train_loss: float) -> None:
        """Take notice of a finished epoch with this mean training loss."""
        if self._schedule is None or self._unit != "epoch":
            return
        if isinstance(self._schedule, ReduceLROnPlateau):
            self._schedule.step(train_loss)
        else:
            self._schedule.step()

    def state_dict(self) -> dict[str, Any]:
        """The schedule's state; empty without one."""
        return {} if self._schedule is None else self._schedule.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` gave."""
        if self._schedule is not None:
            self._schedule.load_state_dict(state)


def build_schedule(
    name: str,
    options: Mapping[str, Any],
    optimizer: Optimizer,
    *,
    periods: int,
    warmup: int = 0,
    unit: Unit = "epoch",
) -> ScheduleDriver:
    """Make a driver for the schedule called ``name``, behind a linear warm-up.

    Args:
        periods: the length of the training, in units.
        warmup: over how many units η rises linearly: η/(warmup + 1), 2η/(warmup + 1), ..., η.

    Raises:
        UsageError: the schedule refuses its options, or cannot be combined with a warm-up or steps,
            or the warm-up takes the whole training.
    """
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
        schedule = load_target(target)(optimizer, **supplied, **options)
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
    return ScheduleDriver(schedule, unit)
