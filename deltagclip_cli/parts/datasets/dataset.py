"""A data set in memory, what is known of it before it is loaded, and its batches.

The whole split lies on the device that trains, if it fits, so that a batch costs an index, a
conversion and nothing that waits: no worker processes, no collation, no copy per sample.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from deltagclip_cli.core import DataError

Augmentation = Callable[[Tensor, torch.Generator], Tensor]
Loader = TypeVar("Loader", bound=Callable[..., Any])

_WINDOW = 50  # batches whose texts are sorted together


@dataclass(frozen=True)
class Split:
    """Samples and their labels."""

    # uint8 images ``(N, C, H, W)``, floating point vectors ``(N, D)``, or int32 tokens ``(N, L)``,
    # each row filled up with padding at its end
    inputs: Tensor
    targets: Tensor  # int64 class numbers ``(N,)``

    def __post_init__(self) -> None:
        assert len(self.inputs) == len(self.targets)
        assert self.targets.dtype == torch.int64

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Dataset:
    """A training and a test split."""

    train: Split  # what a model learns from
    test: Split  # what it is evaluated on
    classes: int  # number of classes
    # of every channel over the training images, scaled to [0, 1]; None without images
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None  # the standard deviations that belong to ``mean``
    # the token that rows of tokens are filled up with; None if there are none
    padding: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input as it is stored: ``(C, H, W)``, ``(D,)`` or ``(L,)``."""
        return tuple(self.train.inputs.shape[1:])

    def limited(
        self, *, train_samples: int | None = None, test_samples: int | None = None
    ) -> Dataset:
        """The first samples of every class, in the order of the data set; None keeps all."""
        return replace(
            self,
            train=_limited(self.train, train_samples, "train_samples"),
            test=_limited(self.test, test_samples, "test_samples"),
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

    @property
    def nbytes(self) -> int:
        """The memory that it takes to have it."""
        sample = math.prod(self.shape) * self.dtype.itemsize + torch.int64.itemsize
        return (self.train + self.test) * sample + self.making_bytes

    def limited(self, *, train_samples: int | None, test_samples: int | None) -> Outline:
        """Return the outline of a part of the data set, as :meth:`Dataset.limited` makes it."""
        return replace(
            self,
            train=check_samples(self.train, train_samples, "train_samples"),
            test=check_samples(self.test, test_samples, "test_samples"),
        )

    def stand_in(self) -> Dataset:
        """A data set of these sizes and no content; for a mode in which tensors have no memory."""
        train, test = (
            Split(
                torch.zeros((n, *self.shape), dtype=self.dtype), torch.zeros(n, dtype=torch.int64)
            )
            for n in (self.train, self.test)
        )
        channels = self.shape[0] if len(self.shape) == 3 else 0
        return Dataset(train, test, self.classes, (0.5,) * channels, (0.5,) * channels)


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
    """Put a split on the device, or in pinned host memory if it takes over half of what is free."""
    if device.type == "cpu":
        return split
    if device.type == "cuda":
        needed = split.inputs.nbytes + split.targets.nbytes
        free, _ = torch.cuda.mem_get_info(device)
        if needed > free // 2:
            return Split(split.inputs.pin_memory(), split.targets.pin_memory())
    return Split(split.inputs.to(device), split.targets.to(device))


def batch_sizes(samples: int, batch_size: int) -> list[int]:
    """Return the sizes of the batches of so many samples; the last is as small as it must be."""
    full, rest = divmod(samples, batch_size)
    return [batch_size] * full + [rest] * (rest > 0)


class Batches:
    """Batches of one split in any order; images are augmented, resized and normalised.

    Images become ``(value / 255 - mean) / std`` in one multiply-add. Floating point vectors are
    converted to ``dtype`` once and passed on as they are. The last batch is as small as it must be.
    A batch that holds the whole split and is not augmented is prepared once and is the same tensors
    each time, whatever the order.

    Args:
        split: as :func:`place` returned it.
        device: that trains; batches come out there.
        mean: of every channel, for values in [0, 1]; None only scales images to [0, 1].
        image_size: side in pixels that images are resized to (bilinear, antialiased), after the
            augmentations; None keeps the size. Vectors have none, and are not augmented: DataError.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        image_size: int | None = None,
        augmentations: Sequence[Augmentation] = (),
    ) -> None:
        self.samples = len(split)
        self.sizes = batch_sizes(self.samples, batch_size)
        self.steps = len(self.sizes)
        self._batch_size = batch_size
        self._device = device
        self._dtype = dtype
        self._augmentations = tuple(augmentations)
        self._kept: tuple[Tensor, Tensor] | None = None
        self._inputs, self._targets = split.inputs, split.targets
        self._images = not split.inputs.is_floating_point()
        if self._images:
            _, channels, height, width = split.inputs.shape
            self._size = (image_size or height, image_size or width)
            self._scale, self._shift = (
                # Of full size, because a broadcast inside an image is slow on a CPU.
                value.to(device, dtype).view(-1, 1, 1).expand(-1, *self._size).contiguous()
                for value in _normalisation(channels, mean, std)
            )
        elif augmentations or image_size is not None:
            raise DataError(
                "augmentations and image_size are for images, but the inputs are vectors of shape "
                f"{tuple(split.inputs.shape[1:])}.\n  Remove both from the data."
            )
        else:
            self._inputs = split.inputs.to(dtype)

    def iterate(
        self, order: Tensor | None, generator: torch.Generator | None, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs ``(B, ...)`` and targets ``(B,)`` of one pass; not to be changed in place.

        Args:
            order: an int64 permutation of all samples, or None for the order of the data.
            generator: of the augmentations, on the device; not used without them.
            start: number of the first batch. The generator must then be in the state it had there.
        """
        if self.steps == 1 and not self._augmentations:
            if self._kept is None:
                inputs = self._prepare(self._inputs.to(self._device), None)
                self._kept = inputs, self._targets.to(self._device)
            if start == 0:
                yield self._kept
            return
        for inputs, targets in self._stored(order, start):
            yield self._prepare(inputs, generator), targets

    def _stored(self, order: Tensor | None, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches as they are stored, on the device that trains."""
        if order is None:
            slices = torch.split(self._inputs, self._batch_size)[start:]
            chosen = (inputs.to(self._device, non_blocking=True) for inputs in slices)
            targets = self._targets
        else:
            order = order.to(self._inputs.device)
            chosen = (self._gather(index) for index in torch.split(order, self._batch_size)[start:])
            targets = self._targets.index_select(0, order)
        labels = torch.split(targets.to(self._device), self._batch_size)[start:]
        yield from zip(chosen, labels, strict=True)

    def _gather(self, index: Tensor) -> Tensor:
        if self._inputs.device.type == self._device.type:
            return self._inputs.index_select(0, index)
        # Only from pinned memory can a copy overlap with what the device is computing.
        shape = (len(index), *self._inputs.shape[1:])
        staged = torch.empty(shape, dtype=self._inputs.dtype, pin_memory=True)
        torch.index_select(self._inputs, 0, index, out=staged)
        return staged.to(self._device, non_blocking=True)

    def _prepare(self, inputs: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self._images:
            return inputs
        if self._augmentations:
            assert generator is not None
            for augmentation in self._augmentations:
                inputs = augmentation(inputs, generator)
        if inputs.shape[2:] != self._size:
            inputs = functional.interpolate(
                inputs.to(torch.float32), self._size, mode="bilinear", antialias=True
            )
        return torch.addcmul(self._shift, inputs, self._scale).to(self._dtype)


def _normalisation(
    channels: int, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[Tensor, Tensor]:
    """Scale and shift ``(C,)`` with which ``value * scale + shift`` is normalised."""
    means = torch.tensor([0.0] * channels if mean is None else mean, dtype=torch.float64)
    deviations = torch.tensor([1.0] * channels if std is None else std, dtype=torch.float64)
    if not len(means) == len(deviations) == channels:
        raise DataError(
            f"mean and std must have one number for each of the {channels} channels "
            f"(got {len(means)} and {len(deviations)})."
        )
    return 1 / (255 * deviations), -means / deviations


class TokenBatches:
    """Batches of one split of tokens, of texts that are about equally long.

    What a network computes for padding is wasted, and texts differ in length severalfold. So the
    order is cut into windows of 50 batches; within a window texts go into batches by their length,
    and then all batches are shuffled. Epochs so differ as orders do, while hardly a token of
    padding is left. Which batches there are follows from the order alone.
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
        """Yield tokens ``(B, L)``, int64, and targets ``(B,)`` of one pass from a batch on.

        Without an ``order``, which is a permutation on the CPU, the longest texts come first. The
        generator is not used: nothing here is random but the order.
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
        batches: list[Tensor] = []
        for window in torch.split(order, _WINDOW * self._batch_size):
            by_length = window[self._lengths[window].argsort(stable=True)]
            batches += torch.split(by_length, self._batch_size)
        *full, last = batches  # which may be smaller, and stays where it is
        generator = torch.Generator().manual_seed(zlib.crc32(order.numpy().data))
        return [full[i] for i in torch.randperm(len(full), generator=generator)] + [last]


def _lengths(tokens: Tensor, padding: int) -> Tensor:
    """The number of tokens ``(N,)`` up to the last that is not padding, at least 1."""
    places = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
    return (places * (tokens != padding)).amax(dim=1).clamp(min=1)
