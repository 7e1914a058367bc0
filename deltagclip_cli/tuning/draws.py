"""Draws of settings, as a function of the spec and their number alone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Literal

from deltagclip_cli.core import derive_seed
from deltagclip_cli.spec.axes import Distribution


def drawn(
    space: Mapping[str, Distribution],
    sampler: Literal["sobol", "random"],
    seed: int,
    count: int,
    *parts: str | int,
) -> list[dict[str, Any]]:
    """Draw settings: the first ones are the same, however many follow.

    Args:
        space: of each option; the order of its keys changes nothing.
        sampler: ``sobol`` spreads them evenly over the space (Owen's scrambling of Sobol's
            sequence, by scipy); ``random`` draws each by itself.
        seed: of the sampler.
        parts: what tells these draws from others with the same seed, such as a label.

    Returns:
        ``count`` settings, each with a value for every option.
    """
    options = sorted(space)
    shares = _sobol if sampler == "sobol" else _independent
    rows = shares(derive_seed(seed, "draws", *parts), count, len(options))
    return [
        {option: space[option].at(share) for option, share in zip(options, row, strict=True)}
        for row in rows
    ]


def _sobol(seed: int, count: int, options: int) -> Sequence[Sequence[float]]:
    from scipy.stats import qmc

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no power of two is as balanced: nor are budgets
        rows: Sequence[Sequence[float]] = (
            qmc.Sobol(options, seed=seed % 2**32).random(count).tolist()
        )
    return rows


def _independent(seed: int, count: int, options: int) -> Sequence[Sequence[float]]:
    random = Random(seed)
    return [[random.random() for _ in range(options)] for _ in range(count)]
