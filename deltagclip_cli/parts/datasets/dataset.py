"""A data set in memory, what is known of it before it is loaded, and its batches.

The whole split lies on the device that trains, if it fits, so that a batch costs an index, a
conversion and nothing that waits: no worker processes, no collation, no copy per sample.
"""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Union

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deltagclip_cli.core import DataError, listed
from deltagclip_cli.parts.nested import (
    Tree,
    leaves,
    map_tree,
    shapes,
)

if TYPE_CHECKING:
    from deltagclip_cli.parts.datasets.fetched import Items

Augmentation = Callable[[Tensor, torch.Generator], Tensor]
Loader = TypeVar("Loader", bound=Callable[..., Any])
Samples: TypeAlias = Union["Split", "Items"]  # in memory, or fetched a batch at a time

Numbers: TypeAlias = NDArray[np.float64]

_LOG = logging.getLogger("deltagclip_cli")
_BLOCKS, _BLOCK_BYTES = 1024, 2**16  # of a long row, 64 MiB together
_WIDER = {torch.uint16: torch.int32, torch.uint32: torch.int64}  # which devices cannot gather


@dataclass(frozen=True)
class Split:
    """Samples and their labels, a row of every tensor for each."""

    # uint8 images ``(N, C, H, W)``, floating point vectors ``(N, D)``, int32 tokens ``(N, L)``,
    # each row filled up with padding at its end; or any tree of a user's own
    inputs: Tree
    targets: Tree  # int64 class numbers ``(N,)``, or any tree of a user's own

    def __post_init__(self) -> None:
        assert len({len(leaf) for leaf in self._leaves()}) == 1

    def __len__(self) -> int:
        return len(next(leaves(self.targets)))

    def _leaves(self) -> Iterator[Tensor]:
        yield from leaves(self.inputs)
        yield from leaves(self.targets)

    @property
    def nbytes(self) -> int:
        """The memory that all samples take."""
        return sum(leaf.nbytes for leaf in self._leaves())

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Split:
        """Return a split of what a function makes of each tensor."""
        return Split(map_tree(function, self.inputs), map_tree(function, self.targets))

    def placed(self, function: Callable[[Tensor], Tensor]) -> Split:
        """Return the same samples where a function puts each tensor."""
        return self.mapped(function)

    def example(self) -> tuple[Tree, Tree]:
        """Return inputs and targets of the first two samples, or of the only one."""
        first = self.mapped(lambda leaf: leaf[:2])
        return first.inputs, first.targets

    def limited(self, samples: int) -> Split:
        """Return the first samples of every class, or simply the first where there are none."""
        if samples == len(self):
            return self
        if not are_classes(self.targets):
            return self.mapped(lambda leaf: leaf[:samples])
        kept = _balanced(self.targets, samples)
        return self.mapped(lambda leaf: leaf[kept])

    def checksum(self, before: int) -> int:
        """Return a checksum of all that is there, behind one of what came before."""
        for leaf in self._leaves():
            before = zlib.crc32(leaf.contiguous().view(torch.uint8).numpy().data, before)
        return before


@dataclass(frozen=True)
class Windows(Split):
    """Samples that are cut from one row of tokens, end to end; each predicts what follows it.

    Inputs ``(N, window)`` and targets, which are the tokens one further on, are views of that row:
    it is there but once, and may be a file that is mapped into memory. What is left over at its end
    is left out.
    """

    tokens: Tensor  # ``(N * window + 1,)``, whole numbers of any type
    window: int  # how many tokens a sample has

    @classmethod
    def cut(cls, tokens: Tensor, window: int) -> Windows:
        """Cut a row that is longer than a window."""
        samples = (len(tokens) - 1) // window
        tokens = tokens[: samples * window + 1]
        inputs, targets = (each.view(samples, window) for each in (tokens[:-1], tokens[1:]))
        return cls(inputs, targets, tokens, window)

    @property
    def nbytes(self) -> int:
        """The memory that the row takes where it is placed."""
        return len(self.tokens) * _WIDER.get(self.tokens.dtype, self.tokens.dtype).itemsize

    def placed(self, function: Callable[[Tensor], Tensor]) -> Windows:
        """Return the same samples where a function puts the row."""
        return self.cut(function(self.tokens), self.window)

    def limited(self, samples: int) -> Windows:
        """Return the first samples."""
        return self.cut(self.tokens[: samples * self.window + 1], self.window)

    def checksum(self, before: int) -> int:
        """Return a checksum of the row, of blocks all over it if it is long."""
        row = self.tokens.view(torch.uint8).numpy()
        if len(row) <= _BLOCKS * _BLOCK_BYTES:
            return zlib.crc32(row.data, before)
        last = len(row) - _BLOCK_BYTES
        for start in (number * last // (_BLOCKS - 1) for number in range(_BLOCKS)):
            before = zlib.crc32(row[start : start + _BLOCK_BYTES].data, before)
        return before


def are_classes(targets: Tree) -> bool:
    """Return whether targets are class numbers, one a sample."""
    return isinstance(targets, Tensor) and targets.ndim == 1 and targets.dtype == torch.int64


def are_images(inputs: Tree) -> bool:
    """Return whether inputs are images as they are stored, ``(N, C, H, W)`` from 0 to 255."""
    return isinstance(inputs, Tensor) and inputs.ndim == 4 and inputs.dtype == torch.uint8


@dataclass(frozen=True)
class Dataset:
    """A training and a test split, and perhaps one for validation."""

    train: Samples  # what a model learns from
    test: Samples  # what it is evaluated on
    classes: int  # number of classes, or of outputs that the targets ask for; 0 if that is unknown
    # of every channel over the training images, scaled to [0, 1]; None without images
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None  # the standard deviations that belong to ``mean``
    # the token that rows of tokens are filled up with; None if there are none
    padding: int | None = None
    validation: Samples | None = None  # what choices may look at
    target_scale: float = 1.0  # what 1 of the targets is in the unit of their file
    vocabulary: int | None = None  # how many tokens there are; None if inputs are no tokens
    measured: bool = False  # whether ``mean`` and ``std`` are those of the training images here
    # how many of the first columns of inputs have mean 0 and deviation 1 over the training part,
    # as have all targets that are real numbers; None if nothing was standardized
    standardized: int | None = None

    @property
    def splits(self) -> dict[str, Samples]:
        """The splits by their names, in the order in which they are told of."""
        splits = {"train": self.train, "test": self.test}
        return splits if self.validation is None else {**splits, "validation": self.validation}

    @property
    def shape(self) -> Any:
        """The shape of one input as it is stored: ``(C, H, W)``, ``(D,)``, ``(L,)``, or a tree."""
        return shapes(self.train.example()[0])

    @property
    def targets_shape(self) -> Any:
        """The shape of the targets of one sample, ``()`` for a class; or a tree of shapes."""
        return shapes(self.train.example()[1])

    def limited(
        self, *, train_samples: int | None = None, test_samples: int | None = None
    ) -> Dataset:
        """The first samples of every class, in the order of the data set; None keeps all."""
        return replace(
            self,
            train=self.train.limited(
                check_samples(len(self.train), train_samples, "train_samples")
            ),
            test=self.test.limited(check_samples(len(self.test), test_samples, "test_samples")),
        )


def check_samples(there: int, wanted: int | None, name: str) -> int:
    """Return how many samples of a split are used; DataError if more are wanted than there are."""
    samples = there if wanted is None else wanted
    if not 1 <= samples <= there:
        raise DataError(
            f"{name} is {samples}, but this split has {there} samples.\n"
            f"  Set it to a number from 1 to {there}, or leave it out to use all."
        )
    return samples


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


def column_statistics(values: Numbers, names: Sequence[str], data: str) -> tuple[Numbers, Numbers]:
    """Return the mean and the standard deviation of each column ``(N, D)``, whatever is NaN there.

    A column that is constant has the standard deviation 1, which makes it 0 everywhere; that is
    logged, with the names of such columns and of the data set. Each column needs a number.
    """
    sums, counts, gaps = values.sum(axis=0), np.full(values.shape[1], len(values)), None
    if np.isnan(sums).any():
        gaps = np.isnan(values)
        sums, counts = np.where(gaps, 0, values).sum(axis=0), counts - gaps.sum(axis=0)
    means = sums / counts
    around = values - means
    if gaps is not None:
        around[gaps] = 0
    deviations = np.sqrt(np.square(around, out=around).sum(axis=0) / counts)
    # Of what is constant a mean rounds to another number, in some last digit.
    constant = deviations <= 1e-12 * np.abs(means)
    if constant.any():
        same = [name for name, is_same in zip(names, constant, strict=True) if is_same]
        _LOG.warning(
            "data %s: %s constant in the training part: nothing is learnt from it.",
            data,
            f"{listed([repr(name) for name in same])} {'is' if len(same) == 1 else 'are'}",
        )
    return means, np.where(constant, 1.0, deviations)


@dataclass(frozen=True)
class Outline:
    """The sizes of a data set."""

    shape: tuple[int, ...]  # of one input as it is stored
    classes: int  # number of classes
    train: int  # number of training samples
    test: int  # number of test samples
    dtype: torch.dtype = torch.uint8  # of the inputs
    making_bytes: int = 0  # the memory that making it takes, besides that of its samples
    texts: bool = False  # whether the inputs are texts, of ``shape[0]`` tokens at most
    validation: int = 0  # number of samples that choices may look at
    targets_shape: tuple[int, ...] = ()  # of the targets of one sample, which are classes if int64
    targets_dtype: torch.dtype = torch.int64
    vocabulary: int | None = None  # how many tokens there are; None if inputs are no tokens

    @property
    def nbytes(self) -> int:
        """The memory that it takes to have it."""
        sample = math.prod(self.shape) * self.dtype.itemsize
        sample += math.prod(self.targets_shape) * self.targets_dtype.itemsize
        return (self.train + self.validation + self.test) * sample + self.making_bytes

    def limited(self, *, train_samples: int | None, test_samples: int | None) -> Outline:
        """Return the outline of a part of the data set, as :meth:`Dataset.limited` makes it."""
        return replace(
            self,
            train=check_samples(self.train, train_samples, "train_samples"),
            test=check_samples(self.test, test_samples, "test_samples"),
        )

    def stand_in(self) -> Dataset:
        """A data set of these sizes whose samples are alike, of the last class."""
        target = self.classes - 1 if self.targets_dtype == torch.int64 else 0
        train, test, validation = (
            Split(
                torch.zeros((n, *self.shape), dtype=self.dtype),
                torch.full((n, *self.targets_shape), target, dtype=self.targets_dtype),
            )
            for n in (self.train, self.test, self.validation)
        )
        channels = self.shape[0] if len(self.shape) == 3 else 0
        made = Dataset(train, test, self.classes, (0.5,) * channels, (0.5,) * channels)
        there = validation if len(validation) else None
        return replace(made, validation=there, vocabulary=self.vocabulary)


def described(
    outline: Callable[..., Outline | None], files: Callable[..., Sequence[str]] | None = None
) -> Callable[[Loader], Loader]:
    """Say what is in the data set of a loader, without loading it.

    Args:
        outline: called with the arguments of the loader; None if it cannot be known yet.
        files: called likewise; gives the names, relative to the root, of the files that a copy of
            the data set must hold, and of folders, which are only linked to. Raises DataError if
            something is missing. Without it, the loader reads nothing.
    """

    def marked(loader: Loader) -> Loader:
        loader.outline, loader.files = outline, files  # type: ignore[attr-defined]
        return loader

    return marked


def place(split: Split, device: torch.device) -> Split:
    """Put a split on the device, or in pinned host memory if it takes over half of what is free.

    A row of tokens that takes so much stays where it is, which may be a file.
    """
    if next(leaves(split.inputs)).device.type == device.type:
        return split
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if split.nbytes > free // 2:
            return split if isinstance(split, Windows) else split.placed(Tensor.pin_memory)
    return split.placed(lambda leaf: leaf.to(device, _WIDER.get(leaf.dtype, leaf.dtype)))


def sent(leaf: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device, for which nobody waits: a copy is made from pinned memory."""
    if leaf.device.type == "cpu" and device.type == "cuda":
        return leaf.pin_memory().to(device, non_blocking=True)
    return leaf.to(device, non_blocking=True)
