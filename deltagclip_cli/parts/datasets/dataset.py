"""A data set in memory: two splits of inputs and targets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deltagclip_cli.core import DataError


@dataclass(frozen=True)
class Split:
    """Samples and their labels.

    Args:
        inputs: uint8 images ``(N, C, H, W)``, floating point vectors ``(N, D)``, or int32 tokens
            ``(N, L)``, each row filled up with padding at its end.
        targets: int64 class numbers ``(N,)``.
    """

    inputs: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        assert len(self.inputs) == len(self.targets)
        assert self.targets.dtype == torch.int64

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Dataset:
    """A training and a test split.

    Args:
        train: what a model learns from.
        test: what it is evaluated on.
        classes: number of classes.
        mean: of every channel over the training images, scaled to [0, 1]; None without images.
        std: the standard deviations that belong to ``mean``.
        padding: the token that rows of tokens are filled up with; None if there are none.
    """

    train: Split
    test: Split
    classes: int
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    padding: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input as it is stored: ``(C, H, W)``, ``(D,)`` or ``(L,)``."""
        return tuple(self.train.inputs.shape[1:])

    def limited(
        self, *, train_samples: int | None = None, test_samples: int | None = None
    ) -> Dataset:
        """The first samples of every class, in the order of the data set; None keeps all.

        Raises:
            DataError: more samples are asked for than there are.
        """
        return replace(
            self,
            train=_limited(self.train, train_samples, "train_samples"),
            test=_limited(self.test, test_samples, "test_samples"),
        )


def check_samples(there: int, wanted: int | None, name: str) -> int:
    """How many samples of a split are used.

    Raises:
        DataError: more are wanted than there are.
    """
    samples = there if wanted is None else wanted
    if not 1 <= samples <= there:
        raise DataError(
            f"{name} is {samples}, but this split has {there} samples.\n"
            f"  Set it to a number from 1 to {there}, or leave it out to use all."
        )
    return samples


def _limited(split: Split, wanted: int | None, name: str) -> Split:
    samples = check_samples(len(split), wanted, name)
    if samples == len(split):
        return split
    kept = _balanced(split.targets, samples)
    return Split(split.inputs[kept], split.targets[kept])


def _balanced(targets: Tensor, samples: int) -> Tensor:
    """Indices, ascending, of ``samples`` samples, as many of each class as the data allow."""
    by_class = torch.argsort(targets, stable=True)
    counts = torch.bincount(targets)
    starts = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    rank = torch.empty_like(targets)  # how many samples of the same class come before
    rank[by_class] = torch.arange(len(targets)) - starts
    first = torch.argsort(rank * len(counts) + targets)[:samples]
    return first.sort().values


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every channel of uint8 images, scaled to [0, 1].

    Computed from counts of the 256 values, so that it is exact and the same on every machine. A
    channel of one value has the standard deviation 1, which leaves it unscaled.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in images.unbind(1):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = float(share @ values)
        means.append(mean)
        deviations.append(float(share @ (values - mean).square()) ** 0.5 or 1.0)
    return tuple(means), tuple(deviations)
