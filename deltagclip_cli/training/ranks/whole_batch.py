"""Operations that concern all samples of a batch, on a rank that has its share of them.

Batch norm measures all of them. Random numbers are drawn for all of them, in the order and the bits
in which a single process draws them, and each rank takes those of its own samples. So neither
depends on how many ranks there are, and the streams of all ranks stay alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from types import FunctionType
from typing import Any, TypeAlias, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from deltagclip_cli.training.ranks.shares import Share

_MULTIPLYING = {
    functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d,
    torch.dropout, torch.feature_dropout,
}  # fmt: skip
_MOVING = {functional.alpha_dropout, functional.feature_alpha_dropout}  # drop to no 0
_LIKE = {torch.rand_like, torch.randn_like}
_IN_PLACE = {
    Tensor.bernoulli_, Tensor.cauchy_, Tensor.exponential_, Tensor.geometric_, Tensor.log_normal_,
    Tensor.normal_, Tensor.random_, Tensor.uniform_,
}  # fmt: skip
_OF_SIZE = {torch.rand, torch.randn}

Shapes: TypeAlias = Set[tuple[int, ...]]


class WholeBatch(TorchFunctionMode):
    """Lets operations act on the whole batch while the network is applied to a share of it.

    What is drawn belongs to the samples if its first dimension is a multiple of theirs, such as
    that of attention, which may be flattened with its heads; else all ranks draw it alike.

    Args:
        alike: shapes of what belongs to no sample, such as noise on weights, although it may seem
            so by its first dimension.

    Attributes:
        drawn: shapes of all that was drawn.
    """

    def __init__(self, share: Share, alike: Shapes = frozenset()) -> None:
        super().__init__()
        self._share, self._alike = share, alike
        self.drawn: set[tuple[int, ...]] = set()
        self._held = max(share.rows, 1)  # with one that only stands in

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        arguments: tuple[Any, ...] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        options = options or {}
        if function in _COMPOSED:
            with self:
                return _opened(function)(*arguments, **options)
        acts: Any = _ACTS.get(function)
        if acts is not None:
            with handled():
                answer = acts(self, function, *arguments, **options)
                return function(*arguments, **options) if answer is None else answer
        return function(*arguments, **options)

    def _whole(self, shape: Iterable[int]) -> tuple[int, ...] | None:
        """Return the shape for all samples of what has another for those that are here."""
        shape = tuple(shape)
        self.drawn.add(shape)
        first, *others = shape or (0,)
        if first == 0 or first % self._held or shape in self._alike:
            return None
        return (first // self._held * self._share.whole, *others)

    def _own(self, whole: Tensor) -> Tensor:
        """Return the rows of the samples that are here."""
        factor = len(whole) // self._share.whole
        start = self._share.start if self._share.rows else 0
        return whole[start * factor : (start + self._held) * factor]

    def _drop(
        self,
        function: Callable[..., Tensor],
        input: Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> Tensor | None:
        shape = self._whole(input.shape) if training and p else None
        if shape is None:
            return None
        # Of ones it makes what any other input is multiplied by.
        factors = self._own(function(_empty_as(input, shape).fill_(1), p, True))
        return input.mul_(factors) if inplace else input * factors

    def _move(
        self,
        function: Callable[..., Tensor],
        input: Tensor,
        p: float = 0.5,
        training: bool = False,
        inplace: bool = False,
    ) -> Tensor | None:
        shape = self._whole(input.shape) if training and p else None
        if shape is None:
            return None
        whole = _empty_as(input, shape).zero_()
        start = self._own(whole).storage_offset() // whole.stride(0)
        filled = whole.slice_scatter(input, 0, start, start + len(input))
        moved = self._own(function(filled, p, True))
        return input.copy_(moved) if inplace else moved

    def _like(self, function: Callable[..., Tensor], input: Tensor, **options: Any) -> Any:
        shape = self._whole(input.shape)
        if shape is None:
            return None
        empty = _empty_as(input, shape)
        wants_gradient = options.pop("requires_grad", False)
        return self._own(function(empty, **options)).clone().requires_grad_(wants_gradient)

    def _of_size(self, function: Callable[..., Tensor], *size: Any, **options: Any) -> Any:
        written = size[0] if size and not isinstance(size[0], int) else size
        shape = self._whole(written or options.pop("size", ()))
        if shape is None or "out" in options:
            return None
        return self._own(function(shape, **options)).clone()

    def _in_place(
        self, function: Callable[..., Tensor], tensor: Tensor, *arguments: Any, **options: Any
    ) -> Any:
        shape = self._whole(tensor.shape)
        if shape is None or any(isinstance(each, Tensor) for each in arguments):
            return None
        drawn = function(_empty_as(tensor, shape), *arguments, **options)
        with torch.no_grad():
            return tensor.copy_(self._own(drawn))

    def _bernoulli(
        self, function: Callable[..., Tensor], input: Tensor, *more: Any, **options: Any
    ) -> Any:
        shape = self._whole(input.shape)
        if shape is None or more or set(options) - {"generator"}:
            return None
        whole = _empty_as(input, shape).zero_()
        self._own(whole).copy_(input.detach())
        return self._own(function(whole, **options)).clone()

    def _attend(
        self,
        function: Callable[..., Tensor],
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor | None:
        """Attention as torch writes it out, for no kernel takes a mask of what is dropped."""
        shape = self._whole((*query.shape[:-1], key.shape[-2])) if dropout_p else None
        if shape is None:
            return None
        kept = self._own(functional.dropout(query.new_ones(shape), dropout_p, True)) != 0
        attended: Any = torch.ops.aten._scaled_dot_product_attention_math(
            query, key, value, attn_mask, dropout_p, is_causal, kept,
            scale=scale, enable_gqa=enable_gqa,
        )  # fmt: skip
        return cast("Tensor", attended[0])

    def _norm(
        self,
        function: Callable[..., Tensor],
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor | None:
        if not training:
            return None
        counts = self._share.rows > 0
        applied = _Normalised.apply(input, weight, bias, eps, counts)
        normal, mean, variance, number = applied
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                unbiased = variance * (number / (number - 1).clamp(min=1))
                running_var.lerp_(unbiased.to(running_var.dtype), momentum)
        return cast(Tensor, normal)


def _empty_as(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Return an empty tensor whose numbers lie as those of another do: so they are drawn."""
    strides = tensor.stride()
    order = sorted(range(tensor.ndim), key=lambda dimension: -strides[dimension])
    return torch.empty_permuted(shape, order, dtype=tensor.dtype, device=tensor.device)


def for_whole_batch(share: Share, alike: Shapes) -> AbstractContextManager[Any]:
    """Let operations act on the whole batch, of which a group of one process has all anyway."""
    return nullcontext() if dist.get_world_size() == 1 else WholeBatch(share, alike)


class _Normalised(torch.autograd.Function):
    """``(x - mean) / √(variance + eps) · weight + bias``, by all samples of all ranks.

    As torch's ``SyncBatchNorm``, which is for GPUs alone, and counts whoever has no samples.
    """

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        counts: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        precise = input.to(torch.promote_types(input.dtype, torch.float32))
        others = [n for n in range(input.ndim) if n != 1]
        shape = [1, -1] + [1] * (input.ndim - 2)
        here = precise.new_full((1,), input.numel() // input.shape[1])
        told = torch.cat([precise.sum(others), here]) * counts
        dist.all_reduce(told)
        mean, number = told[:-1] / told[-1], told[-1]
        apart = precise - mean.view(shape)
        squares = apart.square().sum(others) * counts
        dist.all_reduce(squares)
        variance = squares / number
        scale = (variance + eps).rsqrt()
        normal = apart.mul_(scale.view(shape))
        ctx.save_for_backward(normal, scale, number, weight, bias)
        ctx.counts = counts
        ctx.mark_non_differentiable(mean, variance, number)
        made = normal if weight is None else normal * weight.view(shape)
        if bias is not None:
            made = made + bias.view(shape) if weight is None else made.add_(bias.view(shape))
        return made.to(input.dtype), mean, variance, number

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        normal, scale, number, weight, bias = ctx.saved_tensors
        others = [n for n in range(normal.ndim) if n != 1]
        shape = [1, -1] + [1] * (normal.ndim - 2)
        precise = gradient.to(normal.dtype)
        products = precise * normal
        sums = torch.stack([precise.sum(others), products.sum(others)])
        of_bias = None if bias is None else sums[0].to(bias.dtype)
        of_weight = None if weight is None else sums[1].to(weight.dtype)
        told = sums * ctx.counts
        dist.all_reduce(told)
        if not ctx.counts:  # no sample of the batch
            return torch.zeros_like(gradient), of_weight, of_bias, None, None
        mean, slope = (each.view(shape) for each in told / number)
        factor = scale if weight is None else scale * weight
        # In the memory of the products, for a CPU takes longer to find new memory than to count.
        apart = torch.mul(normal, slope, out=products).neg_().add_(precise).sub_(mean)
        of_input = apart.mul_(factor.view(shape)).to(gradient.dtype)
        return of_input, of_weight, of_bias, None, None


_ACTS: dict[Any, Any] = {
    **dict.fromkeys(_MULTIPLYING, WholeBatch._drop),
    **dict.fromkeys(_MOVING, WholeBatch._move),
    **dict.fromkeys(_LIKE, WholeBatch._like),
    **dict.fromkeys(_OF_SIZE, WholeBatch._of_size),
    **dict.fromkeys(_IN_PLACE, WholeBatch._in_place),
    torch.bernoulli: WholeBatch._bernoulli,
    Tensor.bernoulli: WholeBatch._bernoulli,
    functional.scaled_dot_product_attention: WholeBatch._attend,
    functional.batch_norm: WholeBatch._norm,
}

_COMPOSED = {functional.multi_head_attention_forward, functional.gumbel_softmax}


@cache
def _opened(function: Any) -> Callable[..., Any]:
    """Return a function of torch's whose own operations are seen, and which is not seen itself."""
    unseen = {name: lambda *_: False for name in vars(functional) if name.startswith("has_torch_")}
    scope = {**function.__globals__, **unseen}
    opened = FunctionType(function.__code__, scope, argdefs=function.__defaults__)
    opened.__kwdefaults__ = function.__kwdefaults__
    return opened


_depth = 0  # of what is handled


@contextmanager
def handled() -> Iterator[None]:
    """Draw for the whole batch within the context."""
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1


class Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Gathers the operations that draw random numbers, but for those that are handled here.

    Attributes:
        reads_values: whether Python was told a number that was computed, to choose by it perhaps.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()
        self.reads_values = False

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        self.reads_values |= function is torch.ops.aten._local_scalar_dense.default
        draws = torch.Tag.nondeterministic_seeded in function.tags
        if not _depth and draws and not _drops_nothing(function, arguments, options or {}):
            self.names.add(function.name().partition(".")[0].removeprefix("aten::"))
        return function(*arguments, **(options or {}))


def _drops_nothing(function: Any, arguments: Sequence[Any], options: Mapping[str, Any]) -> bool:
    """Return whether an operation could drop something, and does not, such as most attention."""
    schema = function._schema.arguments
    usual = {each.name: each.default_value for each in schema}
    named = zip((each.name for each in schema), arguments, strict=False)
    given = {**usual, **dict(named), **options}
    return bool(given.get("dropout_p", given.get("p")) == 0)
