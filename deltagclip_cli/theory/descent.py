"""Whether an optimizer is gradient descent with one step size h in [ηδ, η], and its δ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What makes a step other than w - h·g: an option, and the value with which it does not.
_PLAIN: dict[str, tuple[Any, str]] = {
    "momentum": (0, "momentum adds earlier gradients to the step"),
    "weight_decay": (0, "weight_decay adds the weights to the gradient"),
    "norm_scope": ("global", "each tensor has a step size of its own"),
    "maximize": (False, "the loss is maximised"),
}


def floor_of(optimizer: Mapping[str, Any]) -> float:
    """δ: the least part of η that a step has. SGD has 1, for its h is η; GClip has 0.

    Args:
        optimizer: its options, ``name`` among them; one of which :func:`objection` has nothing to
            say.
    """
    match optimizer["name"]:
        case "sgd":
            return 1.0
        case "gclip":
            return 0.0
    return min(1.0, float(optimizer["delta"]))


def objection(optimizer: Mapping[str, Any]) -> str:
    """Why the theorem says nothing of an optimizer; empty if it does."""
    if optimizer["name"] not in ("delta_gclip", "gclip", "sgd"):
        return f"{optimizer['name']} is not gradient descent with one step size"
    for option, (plain, why) in _PLAIN.items():
        if optimizer.get(option, plain) != plain:
            return why
    return ""
