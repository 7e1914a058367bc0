"""A decoder in the manner of GPT-2, small enough to be read at one go.

Source: Radford et al. (2019), with its initialisation: N(0, 0.02²), that of layers which end a
residual branch divided by √(2 · layers). Biases are left out, as in nanoGPT.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from deltagclip_cli.core import UsageError


def gpt(
    shape: tuple[int, ...],
    classes: int,
    vocabulary: int | None = None,
    *,
    layers: int = 6,
    heads: int = 6,
    width: int = 384,
    dropout: float = 0.0,
) -> nn.Module:
    """GPT: a decoder before the norms, of causal attention, with learnt positions and tied weights.

    With its defaults and a small vocabulary it has 10.7 M parameters.

    Args:
        layers: blocks of attention and a perceptron.
        heads: of each attention; they divide the width.
        width: of the embeddings, a quarter of the perceptron's.
        dropout: of embeddings, attention weights and what each branch adds.
    """
    if vocabulary is None or len(shape) != 1:
        raise UsageError(
            f"model gpt reads tokens, but the data have inputs of shape {shape}.\n"
            "  Choose data of tokens with the task language_model, or another model."
        )
    if width % heads:
        near = [each for each in range(1, width + 1) if width % each == 0]
        near.sort(key=lambda each: abs(each - heads))
        raise UsageError(
            f"model gpt: heads is {heads}, which does not divide width {width}.\n"
            f"  Choose for example heads: {near[0]}."
        )
    return GPT(shape[0], vocabulary, layers=layers, heads=heads, width=width, dropout=dropout)


class GPT(nn.Module):
    """Maps tokens ``(N, L)`` to logits ``(N, L, vocabulary)`` of the token behind each."""

    def __init__(
        self, window: int, vocabulary: int, *, layers: int, heads: int, width: int, dropout: float
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.empty(window, width))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(DecoderBlock(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width, bias=False)
        nn.init.normal_(self.positions, std=0.02)
        for name, weight in self.named_parameters():
            if name.endswith(("tokens.weight", "in.weight")):
                nn.init.normal_(weight, std=0.02)
            elif name.endswith("out.weight"):
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * layers))

    def forward(self, tokens: Tensor) -> Tensor:
        values = self.dropout(self.tokens(tokens) + self.positions[: tokens.shape[1]])
        for block in self.blocks:
            values = block(values)
        return functional.linear(self.norm(values), self.tokens.weight)


class DecoderBlock(nn.Module):
    """Causal self-attention and a two-layer perceptron, each after a norm and around a skip."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.attention_norm = nn.LayerNorm(width, bias=False)
        self.attention_in = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.perceptron_norm = nn.LayerNorm(width, bias=False)
        self.perceptron_in = nn.Linear(width, 4 * width, bias=False)
        self.perceptron_out = nn.Linear(4 * width, width, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        """Map ``(N, L, width)`` to the same shape."""
        values = values + self._drop(self._attention(self.attention_norm(values)))
        wide = functional.gelu(self.perceptron_in(self.perceptron_norm(values)))
        return values + self._drop(self.perceptron_out(wide))

    def _attention(self, values: Tensor) -> Tensor:
        samples, length, width = values.shape
        packed = self.attention_in(values).view(samples, length, 3, self.heads, width // self.heads)
        query, key, value = packed.permute(2, 0, 3, 1, 4).unbind(0)
        dropout = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=True
        )
        result: Tensor = self.attention_out(mixed.transpose(1, 2).flatten(2))
        return result

    def _drop(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self.dropout, self.training)
