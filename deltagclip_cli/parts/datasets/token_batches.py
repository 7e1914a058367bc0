"""Batches of texts, each padded to the longest text in it and no further."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import torch
from torch import Tensor

from deltagclip_cli.parts.datasets.batches import batch_sizes
from deltagclip_cli.parts.datasets.dataset import Split

_WINDOW = 50  # batches whose texts are sorted together


class TokenBatches:
    """Batches of one split of tokens, of texts that are about equally long.

    What a network computes for padding is wasted, and texts differ in length severalfold. So the
    order is cut into windows of 50 batches; within a window texts go into batches by their length,
    and then all batches are shuffled. Epochs so differ as orders do, while hardly a token of
    padding is left. Which batches there are follows from the order alone.

    Args:
        split: of tokens ``(N, L)``, as ``datasets.batches.place`` returned it.
        batch_size: number of texts in a batch; the last batch is as small as it must be.
        device: that trains; batches come out there.
        padding: the token that rows are filled up with.
    """

    def __init__(
        self, split: Split, *, batch_size: int, device: torch.device, padding: int
    ) -> None:
        self.samples = len(split)
        self.sizes = batch_sizes(self.samples, batch_size)
        self.steps = len(self.sizes)
        self._batch_size = batch_size
        self._device = device
        self._tokens, self._targets = split.inputs, split.targets
        self._lengths = _lengths(split.inputs, padding).cpu()

    def iterate(
        self, order: Tensor | None, generator: torch.Generator | None, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield tokens ``(B, L)``, int64, and targets ``(B,)`` of one pass.

        Args:
            order: an int64 permutation of all samples, on the CPU; None for the longest texts
                first.
            generator: not used: nothing here is random but the order.
            start: number of the first batch.
        """
        for index in self._batches(order)[start:]:
            longest = int(self._lengths[index].max())
            index = index.to(self._tokens.device)
            tokens = self._tokens[:, :longest].index_select(0, index)
            targets = self._targets.index_select(0, index)
            yield tokens.to(self._device).long(), targets.to(self._device)

    def _batches(self, order: Tensor | None) -> list[Tensor]:
        """The samples of each batch."""
        if order is None:
            by_length = self._lengths.argsort(descending=True, stable=True)
            return list(torch.split(by_length, self._batch_size))
        batches = [
            batch
            for window in torch.split(order, _WINDOW * self._batch_size)
            for batch in torch.split(self._sorted(window), self._batch_size)
        ]
        *full, last = batches  # which may be smaller, and stays where it is
        generator = torch.Generator().manual_seed(zlib.crc32(order.numpy().data))
        return [full[i] for i in torch.randperm(len(full), generator=generator)] + [last]

    def _sorted(self, window: Tensor) -> Tensor:
        return window[self._lengths[window].argsort(stable=True)]


def _lengths(tokens: Tensor, padding: int) -> Tensor:
    """The number of tokens ``(N,)`` up to the last that is not padding, at least 1."""
    places = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
    return (places * (tokens != padding)).amax(dim=1).clamp(min=1)
