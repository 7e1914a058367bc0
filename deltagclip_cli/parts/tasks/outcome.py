"""Results of tasks and losses of one's own, made a :class:`Loss` of ours or refused in words."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deltagclip_cli.core import UsageError, shortened
from deltagclip_cli.parts.nested import Tree, leaves, map_tree, samples_in
from deltagclip_cli.parts.tasks import Loss, with_derived

_LOG = logging.getLogger("deltagclip_cli")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TRIED = (8, 64, 512)  # samples: of few it may be that none is right, say, together or apart
_CLOSE = 1e-3  # relative, of sums in float32


def loss_of(values: Tensor, samples: int, where: str, *, is_sum: bool = False) -> Loss:
    """Return the loss of one value for all samples, or of one or more for each of them.

    Args:
        values: the mean over the samples, or their sum; or one row for each sample.
        where: what it is, for messages.
        is_sum: whether the sum is what is minimised.

    Raises:
        UsageError: it is of another shape, or the gradients that are wanted do not reach it.
    """
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.float()  # lest digits of the sums are lost
    if values.ndim:
        check_rows(values, samples, where)
        values = values.sum() if is_sum else values.mean()
    if torch.is_grad_enabled() and not values.requires_grad:
        raise UsageError(
            f"{where} has no gradient: it was not computed from the model's outputs, or by what "
            "cannot be differentiated.\n  Look for .item(), .detach(), argmax or numpy in it."
        )
    loss = values.detach()
    return Loss(values, {"loss": loss if is_sum else loss * samples})


def total(values: Any, samples: int, where: str) -> Tensor:
    """Return a metric summed over samples, of one value for each of them or of their sum."""
    if isinstance(values, Tensor) and not values.ndim:
        return values.detach()
    if isinstance(values, (bool, int, float, np.number, np.bool_)):
        return torch.tensor(float(values), dtype=torch.float64)
    if not isinstance(values, Tensor):
        raise UsageError(
            f"{where} is {_described(values)}.\n"
            "  Return a tensor of one value for each sample, or their sum."
        )
    check_rows(values, samples, where)
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.float()
    summed: Tensor = values.detach().sum()
    return summed if values.numel() == samples else summed * (samples / values.numel())


def check_rows(values: Tensor, samples: int, where: str) -> None:
    """Refuse what has not one row for each sample."""
    if len(values) != samples or not values.numel():
        raise UsageError(
            f"{where} is of shape {tuple(values.shape)} for {samples} samples.\n"
            "  Return one value for each sample, or one for all."
        )
    if values.ndim == 2 and samples > 1 and values.shape == (samples, samples):
        raise UsageError(
            f"{where} is of shape {tuple(values.shape)} for {samples} samples, each with each: "
            "outputs and targets are of different shapes.\n"
            "  Give both the same shape, such as by outputs.squeeze(1)."
        )


def outcome_of(returned: Any, samples: int, where: str) -> Loss:
    """Return the :class:`Loss` of what a task of one's own returns.

    That is a loss as :func:`loss_of` takes it, or ``(loss, {metric: values})``, or a Loss.
    """
    if isinstance(returned, Loss):
        if "loss" not in returned.sums:
            raise UsageError(f"{where} returns a Loss without its sum.\n  Add sums['loss'].")
        return returned
    loss: Any = returned
    metrics: Mapping[Any, Any] = {}
    if isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], Mapping):
        loss, metrics = returned
    if not isinstance(loss, Tensor):
        hint = "Return a loss with a gradient, or (loss, {'metric': values})."
        raise UsageError(f"{where} returns {_described(returned)}.\n  {hint}")
    outcome = loss_of(loss, samples, f"the loss of {where}")
    for name, values in metrics.items():
        check_metric_name(name, where)
        outcome.sums[name] = total(values, samples, f"metric {name} of {where}")
    return outcome


def check_metric_name(name: object, where: str) -> None:
    """Refuse a name that is not a word, or is that of the loss."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == "loss":
        reason = "that is the loss" if name == "loss" else "names hold letters, digits and _ . -"
        raise UsageError(f"{where}: a metric cannot be called {name!r}: {reason}.")


class CheckedTask:
    """A task whose loss and metrics somebody has written, to be looked at by :func:`check_task`."""


class OwnTask(CheckedTask):
    """A function of one's own, ``task(model, inputs, targets)``, as a task.

    Args:
        name: for messages.
        derived: makes further metrics of the means of all over the samples; None for none.
    """

    def __init__(
        self,
        function: Callable[[nn.Module, Tree, Tree], Any],
        name: str,
        derived: Callable[[dict[str, float]], Any] | None = None,
    ) -> None:
        self._function, self._where, self._derived = function, f"task {name}", derived
        self._names: dict[bool, set[str]] = {}  # of metrics, of a model that trains or not

    def __call__(self, model: nn.Module, inputs: Tree, targets: Tree) -> Loss:
        """Call the function and make a Loss of what it returns."""
        returned = self._function(model, inputs, targets)
        outcome = outcome_of(returned, samples_in(targets), self._where)
        names = self._names.setdefault(model.training, set(outcome.sums))
        if set(outcome.sums) != names:
            raise UsageError(
                f"{self._where} returns {', '.join(outcome.sums)}, and did return "
                f"{', '.join(sorted(names))}.\n  Return the same metrics for every batch."
            )
        return outcome

    def derived(self, means: dict[str, float]) -> dict[str, float]:
        """Return what is no mean over samples, made of all that are, as numbers by their names."""
        if self._derived is None:
            return {}
        made = self._derived(dict(means))
        if not isinstance(made, Mapping):
            raise UsageError(
                f"{self._where}: derived returns {_described(made)}.\n"
                "  Return {'metric': number}, made of the means that it is given."
            )
        for name, value in made.items():
            check_metric_name(name, f"{self._where}: derived")
            if not isinstance(value, (int, float)):
                hint = "Return a number, such as by float(...)."
                raise UsageError(
                    f"{self._where}: derived: {name} is {_described(value)}.\n  {hint}"
                )
        return {name: float(value) for name, value in made.items()}


Task = Callable[[nn.Module, Tree, Tree], Loss]


def check_task(
    task: Task, model: nn.Module, first: Callable[[int], tuple[Tree, Tree]], name: str
) -> None:
    """Refuse a loss without gradient, and metrics that are no sums over samples.

    The model is put into evaluation mode.

    Args:
        first: gives inputs and targets of the first samples, so many or all there are.
    """
    model.eval()
    with torch.enable_grad():
        outcome = task(model, *first(2))
    with_derived(task, {metric: float(each) for metric, each in outcome.sums.items()})
    for count in _TRIED:
        inputs, targets = first(count)
        is_unclear = check_additive(task, model, inputs, targets, name)
        if not is_unclear or samples_in(targets) < count:
            break


@torch.inference_mode()
def check_additive(task: Task, model: nn.Module, inputs: Tree, targets: Tree, name: str) -> bool:
    """Refuse metrics that are other for samples together than for the same samples apart.

    What differs from one time to the next, by chance, is not looked at, nor is a batch that cannot
    be cut into samples. Return whether some metric was zero everywhere, so that more samples may
    tell more.
    """
    samples = samples_in(targets)
    if samples < 2 or any(len(leaf) != samples for leaf in leaves((inputs, targets))):
        return False
    cut = max(1, samples // 3)
    sizes = (samples, samples, cut, samples - cut)
    places = (slice(0, samples), slice(0, samples), slice(0, cut), slice(cut, samples))
    measured = [task(model, *_taken((inputs, targets), place)).sums for place in places]
    unknown = False
    for metric in measured[0]:
        whole, again, one, other = (float(sums[metric]) for sums in measured)
        if not math.isfinite(whole) or not _close(whole, again):
            continue
        unknown |= whole == one == other == 0
        if not _close(whole, one + other):
            _refuse(name, metric, (whole, one, other), (sizes[0], *sizes[2:]))
    return unknown


def _refuse(
    name: str, metric: str, sums: tuple[float, float, float], sizes: tuple[int, int, int]
) -> None:
    whole, one, other = sums
    means = [value / size for value, size in zip(sums, sizes, strict=True)]
    if metric == "loss":
        if _close(means[0], means[1] + means[2]):
            raise UsageError(
                f"the loss of task {name} is a sum over samples where a mean was said: "
                f"{means[0]:.4g} of {sizes[0]} samples together, {means[1]:.4g} and {means[2]:.4g} "
                f"of {sizes[1]} and {sizes[2]} of them.\n"
                "  Return the mean, or one loss for each sample; or write reduction: sum."
            )
        _LOG.warning(
            "the loss of task %s depends on which samples are in a batch together, so that what is "
            "measured hangs on data.batch_size and data.evaluation_batch_size.",
            name,
        )
        return
    weighed = (one * sizes[1] + other * sizes[2]) / sizes[0]
    reason = "it is a mean over a batch" if _close(whole, weighed) else "it depends on the batch"
    raise UsageError(
        f"metric {metric} of task {name} is not a sum over samples: {whole:.4g} of {sizes[0]} "
        f"samples together, {one:.4g} and {other:.4g} of {sizes[1]} and {sizes[2]} of them; "
        f"{reason}.\n  Return one value for each sample, without .mean(), or their sum."
    )


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_CLOSE, abs_tol=1e-6)


def _taken(tree: Tree, place: slice) -> Any:
    return map_tree(lambda leaf: leaf[place], tree)


def _described(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple ({', '.join(type(each).__name__ for each in value)})"
    return f"{type(value).__name__} {shortened(repr(value))}"
