"""The settings with which the convergence theorem speaks of a trial, and what stands in its way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from deltagclip_cli.spec.faults import Where, explained

if TYPE_CHECKING:
    from pydantic_core import InitErrorDetails

    from deltagclip_cli.spec.schema import Experiment, Optimizer, TrialSettings

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


def theorem_faults(
    experiment: Experiment, rates: Sequence[tuple[Where, Optimizer]]
) -> Iterator[InitErrorDetails]:
    """Yield what is wrong with asking for a certificate, or for a rate of 1/β.

    Each value of a grid is looked at alone, as no condition hangs on two of them.

    Args:
        rates: the optimizers that ask for such a rate, with their places.
    """
    values = list(experiment.grid.values())
    for where, each in rates:
        if each.name not in DESCENTS:
            reason = f"it is 1/β, a rate of gradient descent, which {each.name} is not."
            remedy = f"give it a number; auto is for {', '.join(DESCENTS)}"
            yield explained(f"no lr: auto: {reason}", remedy, (*where, "lr"))
    if experiment.certificate is None and not rates:
        return
    asked = "no lr: auto" if experiment.certificate is None else "no certificate"
    found: list[tuple[Where, Obstacle]] = []
    found += [(tuple(each.key.split(".")), each) for each in obstacles(experiment)]
    found += [(("grid", key), each) for key, value in values for each in obstacles_of(key, value)]
    if experiment.certificate is not None:
        written = [("steps", experiment.steps), ("evaluate_every", experiment.evaluate_every)]
        found += [((key,), each) for key, value in written for each in _of_rhythm(key, value)]
        found += [(("grid", key), each) for key, value in values for each in _of_rhythm(key, value)]
    for where, obstacle in found:
        yield explained(f"{asked}: {obstacle.reason}", obstacle.remedy, where)


def _of_rhythm(key: str, value: Any) -> Iterator[Obstacle]:
    """Yield why there is no certificate of a training that counts in steps."""
    if key in ("steps", "evaluate_every") and value is not None:
        reason = "it is measured at every epoch, of which each is one step along all points."
        instead = f"write epochs: {value} instead" if key == "steps" else "leave it out"
        yield Obstacle(key, reason, instead)
