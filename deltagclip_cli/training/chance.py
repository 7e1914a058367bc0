"""The global streams of random numbers, from which parts of one's own may draw."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from deltagclip_cli.core import derive_seed


def seed_streams(seed: int, *parts: str | int) -> None:
    """Begin all streams anew from what is called ``parts`` under the seed of a trial."""
    derived = derive_seed(seed, *parts)
    # Without a GPU, torch would note for each kind of them which lines of code asked for the seed.
    here = torch.manual_seed if torch.cuda.is_available() else torch.default_generator.manual_seed
    here(derived)
    random.seed(derived)
    np.random.seed(derived % 2**32)


def other_streams() -> dict[str, Any]:
    """Return the states of the streams that are not torch's, as plain values."""
    of_numpy: Any = np.random.get_state()
    name, keys, *rest = of_numpy
    return {"python": random.getstate(), "numpy": (name, keys.tolist(), *rest)}


@contextmanager
def streams_kept(device: torch.device) -> Iterator[None]:
    """Let all streams go on afterwards from where they were."""
    others = other_streams()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        restore_streams(others)


def restore_streams(state: Mapping[str, Any]) -> None:
    """Go on from what :func:`other_streams` gave."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
