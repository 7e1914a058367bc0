"""Seeds from named parts, so that what should be equal between optimizers is equal by design.

Every stream of random numbers of a trial has a name (``init``, ``order``, ``augment``, ...) and
gets its seed from the trial's seed and that name alone. Optimizers compared at one seed so start
from the same weights and see the same batches, and no stream depends on how much another has drawn.
"""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *parts: str | int) -> int:
    """Return a seed in [0, 2**63) for the stream named by ``parts`` under the trial's ``seed``."""
    name = "/".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
