"""The settings with which the convergence theorem speaks of a trial, and what stands in its way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from deltagclip_cli.spec.schema import TrialSettings

DESCENTS = ("delta_gclip", "gclip", "sgd")
"""Optimizers for which lr: auto means something."""


class Obstacle(NamedTuple):
    """A setting for which there is no certificate."""

    key: str  # of the setting, with dots
    reason: str  # why the theorem says nothing then
    remedy: str  # what it may be instead


def obstacles(settings: TrialSettings) -> list[Obstacle]:
    """Return what stands between an experiment, or a trial, and a certificate."""
    asked = ("data", "task", "precision")
    return [each for key in asked for each in obstacles_of(key, getattr(settings, key))]


def obstacles_of(key: str, value: Any) -> Iterator[Obstacle]:
    """Yield the same for one point of a grid: a key, and what a check made of its value."""
    match key.partition(".")[0]:
        case "data":
            if value.batch_size != "full":
                reason = "steps along the gradient of all points, not of a mini-batch."
                remedy = f"write batch_size: full instead of {value.batch_size}"
                yield Obstacle("data.batch_size", f"the theorem is about {reason}", remedy)
            if value.augment:
                reason = "fixed points, which augmentation changes at every step."
                yield Obstacle("data.augment", f"the theorem is about {reason}", "leave it out")
        case "task":
            loss = value.options.get("loss")  # none in a trial that another version has written
            squared = "the theorem is about the squared loss ½‖F(w) - y‖²"
            if value.name != "classify":
                remedy = "task: {name: classify, loss: squared, reduction: sum}"
                yield Obstacle("task", f"{squared}, which {value.name} has not.", remedy)
            elif loss != "squared":
                reason = f"{squared}; {str(loss).replace('_', '-')} has no minimum to converge to."
                yield Obstacle("task.loss", reason, "write loss: squared and reduction: sum")
            elif value.options.get("reduction") != "sum":
                reason = "the sum over the points; their mean has other μ and β."
                yield Obstacle(
                    "task.reduction", f"the theorem's loss is {reason}", "write reduction: sum"
                )
        case "precision" if value not in ("fp64", "fp32"):
            reason = f"{value} rounds so coarsely that the least eigenvalues cannot be told."
            yield Obstacle("precision", reason, "write precision: fp64, or fp32")
