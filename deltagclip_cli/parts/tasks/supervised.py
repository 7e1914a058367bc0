"""Outputs that are fitted to targets by any loss."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from deltagclip_cli.core import UsageError, nearest, shortened
from deltagclip_cli.parts.making import own_lines, said_by
from deltagclip_cli.parts.nested import Tree, outlined, samples_in
from deltagclip_cli.parts.tasks import LOSSES, Loss
from deltagclip_cli.parts.tasks.outcome import CheckedTask, check_metric_name, loss_of, total

# Of others torch says itself how outputs and targets are to be shaped.
_ELEMENTWISE = {
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "hinge_embedding_loss",
    "huber_loss", "kl_div", "l1_loss", "mse_loss", "poisson_nll_loss", "smooth_l1_loss",
    "soft_margin_loss",
}  # fmt: skip


class Supervised(CheckedTask):
    """Fit the outputs of a model to the targets, by any loss, and measure anything.

    A loss, or a metric, is called with outputs and targets. One value for each sample is best: a
    mean over samples is then exact whatever the batches. A loss may be one value for all of them as
    well, their mean or sum as ``reduction`` says; a metric their sum.

    Args:
        loss: a name of torch.nn.functional, or one's own; or a mapping of its name and options.
        metrics: likewise, by their names; also ``accuracy``. ``better: higher`` or ``lower`` tells
            which way is good where the name of a metric does not.
        reduction: what is minimised: the mean over the samples of a batch, or their sum.
    """

    def __init__(
        self,
        *,
        loss: Any,
        metrics: Any = None,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        if metrics is not None and not isinstance(metrics, Mapping):
            raise UsageError(
                f"metrics is {shortened(repr(metrics))}.\n"
                "  Write them by their names: metrics: {mae: l1_loss, r2: net.py:r2}"
            )
        self._loss = Measure(loss, "loss", reduction)
        self._metrics: dict[str, Measure] = {}
        for name, each in (metrics or {}).items():
            check_metric_name(name, "task supervised")
            self._metrics[name] = Measure(each, f"metric {name}")
        self._is_sum = reduction == "sum"

    def __call__(self, model: nn.Module, inputs: Tree, targets: Tree) -> Loss:
        """Apply the model to inputs and compare what it returns with the targets."""
        outputs, samples = model(inputs), samples_in(targets)
        if isinstance(outputs, Tensor) and outputs.dtype in (torch.bfloat16, torch.float16):
            outputs = outputs.float()  # lest digits of the loss are lost
        values = self._loss(outputs, targets)
        if not isinstance(values, Tensor):
            raise UsageError(
                f"{self._loss} is {type(values).__name__} {shortened(repr(values))}, which has no "
                "gradient.\n  Return a tensor: one value for each sample, or their mean."
            )
        outcome = loss_of(values, samples, str(self._loss), is_sum=self._is_sum)
        if self._metrics:
            with torch.no_grad():
                for name, metric in self._metrics.items():
                    outcome.sums[name] = total(metric(outputs, targets), samples, str(metric))
        return outcome


class Measure:
    """A loss or a metric, by its name or of one's own, as it is called for each sample.

    Args:
        asked: a name, something that can be called, or a mapping with either as ``name`` and with
            options; a class is made with them first.
        what: it is, for messages.
        reduction: what may be made of all samples at once, where it is the same as of each.
    """

    def __init__(self, asked: Any, what: str, reduction: str = "none") -> None:
        given = dict(asked) if isinstance(asked, Mapping) else {"name": asked}
        self._asked, options = given.pop("name", None), given
        better = options.pop("better", None)
        if better not in (None, "higher", "lower"):
            raise UsageError(f"{what}: better is {shortened(repr(better))}: say higher or lower.")
        name = self._asked if isinstance(self._asked, str) else _name_of(self._asked)
        self._said = what if what.endswith(f" {name}") else f"{what} {name}"
        self._is_elementwise = self._is_for_each = False
        if isinstance(self._asked, str):
            self._is_elementwise = self._asked in _ELEMENTWISE
            at_once = self._is_elementwise and self._asked != "kl_div"  # which warns of its mean
            self._is_for_each = not at_once
            options = {"reduction": reduction if at_once else "none", **options}
            self._function: Callable[[Any, Any], Any] = self._named(self._asked, options)
        elif callable(self._asked):
            takes = inspect.signature(self._asked).parameters
            usual = takes["reduction"].default if "reduction" in takes else None
            if usual in ("mean", "sum") and options.get("reduction", usual) == usual:
                options["reduction"] = "none"
            is_class = isinstance(self._asked, type)
            self._function = self._asked(**options) if is_class else partial(self._asked, **options)
        else:
            raise UsageError(f"{what} is {shortened(repr(asked))}, which cannot be called.")

    def _named(self, name: str, options: Mapping[str, Any]) -> Callable[[Any, Any], Any]:
        if name == "accuracy":
            return accuracy
        if name not in LOSSES:
            raise UsageError(
                f"{self._said}: torch.nn.functional has no such loss"
                f"{nearest(name, [*LOSSES, 'accuracy']) or '.'}\n"
                f"  There are {', '.join(LOSSES)}; one of your own is FILE.py:NAME."
            )
        return partial(getattr(functional, name), **options)

    def __str__(self) -> str:
        return self._said

    def __call__(self, outputs: Any, targets: Tree) -> Any:
        """Compare outputs with targets."""
        shapes = [getattr(each, "shape", None) for each in (outputs, targets)]
        if self._is_elementwise and shapes[0] != shapes[1]:
            raise self._misfit(outputs, targets, "both must be of one shape")
        if self._is_elementwise and not targets.is_floating_point():
            raise self._misfit(outputs, targets, "both must be floating point")
        try:
            values = self._function(outputs, targets)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise self._misfit(outputs, targets, f"{said_by(error)}{own_lines(error)}") from error
        if self._is_for_each and not values.ndim:  # it takes all samples for classes of one
            raise self._misfit(outputs, targets, "outputs must be (samples, classes)")
        return values

    def _misfit(self, outputs: Any, targets: Tree, reason: str) -> UsageError:
        try:
            shown = outlined(outputs)
        except (TypeError, AttributeError):
            shown = f"a {type(outputs).__name__}"
        return UsageError(
            f"{self._said}: the model's outputs are {shown}, the targets {outlined(targets)}: "
            f"{shortened(reason, 600) if chr(10) not in reason else reason}\n"
            "  Change the model's last layer, the targets, or the loss."
        )


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return for each sample whether the largest of its outputs is that of its class."""
    return outputs.argmax(dim=1) == targets


def _name_of(part: Any) -> str:
    return str(getattr(part, "__name__", type(part).__name__))
