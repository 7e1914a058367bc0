"""The loss around the weights of a model: the kernel, the curvature, the smoothness of operations.

The tangent kernel is K = J Jᵀ, J the derivatives of all outputs by all weights: n·C rows, one for
each output of each point, and a column for each weight. J is never made as a whole: blocks of K
come from chunks of the points.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap
from torch.nn import functional

from deltagclip_cli.core import UsageError

if TYPE_CHECKING:
    from deltagclip_cli.parts.tasks import Loss

Product = Callable[[Tensor], Tensor]

MOST_EXACT = 4096
"""Outputs n·C up to which all eigenvalues are computed: 134 MB, and seconds to a minute."""

CHUNK_BYTES = 2**30
"""What the derivatives of one chunk of points may take; two of them are there at a time.

The fewer chunks, the less is computed twice: n/2k times, for k points in a chunk."""

TOLERANCE = 1e-8
"""Relative, of an eigenvalue: two digits more than anybody compares."""

_ROUNDING = float(np.finfo(np.float64).eps)


class Landscape:
    """The loss L(w) = ½‖F(w) - y‖² of all points, at the weights that a model had.

    Everything is computed with a copy of the model in float64, the same bits each time: the least
    eigenvalues of a wide network's kernel are a small part of the largest, and would be lost in the
    rounding of float32. Neither the model nor the state of a generator changes.

    Args:
        model: whose outputs (B, C) are F; UsageError if those of one point depend on others, or
            on chance.
        task: gives L as its objective.
        inputs: all points, (n, ...).
        targets: their classes, (n,).

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
        state = self._model.state_dict()
        for name, each in state.items():
            if hasattr(each, "full_tensor"):  # it is spread over several processes
                state[name] = each.full_tensor()
        self._network.load_state_dict(state)

    def position(self) -> Tensor:
        """Return all weights as one vector (P,), a copy."""
        return _flat(self._trained).detach()

    def is_smooth(self) -> bool:
        """Tell whether F is made of operations that are known to be smooth, which ReLU is not."""
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
        """Return β of these weights: the Hessian's largest eigenvalue, rather above than below."""
        loss = self._task(self._network, self._inputs, self._targets).objective
        gradient = torch.autograd.grad(loss, self._trained, create_graph=True)
        sizes = [each.numel() for each in self._trained]

        def product(vector: Tensor) -> Tensor:
            parts = zip(torch.split(vector, sizes), self._trained, strict=True)
            directions = [part.view_as(each) for part, each in parts]
            images = torch.autograd.grad(gradient, self._trained, directions, retain_graph=True)
            return _flat(images)

        _, found = extreme_eigenvalues(
            product, self._any_vector(sum(sizes)), steps=300, largest_only=True
        )
        return found.value + found.error

    def _any_vector(self, size: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(size, dtype=torch.float64, generator=generator).to(self._inputs.device)


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


def tangent_kernel(network: nn.Module, inputs: Tensor, chunk_bytes: int = CHUNK_BYTES) -> Tensor:
    """Return K, (n·C, n·C), of a network in float64, the outputs of a point beside one another.

    K is about the weights that need a gradient. The derivatives of a chunk of the inputs, (n, ...),
    take ``chunk_bytes`` at most, but no less than those of one point.
    """
    derive = _factors if _is_linear_maps(network, inputs) else _jacobian
    one = derive(network, inputs[:1])
    points = max(1, chunk_bytes // sum(part.nbytes for part in one))
    chunks = [slice(start, start + points) for start in range(0, len(inputs), points)]
    count, outputs = len(inputs), len(one[0].derivatives)
    kernel = inputs.new_empty(count * outputs, count * outputs)
    blocks = kernel.view(count, outputs, count, outputs)
    for number, across in enumerate(chunks):
        rows = derive(network, inputs[across])
        for down in chunks[: number + 1]:
            columns = rows if down == across else derive(network, inputs[down])
            block = _products(rows, columns).view_as(blocks[across, :, down])
            blocks[across, :, down] = block
            blocks[down, :, across] = block.permute(2, 3, 0, 1)
    return kernel


class _Part(NamedTuple):
    """The rows of J for the weights of one tensor, or of one linear map z = W a.

    The derivative of an output by W is the outer product of ∂z and a, and the product of two of
    those is (∂z · ∂z')(a · a'), so that nothing as large as W is made.
    """

    derivatives: Tensor  # of the outputs (B·C, ...): by the weights themselves, or by z
    inputs: Tensor | None = None  # a, (B, ...), where the derivatives are those by z

    @property
    def nbytes(self) -> int:
        return self.derivatives.nbytes + (0 if self.inputs is None else self.inputs.nbytes)


def _jacobian(network: nn.Module, inputs: Tensor) -> list[_Part]:
    """Return the rows as they are: for any network."""

    def output(weights: dict[str, Tensor], point: Tensor) -> Tensor:
        outputs: Tensor = functional_call(network, weights, (point[None],))
        return outputs[0]

    trained = {n: p.detach() for n, p in network.named_parameters() if p.requires_grad}
    derivatives = vmap(jacrev(output), in_dims=(None, 0))(trained, inputs)
    return [_Part(each.flatten(0, 1).flatten(1)) for each in derivatives.values()]


def _factors(network: nn.Module, inputs: Tensor) -> list[_Part]:
    """Return the rows in factors: for networks whose weights are those of linear maps alone."""
    with _noted_calls(network) as calls:
        outputs = network(inputs)
    made = [call.made for call in calls]
    columns = [torch.autograd.grad(column.sum(), made, retain_graph=True) for column in outputs.T]
    parts = []
    for call, *derivatives in zip(calls, *columns, strict=True):
        given = call.given.detach()
        if call.module.bias is not None:  # the weight of one more input, which is always 1
            given = functional.pad(given, (0, 1), value=1.0)
        parts.append(_Part(torch.stack(derivatives, 1).flatten(0, 1), given))
    return parts


def _products(rows: Sequence[_Part], columns: Sequence[_Part]) -> Tensor:
    """Return the products of each row of J with each of some others."""
    total: Tensor | None = None
    for mine, theirs in zip(rows, columns, strict=True):
        products = mine.derivatives @ theirs.derivatives.T
        if mine.inputs is not None and theirs.inputs is not None:
            inner = mine.inputs @ theirs.inputs.T
            height, width = inner.shape
            by_point = products.view(height, len(products) // height, width, -1)
            by_point.mul_(inner[:, None, :, None])
        total = products if total is None else total.add_(products)
    assert total is not None
    return total


class _Call(NamedTuple):
    """A linear map, what it was given and what it made of it."""

    module: nn.Linear
    given: Tensor
    made: Tensor


def _linear_maps(network: nn.Module) -> list[nn.Linear]:
    return [each for each in network.modules() if isinstance(each, nn.Linear)]


@contextmanager
def _noted_calls(network: nn.Module) -> Iterator[list[_Call]]:
    """Note the calls of the linear maps of a network, in their order."""
    calls: list[_Call] = []
    hooks = [
        each.register_forward_hook(
            lambda module, given, made: calls.append(_Call(module, given[0], made))
        )
        for each in _linear_maps(network)
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _is_linear_maps(network: nn.Module, inputs: Tensor) -> bool:
    """Tell whether all weights are of linear maps, each trained and applied once to vectors."""
    maps = _linear_maps(network)
    theirs = [parameter for each in maps for parameter in each.parameters()]
    everything = list(network.parameters())
    if len(theirs) != len(everything) or not all(each.requires_grad for each in theirs):
        return False
    with _noted_calls(network) as calls:
        network(inputs[:1])
    is_once = sorted(id(call.module) for call in calls) == sorted(map(id, maps))
    return is_once and all(call.given.dim() == 2 for call in calls)


def kernel_product(network: nn.Module, inputs: Tensor) -> Product:
    """Return the products K u = J (Jᵀ u): Jᵀ u is linear in u, and its derivative gives J."""
    trained = [each for each in network.parameters() if each.requires_grad]
    outputs = network(inputs).flatten()
    anywhere = torch.zeros_like(outputs, requires_grad=True)
    pulled = torch.autograd.grad(outputs, trained, anywhere, create_graph=True)

    def product(vector: Tensor) -> Tensor:
        directions = torch.autograd.grad(outputs, trained, vector, retain_graph=True)
        (image,) = torch.autograd.grad(pulled, anywhere, directions, retain_graph=True)
        return image

    return product


class Estimate(NamedTuple):
    """An eigenvalue, known to within an error.

    There is one so near to the value. That it is the first or the last, too, is sure enough when
    the error has become small; a search that was cut short may have stopped at another.
    """

    value: float
    error: float


def extreme_eigenvalues(
    product: Product, start: Tensor, *, steps: int = 1000, largest_only: bool = False
) -> tuple[Estimate, Estimate]:
    """Return the least and the largest eigenvalue of the symmetric map whose products are given.

    The least one is found last where many lie close to it, and an error is left then; of
    ``largest_only`` it is whatever it was when the other was found. ``start`` is any vector (P,),
    float64, that is not orthogonal to their eigenvectors.
    """
    low = top = Estimate(math.nan, math.nan)
    for values, residuals in _approximations(product, start, steps):
        low, top = _first(values, residuals), _first(values[::-1], residuals[::-1])
        resolved = TOLERANCE * abs(low.value) + _ROUNDING * len(start) * abs(top.value)
        found = top.error <= TOLERANCE * abs(top.value)
        if found and (largest_only or low.error <= resolved):
            break
    return low, top


def _approximations(
    product: Product, start: Tensor, steps: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield better and better approximations of eigenvalues, ascending, and their residuals' norms.

    Lanczos' method. Not ARPACK, which would keep twenty vectors as long as all weights, and on the
    host. Nothing is made orthogonal again here, so three vectors do: what rounding then adds are
    copies of eigenvalues that were found, which does no harm at the ends (Paige 1980).
    """
    diagonal: list[float] = []
    beside: list[float] = []
    vector, before = start / start.norm(), torch.zeros_like(start)
    due = 1
    for step in range(1, steps + 1):
        image = product(vector)
        if beside:
            image = image - beside[-1] * before
        diagonal.append(float(image @ vector))
        image = image - diagonal[-1] * vector
        norm = float(image.norm())
        if not math.isfinite(norm):
            return
        is_whole = norm <= _ROUNDING * max(map(abs, diagonal))  # the space holds no more
        if step >= due or is_whole or step == steps:
            due = step + max(1, step // 10)
            values, vectors = eigh_tridiagonal(np.array(diagonal), np.array(beside))
            yield values, norm * np.abs(vectors[-1])
        if is_whole:
            return
        beside.append(norm)
        vector, before = image / norm, vector


def _first(values: NDArray[np.float64], residuals: NDArray[np.float64]) -> Estimate:
    """Return the first value with the better bound of its error: |r|, or Kato's |r|²/gap."""
    residual = float(residuals[0])
    if len(values) == 1:
        return Estimate(float(values[0]), residual)
    gap = abs(float(values[0] - values[1])) - float(residuals[1])
    return Estimate(float(values[0]), min(residual, residual**2 / gap) if gap > 0 else residual)


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
    "LogSoftmax", "Logsumexp", "NativeGroupNorm", "NativeLayerNorm", "Prod", "SafeSoftmax",
    "Softmax", "Std", "Var",
}  # fmt: skip
"""By autograd's names. ReLU, max-pooling, abs, clamp and what torch may add are not among them."""


def has_smooth_operations_only(outputs: Tensor) -> bool:
    """Tell whether all that lies between the weights and these outputs is known to be smooth.

    Their graph of autograd holds the operations that were made with trained weights or with what
    came of them, whoever wrote the model.
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
