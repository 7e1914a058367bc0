"""The share of each batch that a rank has: never padded, of one order for all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from deltagclip_cli.parts.nested import Tree, map_tree

if TYPE_CHECKING:
    from deltagclip_cli.parts.datasets.batches import Batches
    from deltagclip_cli.parts.datasets.fetched import FetchedBatches
    from deltagclip_cli.parts.datasets.texts import TokenBatches


class Share(tuple[Tree, Tree]):
    """Inputs and targets of a rank's samples of a batch.

    One that has none holds the first sample of the batch, for it has to make each operation that
    the others make; ``rows`` is 0 then, and it counts for nothing.

    Attributes:
        whole: samples of the batch.
        start: the place in it of the first that is this rank's.
        rows: how many are this rank's.
    """

    whole: int
    start: int
    rows: int

    @classmethod
    def of(cls, batch: tuple[Tree, Tree], whole: int, rows: slice) -> Share:
        """Return a share of a batch of which only its own samples are there."""
        share = cls(batch)
        share.whole, share.start = whole, rows.start
        share.rows = rows.stop - rows.start
        return share

    def weight(self, samples: int, *, is_sum: bool) -> float:
        """Return by what the loss of this share is multiplied to be a part of that of samples."""
        if not self.rows:
            return 0.0
        return 1.0 if is_sum else self.rows / samples

    def counted(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return sums over samples, of which one that only stands in is none."""
        if self.rows:
            return dict(sums)
        return {name: torch.zeros_like(each) for name, each in sums.items()}


def share_of(size: int, number: int, count: int) -> slice:
    """Return which samples of a batch are those of a rank."""
    return slice(size * number // count, size * (number + 1) // count)


class SharedBatches:
    """The batches of one split as a rank has them; ``sizes`` are those of the whole batches."""

    def __init__(
        self,
        batches: Batches | TokenBatches | FetchedBatches | SharedBatches,
        number: int,
        count: int,
    ) -> None:
        self._batches, self._number, self._count = batches, number, count
        self.samples: int = batches.samples
        self.sizes: list[int] = batches.sizes
        self.steps: int = batches.steps
        # Whatever draws random numbers does so for a whole batch, of which the rows are taken then.
        self._takes_rows = not batches.draws
        if self._takes_rows:
            batches.take(self._held)

    def rows(self, size: int) -> slice:
        """Return which samples of a batch of so many are this rank's."""
        return share_of(size, self._number, self._count)

    def _held(self, size: int) -> slice:
        rows = self.rows(size)
        return rows if rows.stop > rows.start else slice(0, 1)

    def iterate(
        self, order: Tensor | None, generator: torch.Generator | None, start: int = 0
    ) -> Iterator[Share]:
        """Yield the shares of one pass from a batch on, as the split itself does batches."""
        for number, batch in enumerate(self._batches.iterate(order, generator, start), start):
            size = self.sizes[number]
            if not self._takes_rows:
                batch = map_tree(itemgetter(self._held(size)), batch)
            yield Share.of(batch, size, self.rows(size))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)
