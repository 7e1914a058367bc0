"""The loss around the weights of a model, and what is measured of it while a trial is trained."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts.tasks import Loss
from deltagclip_cli.theory.kernel import (
    Estimate,
    extreme_eigenvalues,
    kernel_product,
    largest_eigenvalue,
    tangent_kernel,
)
from deltagclip_cli.theory.rounding import ROUNDING, falls_short, slack

MOST_EXACT = 4096
"""Outputs n·C up to which all eigenvalues are computed: 134 MB, and seconds to a minute."""


class Landscape:
    """The loss L(w) = ½‖F(w) - y‖² of all points, at the weights that a model had.

    Everything is computed with a copy of the model in float64, the same bits each time: the least
    eigenvalues of a wide network's kernel are a small part of the largest, and would be lost in the
    rounding of float32. Neither the model nor the state of a generator changes.

    Args:
        model: whose outputs (B, C) are F, and depend for each input on that input alone.
        task: gives L as its objective.
        inputs: all points, (n, ...).
        targets: their classes, (n,).

    Raises:
        UsageError: F of one point depends on other points, or on chance.

    Source: arXiv 2404.08624; β is the smoothness of L, and K = J Jᵀ its tangent kernel.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Callable[[nn.Module, Tensor, Tensor], Loss],
        inputs: Tensor,
        targets: Tensor,
    ) -> None:
        _check(model)
        self._model = model
        self._network = copy.deepcopy(model).double()
        self._trained = [each for each in self._network.parameters() if each.requires_grad]
        self._task = task
        self._inputs = inputs.double()
        self._targets = targets

    @property
    def points(self) -> int:
        """n."""
        return len(self._targets)

    def update(self) -> None:
        """Go to the weights that the model has now."""
        self._network.load_state_dict(self._model.state_dict())

    def position(self) -> Tensor:
        """Return all weights as one vector (P,), a copy."""
        return _flat(self._trained).detach()

    def is_smooth(self) -> bool:
        """Whether F is made of operations that are known to be smooth, which ReLU is not."""
        return has_smooth_operations_only(self._network(self._inputs[:1]))

    def kernel_extremes(self) -> tuple[Estimate, Estimate]:
        """Return λ_min and λ_max of the tangent kernel of all n·C outputs.

        Up to :data:`MOST_EXACT` outputs all eigenvalues are computed, with an error by rounding
        alone; above that, Lanczos' method looks for these two.
        """
        with torch.no_grad():
            outputs = self._network(self._inputs[:1]).numel() * self.points
        if outputs > MOST_EXACT:
            product = kernel_product(self._network, self._inputs)
            return extreme_eigenvalues(product, self._any_vector(outputs))
        kernel = tangent_kernel(self._network, self._inputs)
        if not bool(kernel.isfinite().all()):
            return Estimate(math.nan, 0.0), Estimate(math.nan, 0.0)
        values = torch.linalg.eigvalsh(kernel)
        rounding = torch.finfo(torch.float64).eps * outputs * float(values[-1])
        return Estimate(float(values[0]), rounding), Estimate(float(values[-1]), rounding)

    def smoothness(self) -> float:
        """Return β: the Hessian's largest eigenvalue, to eight digits, rather above than below.

        It is β of these weights alone; the theorem wants the largest along the whole way.
        """
        loss = self._task(self._network, self._inputs, self._targets).objective
        gradient = torch.autograd.grad(loss, self._trained, create_graph=True)
        sizes = [each.numel() for each in self._trained]

        def product(vector: Tensor) -> Tensor:
            parts = zip(torch.split(vector, sizes), self._trained, strict=True)
            directions = [part.view_as(each) for part, each in parts]
            images = torch.autograd.grad(gradient, self._trained, directions, retain_graph=True)
            return _flat(images)

        found = largest_eigenvalue(product, self._any_vector(sum(sizes)))
        return found.value + found.error

    def _any_vector(self, size: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        vector = torch.randn(size, dtype=torch.float64, generator=generator)
        return vector.to(self._inputs.device)


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([each.reshape(-1) for each in tensors])


def _check(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            why = "batch normalisation makes outputs of a sample depend on all others"
        elif isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
            why = "dropout makes outputs depend on chance"
        else:
            continue
        raise UsageError(
            f"{type(model).__name__} has {type(module).__name__}: {why}, and the theorem is about "
            "functions of one input each.\n"
            "  Choose a model without it, such as wide_mlp, or leave out certificate and lr: auto."
        )


_SMOOTH = {
    # that move numbers only
    "AccumulateGrad", "Alias", "AsStrided", "Cat", "Clone", "ConstantPadNd", "Copy", "Expand",
    "Index", "IndexSelect", "Permute", "Repeat", "ReshapeAlias", "Select", "Slice", "Split",
    "SplitWithSizes", "Squeeze", "Stack", "T", "ToCopy", "Transpose", "Unbind", "Unsqueeze",
    "UnsafeView", "View",
    # linear and multilinear ones
    "AdaptiveAvgPool2D", "Add", "Addbmm", "Addmm", "Addmv", "AvgPool2D", "Baddbmm", "Bmm",
    "Convolution", "Div", "Dot", "Embedding", "Linear", "Mean", "Mm", "MkldnnConvolution", "Mul",
    "Mv", "Neg", "Rsub", "Sub", "Sum",
    # functions of one number, where they are defined
    "Celu", "Cos", "Cosh", "Erf", "Exp", "Gelu", "Log", "Log1P", "LogSigmoid", "Mish", "Reciprocal",
    "Rsqrt", "Sigmoid", "Silu", "Sin", "Sinc", "Sinh", "Softplus", "Sqrt", "Tanh",
    # of several
    "LogSoftmax", "Logsumexp", "NativeGroupNorm", "NativeLayerNorm", "Prod", "Softmax", "Std",
    "Var",
}  # fmt: skip
"""By autograd's names. ReLU, max-pooling, abs, clamp and what torch may add are not among them."""


def has_smooth_operations_only(outputs: Tensor) -> bool:
    """Whether all that lies between the weights and these outputs is known to be smooth.

    Args:
        outputs: with their graph of autograd. It holds the operations that were made with trained
            weights or with what came of them, whoever wrote the model.
    """
    seen, left = set(), [outputs.grad_fn]
    while left:
        node: Any = left.pop()
        if node is None or node in seen:
            continue
        if not _is_smooth(node):
            return False
        seen.add(node)
        left += [each for each, _ in node.next_functions]
    return True


def _is_smooth(node: Any) -> bool:
    name = re.sub(r"Backward\d*$", "", node.name().rpartition("::")[2])
    if name == "Elu":  # of which only those have no kink at 0 whose two slopes are the same
        return bool(node._saved_alpha * node._saved_input_scale == 1)
    if name == "Pow":
        exponent = node._saved_exponent  # a number, or a tensor of them
        is_number = isinstance(exponent, (int, float))
        return is_number and float(exponent).is_integer() and exponent >= 0
    return name in _SMOOTH or name.startswith("ScaledDotProduct")


class CertificateProbe:
    """Gives ``theory/...`` metrics of the weights that an epoch begins with.

    A trial with a certificate makes one step an epoch, so these are the weights at which the record
    of the epoch has its ``train/loss``, its ``optim/grad_norm`` and its step size. The last record
    is that of the weights before the last step.

    ============================  =====================================================
    ``theory/distance``           ‖w_t - w_0‖, at every step
    ``theory/lambda_min``         least eigenvalue of the tangent kernel
    ``theory/lambda_max``         its largest one
    ``theory/lambda_error``       how far rounding, or a search cut short, may have put them off
    ``theory/beta``               largest eigenvalue of the Hessian
    ``theory/points``             n, by which ``train/loss`` is to be multiplied for L(w)
    ``theory/smooth``             1 if the network is known to be smooth, else 0
    ============================  =====================================================

    All but the first are there for the first epoch, every so many after it, and the last. So they
    are for a step whose PL* ratio ‖∇L‖²/(2L) is below every λ_min that was measured, for there the
    kernel tells whether PL* is violated or λ_min is less than was known; but as often again as
    planned at the most.

    Args:
        landscape: at the first weights of the trial, w_0, of which a copy is kept.
        every: so many epochs.
        epochs: of the whole trial.
        precision: of the training, ``fp64`` or ``fp32``.
    """

    def __init__(self, landscape: Landscape, *, every: int, epochs: int, precision: str) -> None:
        self._landscape = landscape
        self._start = landscape.position()
        self._every = every
        self._last = epochs - 1
        self._rounding = ROUNDING[precision]
        self._smooth = float(landscape.is_smooth())
        self._least = math.inf  # λ_min so far
        self._first_loss = math.nan
        self._credit = 0  # how many measurements may be made beside those that are planned

    def before(self, epoch: int) -> dict[str, float]:
        """Return the metrics of the weights that come after so many finished epochs."""
        self._landscape.update()
        numbers = {"theory/distance": float((self._landscape.position() - self._start).norm())}
        if epoch % self._every == 0 or epoch == self._last:
            self._credit += 1
            numbers |= self._spectra()
        return numbers

    def after(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return more metrics of the same weights, if the step that was made there asks for it."""
        loss = self._landscape.points * metrics["train/loss"]
        if math.isnan(self._first_loss):
            self._first_loss = loss
        norm = metrics.get("optim/grad_norm", math.nan)
        if "theory/lambda_min" in metrics or not self._credit or not 0 < loss < math.inf:
            return {}
        doubt = slack(self._first_loss, self._rounding) / math.sqrt(loss)
        if not falls_short(norm**2 / (2 * loss), self._least, doubt):
            return {}
        self._credit -= 1
        return self._spectra()

    def state_dict(self) -> dict[str, Any]:
        """Return what a continuation needs to measure at the same steps."""
        return {"least": self._least, "first_loss": self._first_loss, "credit": self._credit}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self._least = state["least"]
        self._first_loss = state["first_loss"]
        self._credit = state["credit"]

    def _spectra(self) -> dict[str, float]:
        low, high = self._landscape.kernel_extremes()
        self._least = min(self._least, low.value)
        return {
            "theory/lambda_min": low.value,
            "theory/lambda_max": high.value,
            "theory/lambda_error": low.error,
            "theory/beta": self._landscape.smoothness(),
            "theory/points": self._landscape.points,
            "theory/smooth": self._smooth,
        }
