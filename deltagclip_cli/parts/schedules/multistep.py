"""Divide the learning rate at fixed times, as the paper's experiments do."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR


def multistep(
    optimizer: Optimizer, periods: int, warmup: int, *, milestones: list[int], factor: float = 0.1
) -> LRScheduler:
    """Multiply the learning rate by a factor after each milestone.

    Milestones count from the start of the training, warm-up included: 50 means that the first 50
    epochs run at the full rate. One that lies before the start is a ValueError.
    """
    if any(milestone < 0 for milestone in milestones):
        raise ValueError(f"milestones must not be negative (got {milestones})")
    return MultiStepLR(optimizer, [milestone - warmup for milestone in milestones], gamma=factor)
