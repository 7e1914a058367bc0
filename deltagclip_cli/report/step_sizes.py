"""What runs tell of their step sizes: h/η, and the shares of plain, clipped and floored steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from deltagclip_cli.core import REGIME_FRACTIONS
from deltagclip_cli.results.read.run import Run

STEP_RATIO = "optim/step_size ÷ lr"
TITLES = {
    STEP_RATIO: "Step size, h/η",
    "optim/grad_norm": "Gradient norm, ‖g‖",
    "optim/lr": "Learning rate, η",
}
"""What curves of the steps show, by their names."""

PLAIN, CLIPPED, FLOORED = REGIME_FRACTIONS.values()
NOT_FLOORED = "optim/plain or clipped_fraction"
FRACTIONS = (PLAIN, NOT_FLOORED, CLIPPED, FLOORED)
"""Names of the shares, from the longest steps to the shortest."""

CLIP_RATIO = "grad_clip_ratio"
"""Of the paper's own logs: the share of steps that were not floored."""


def with_ratio(run: Run) -> Run:
    """A run with h/η, the part of the learning rate that its steps had."""
    step, rate = (run.curves.get(f"optim/{name}") for name in ("step_size", "lr"))
    if step is None or rate is None or len(step.values) != len(rate.values):
        return run
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = replace(step, values=step.values / rate.values)
    return replace(run, curves={**run.curves, STEP_RATIO: ratio})


def with_regimes(run: Run) -> Run:
    """A run with the share of floored steps, if its clip ratio tells that."""
    ratio = run.curves.get(CLIP_RATIO)
    if ratio is None or FLOORED in run.curves:
        return run
    floored = replace(ratio, values=1 - ratio.values)
    return replace(run, curves={**run.curves, NOT_FLOORED: ratio, FLOORED: floored})
