"""Half a cosine from the full learning rate to a floor."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler


def cosine(optimizer: Optimizer, periods: int, warmup: int, *, floor: float = 0.0) -> LRScheduler:
    """Anneal the learning rate along half a cosine over what follows the warm-up.

    Source: Loshchilov & Hutter, SGDR (arXiv 1608.03983), without restarts.
    """
    return CosineAnnealingLR(optimizer, T_max=periods - warmup, eta_min=floor)
