"""What the convergence theorem asks of an experiment, and why it says nothing about others."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from deltagclip_cli.spec.schema import Data, Experiment, Optimizer, Task
    from deltagclip_cli.spec.trial import Trial

AUTO = "auto"
"""As a learning rate: 1/β, with β the largest eigenvalue of the Hessian at the first weights."""

_DESCENTS = ("delta_gclip", "gclip", "sgd")

EIGENVALUES = 1e-6
"""How well β and the kernel's eigenvalues are known, relatively, with digits to spare."""

ROUNDING = {"fp64": 2.0**-52, "fp32": 2.0**-23}
"""Relative, of one number of a training, by its precision."""


def slack(first_loss: float, rounding: float) -> float:
    """What rounding may add to ‖F(w) - y‖/√2, the root of a loss.

    The outputs are as large as the first residuals, about, and each is a sum of some thousand
    products, which cancel; a hundred roundings of the largest were never exceeded.
    """
    return 100 * rounding * math.sqrt(first_loss)


def falls_short(ratio: Any, mu: float, doubt: Any) -> Any:
    """Whether a PL* ratio ‖∇L‖²/(2L), or each of an array, is less than μ by more than rounding.

    Args:
        ratio: as measured.
        mu: what it is to be.
        doubt: what rounding may have done to the root of the loss, relatively. It counts twice in
            L, and as often in the gradient.
    """
    return ratio < mu * (1 - EIGENVALUES - 4 * doubt)


class Obstacle(NamedTuple):
    """A setting for which there is no certificate.

    Args:
        key: of the setting, with dots.
        reason: why the theorem says nothing then.
        remedy: what it may be instead.
    """

    key: str
    reason: str
    remedy: str


def obstacles(experiment: Experiment | Trial) -> list[Obstacle]:
    """What stands between an experiment, or a trial, and a certificate."""
    found = [*_of_data(experiment.data), *_of_task(experiment.task)]
    return found + list(_of_precision(experiment.precision))


def obstacles_of(key: str, value: Any) -> list[Obstacle]:
    """The same for one point of a grid: a key, and what a check made of its value."""
    match key.split(".")[0]:
        case "data":
            return list(_of_data(value))
        case "task":
            return list(_of_task(value))
        case "precision":
            return list(_of_precision(value))
    return []


def wants_auto(optimizer: Optimizer) -> bool:
    """Whether the learning rate is to be found out."""
    return optimizer.options.get("lr") == AUTO


def obstacle_to_auto(optimizer: Optimizer) -> Obstacle | None:
    """Why a learning rate of 1/β means nothing to an optimizer; None if it does."""
    if optimizer.name in _DESCENTS:
        return None
    reason = f"it is 1/β, a rate of gradient descent, which {optimizer.name} is not."
    return Obstacle("lr", reason, f"give it a number; auto is for {', '.join(_DESCENTS)}")


def _of_data(data: Data) -> Iterator[Obstacle]:
    if data.batch_size != "full":
        reason = "the theorem is about steps along the gradient of all points, not of a mini-batch."
        remedy = f"write batch_size: full instead of {data.batch_size}"
        yield Obstacle("data.batch_size", reason, remedy)
    if data.augment:
        reason = "the theorem is about fixed points, which augmentation changes at every step."
        yield Obstacle("data.augment", reason, "leave it out")


def _of_task(task: Task) -> Iterator[Obstacle]:
    if task.name != "classify":
        reason = f"the theorem is about the squared loss ½‖F(w) - y‖², which {task.name} has not."
        yield Obstacle("task", reason, "task: {name: classify, loss: squared, reduction: sum}")
        return
    loss = task.options.get("loss")  # none in a trial that another version has written
    if loss != "squared":
        reason = (
            "the theorem is about the squared loss ½‖F(w) - y‖²; "
            f"{str(loss).replace('_', '-')} has no minimum to converge to."
        )
        yield Obstacle("task.loss", reason, "write loss: squared and reduction: sum")
    elif task.options.get("reduction") != "sum":
        reason = "the theorem's loss is the sum over the points; their mean has other μ and β."
        yield Obstacle("task.reduction", reason, "write reduction: sum")


def _of_precision(precision: str) -> Iterator[Obstacle]:
    if precision not in ("fp64", "fp32"):
        reason = f"{precision} rounds so coarsely that the least eigenvalues cannot be told."
        yield Obstacle("precision", reason, "write precision: fp64, or fp32")
