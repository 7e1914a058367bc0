"""Operations inside a stack that need more than a dimension for the members.

What a model draws at random, each member draws from its own stream. Attention folds the members
into the batch, for which torch has fast kernels, but no rule under ``vmap``. Its rule for linear
layers makes gradients that lie transposed in memory, which all that comes after would copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Fill = Callable[[Tensor, torch.Generator], object]
"""Fills a tensor with random numbers of a stream."""


class PlaceStreams:
    """The streams of random numbers of those members that compute together.

    Args:
        generators: of each place on the device that computes; None of a place that nobody has.
    """

    def __init__(self, generators: Sequence[torch.Generator | None]) -> None:
        self._generators = generators
        self._before: list[Tensor | None] | None = None

    def draw(self, out: Tensor, fill: Fill) -> None:
        """Fill each member's row of ``(places, ...)``; zeros where there is no member."""
        if self._before is None:
            self._before = [None if g is None else g.get_state() for g in self._generators]
        for row, generator in zip(out.unbind(), self._generators, strict=True):
            if generator is None:
                row.zero_()
            else:
                fill(row, generator)

    @property
    def drawn(self) -> bool:
        """Say whether anything was drawn."""
        return self._before is not None

    @contextmanager
    def lent_to(self, others: Sequence[torch.Generator]) -> Iterator[None]:
        """Let others go on where the streams are, and the streams where the others then are."""
        pairs = [
            (generator, other)
            for generator, other in zip(self._generators, others, strict=False)
            if generator is not None
        ]
        for generator, other in pairs:
            other.set_state(generator.get_state())
        yield
        for generator, other in pairs:
            generator.set_state(other.get_state())

    def rewind(self) -> None:
        """Go back to where all streams were, for whoever computes the same once more."""
        for generator, state in zip(self._generators, self._before or (), strict=False):
            if generator is not None and state is not None:
                generator.set_state(state)
        self._before = None


class Memberwise(TorchFunctionMode):
    """Gives each member its own random numbers, and all of them one attention.

    Args:
        place: the number of the place, as ``vmap`` hands it on: a batched 0-dim tensor.
    """

    def __init__(self, streams: PlaceStreams, place: Tensor) -> None:
        super().__init__()
        self._streams, self._place = streams, place

    def __torch_function__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if function is functional.linear:
            return self._linear(*args, **kwargs)
        if function is functional.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        if function in _DROPOUT:
            return self._dropout(_DROPOUT[function], *args, **kwargs)
        if function in _LIKE:
            return self._like(_LIKE[function], *args, **kwargs)
        if function in _IN_PLACE:
            return self._in_place(_IN_PLACE[function], *args, **kwargs)
        return function(*args, **kwargs)

    def _drawn(self, shape: Sequence[int], like: Tensor, fill: Fill, **kind: Any) -> Tensor:
        dtype = kind.get("dtype") or like.dtype
        drawn: Tensor = _Draw.apply(
            self._place, self._streams, tuple(shape), dtype, like.device, fill
        )
        return drawn

    def _dropout(
        self,
        channels_only: bool,
        input: Tensor,
        p: float = 0.5,
        training: bool | None = None,
        inplace: bool = False,
    ) -> Tensor:
        if not (channels_only if training is None else training) or not p:
            return input
        return self._dropped(input, p, input.shape)

    def _dropped(self, values: Tensor, p: float, shape: Sequence[int]) -> Tensor:
        if p >= 1:
            return values * 0
        kept = self._drawn(shape, values, lambda row, g: row.bernoulli_(1 - p, generator=g))
        return values * kept / (1 - p)

    def _like(self, fill: Fill, input: Tensor, **kind: Any) -> Tensor:
        return self._drawn(input.shape, input, fill, **kind)

    def _in_place(self, make: Callable[..., Fill], input: Tensor, *args: Any, **kw: Any) -> Tensor:
        return input.copy_(self._drawn(input.shape, input, make(*args, **kw)))

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if torch.is_autocast_enabled(input.device.type):
            dtype = torch.get_autocast_dtype(input.device.type)
            input, weight = input.to(dtype), weight.to(dtype)
            bias = None if bias is None else bias.to(dtype)
        made: Tensor = _Linear.apply(input, weight, bias)
        return made

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if dropout_p or enable_gqa or any(each.ndim != 4 for each in (query, key, value)):
            return self._written_out(query, key, value, attn_mask, dropout_p, is_causal, scale)
        mixed: Tensor = _Attention.apply(query, key, value, attn_mask, is_causal, scale)
        return mixed

    def _written_out(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        dropout: float,
        is_causal: bool,
        scale: float | None,
    ) -> Tensor:
        """Attention by its definition, whose weights can be dropped by each member's own stream."""
        groups = query.shape[-3] // key.shape[-3] if query.ndim > 2 else 1
        if groups > 1:
            key, value = (each.repeat_interleave(groups, -3) for each in (key, value))
        factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        scores = (query * factor) @ key.transpose(-2, -1)
        if is_causal:
            lower = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
            scores = scores.masked_fill(~lower, -math.inf)
        if mask is not None:
            scores = (
                scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
            )
        weights = scores.softmax(dim=-1)
        if dropout:
            weights = self._dropped(weights, dropout, weights.shape)
        return weights @ value


class _Draw(torch.autograd.Function):
    """Random numbers of each member; nothing of them is differentiated."""

    generate_vmap_rule = False

    @staticmethod
    def forward(*arguments: Any) -> Any:
        raise RuntimeError("random numbers of a stack are drawn within its step alone")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None: ...

    @staticmethod
    def vmap(
        info: Any,
        in_dims: Any,
        place: Tensor,
        streams: PlaceStreams,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device,
        fill: Fill,
    ) -> tuple[Tensor, int]:
        out = torch.empty((info.batch_size, *shape), dtype=dtype, device=device)
        with torch.no_grad():
            streams.draw(out, fill)
        return out, 0


class _Attention(torch.autograd.Function):
    """``scaled_dot_product_attention`` over members and samples at once."""

    generate_vmap_rule = False

    @staticmethod
    def forward(*arguments: Any) -> Any:
        query, key, value, mask, is_causal, scale = arguments
        return functional.scaled_dot_product_attention(
            query, key, value, mask, is_causal=is_causal, scale=scale
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None: ...

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> tuple[Tensor, int]:
        query, key, value, mask, is_causal, scale = arguments
        size = info.batch_size

        query, key, value = (
            _in_front(each, dim, size).flatten(0, 1)
            for each, dim in zip((query, key, value), in_dims, strict=False)
        )
        if mask is not None:
            mask = _in_front(mask, in_dims[3], size)
            missing = [1] * (query.ndim + 1 - mask.ndim)
            mask = mask.reshape(size, *missing, *mask.shape[1:])
            mask = mask.expand(size, len(query) // size, *mask.shape[2:]).flatten(0, 1)
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=is_causal, scale=scale
        )
        return mixed.reshape(size, -1, *mixed.shape[1:]), 0


class _Linear(torch.autograd.Function):
    """``linear`` of all members at once."""

    generate_vmap_rule = False

    @staticmethod
    def forward(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(input, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None: ...

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, input: Tensor, weight: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, int]:
        size = info.batch_size
        input, weight = _in_front(input, in_dims[0], size), _in_front(weight, in_dims[1], size)
        bias = None if bias is None else _in_front(bias, in_dims[2], size)
        rows = input.reshape(size, -1, input.shape[-1])
        made: Tensor = _Products.apply(rows, weight, bias)
        return made.reshape(*input.shape[:-1], weight.shape[1]), 0


class _Products(torch.autograd.Function):
    """``x Wᵀ + b`` for inputs ``(N, R, in)`` and weights ``(N, out, in)``, and its gradients."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        if bias is None:
            return torch.bmm(rows, weight.mT)
        return torch.baddbmm(bias.unsqueeze(1), rows, weight.mT)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        of_rows, of_weight, of_bias = ctx.needs_input_grad
        return (
            torch.bmm(gradient, weight) if of_rows else None,
            torch.bmm(gradient.mT, rows) if of_weight else None,
            gradient.sum(1) if of_bias else None,
        )


def _in_front(each: Tensor, dim: int | None, size: int) -> Tensor:
    return each.expand(size, *each.shape) if dim is None else each.movedim(dim, 0)


def _uniform(row: Tensor, generator: torch.Generator) -> object:
    return row.uniform_(generator=generator)


def _normal(row: Tensor, generator: torch.Generator) -> object:
    return row.normal_(generator=generator)


# whether it drops where nothing else is said
_DROPOUT = {functional.dropout: True, torch.dropout: False}
_LIKE: dict[Any, Fill] = {torch.rand_like: _uniform, torch.randn_like: _normal}
_IN_PLACE: dict[Any, Callable[..., Fill]] = {
    Tensor.bernoulli_: lambda p=0.5: lambda row, g: row.bernoulli_(p, generator=g),
    Tensor.uniform_: lambda a=0.0, b=1.0: lambda row, g: row.uniform_(a, b, generator=g),
    Tensor.normal_: lambda mean=0.0, std=1.0: lambda row, g: row.normal_(mean, std, generator=g),
}
