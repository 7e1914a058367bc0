"""A language model of somebody's own."""

from __future__ import annotations

from torch import Tensor, nn


class Bigram(nn.Module):
    def __init__(self, vocabulary: int, scale: int = 1, padding: int = 3) -> None:
        super().__init__()
        assert (scale, padding) == (16, 3)
        self.logits = nn.Embedding(vocabulary, vocabulary)
        nn.init.zeros_(self.logits.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.logits(tokens)
        return logits
