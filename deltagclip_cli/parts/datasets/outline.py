"""What is known of a data set before it is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch

from deltagclip_cli.parts.datasets.dataset import Dataset, Split, check_samples

Loader = TypeVar("Loader", bound=Callable[..., Any])


@dataclass(frozen=True)
class Outline:
    """The sizes of a data set.

    Args:
        shape: of one input as it is stored.
        classes: number of classes.
        train: number of training samples.
        test: number of test samples.
        dtype: of the inputs.
        making_bytes: the memory that making it takes, besides that of its samples.
        texts: whether the inputs are texts, of ``shape[0]`` tokens at most.
    """

    shape: tuple[int, ...]
    classes: int
    train: int
    test: int
    dtype: torch.dtype = torch.uint8
    making_bytes: int = 0
    texts: bool = False

    @property
    def nbytes(self) -> int:
        """The memory that it takes to have it."""
        sample = math.prod(self.shape) * self.dtype.itemsize + torch.int64.itemsize
        return (self.train + self.test) * sample + self.making_bytes

    def limited(self, *, train_samples: int | None, test_samples: int | None) -> Outline:
        """That of a part of the data set, as :meth:`Dataset.limited` makes it.

        Raises:
            DataError: more samples are asked for than there are.
        """
        return replace(
            self,
            train=check_samples(self.train, train_samples, "train_samples"),
            test=check_samples(self.test, test_samples, "test_samples"),
        )

    def stand_in(self) -> Dataset:
        """A data set of these sizes and no content; for a mode in which tensors have no memory."""
        splits = [
            Split(
                torch.zeros((samples, *self.shape), dtype=self.dtype),
                torch.zeros(samples, dtype=torch.int64),
            )
            for samples in (self.train, self.test)
        ]
        channels = self.shape[0] if len(self.shape) == 3 else 0
        return Dataset(splits[0], splits[1], self.classes, (0.5,) * channels, (0.5,) * channels)


def outlined(outline: Callable[..., Outline | None]) -> Callable[[Loader], Loader]:
    """Say how large the data set of a loader is, without loading it.

    Args:
        outline: called with the arguments of the loader; None if it cannot be known yet.
    """

    def marked(loader: Loader) -> Loader:
        loader.outline = outline  # type: ignore[attr-defined]
        return loader

    return marked
