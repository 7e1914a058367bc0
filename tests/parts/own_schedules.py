"""Schedules as people write them, and what they get wrong."""

from torch.optim.lr_scheduler import LambdaLR, LRScheduler


def straight(optimizer, steps, to=0.0):
    """It falls along a straight line."""
    return LambdaLR(optimizer, lambda step: 1 + (to - 1) * min(1, step / steps))


class Halving(LRScheduler):
    """It halves the rate in each quarter of the epochs."""

    def __init__(self, optimizer, epochs, last_epoch=-1):
        self.quarter = epochs / 4
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        return [rate * 0.5 ** (self.last_epoch // self.quarter) for rate in self.base_lrs]


def nothing(optimizer):
    """It forgets to return the schedule."""
    LambdaLR(optimizer, lambda step: 1.0)


class Mine:
    """It has nothing of a schedule but its step."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def step(self):
        for group in self.optimizer.param_groups:
            group["lr"] *= 0.9


def mistaken(optimizer):
    """It has a mistake in it."""
    return LambdaLR(optimizer, lambda step: 1 / step)
