"""Batches of a split in memory, in any order; of images augmented, resized and normalised."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from deltagclip_cli.core import DataError
from deltagclip_cli.parts.datasets.dataset import Augmentation, Split, Windows, are_images, sent
from deltagclip_cli.parts.nested import (
    RowsOfBatches,
    Tree,
    batch_sizes,
    leaves,
    map_tree,
    outlined,
)


class Batches(RowsOfBatches):
    """Batches of one split in any order; images are augmented, resized and normalised.

    Images become ``(value / 255 - mean) / std`` in one multiply-add. Other inputs, and targets, are
    passed on as they are, but that floating point is converted to ``dtype``, once, and whole
    numbers are int64 among targets, which are classes, and if they are tokens. The last batch is as
    small as it must be. A batch that holds the whole split and is not augmented is prepared once
    and is the same tensors each time, whatever the order.

    Args:
        split: as :func:`place` returned it.
        device: that trains; batches come out there.
        mean: of every channel, for values in [0, 1]; None only scales images to [0, 1].
        image_size: side in pixels that images are resized to (bilinear, antialiased), after the
            augmentations; None keeps the size. What are no images has none, and is not augmented:
            DataError.
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
        self.draws = bool(self._augmentations)
        self._kept: tuple[Tree, Tree] | None = None
        self._images, self._tokens = are_images(split.inputs), isinstance(split, Windows)
        self._inputs = split.inputs if self._images else map_tree(self._in_dtype, split.inputs)
        self._targets = map_tree(self._in_dtype, split.targets)
        # Gathered for an epoch at once, as class numbers are, or a batch at a time, as masks are.
        self._targets_are_small = all(leaf.ndim <= 1 for leaf in leaves(self._targets))
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
                "augmentations and image_size are for images, but the inputs are "
                f"{outlined(split.inputs)}, not uint8 (N, C, H, W).\n  Remove both from the data."
            )
        if augmentations and not all(leaf.ndim <= 2 for leaf in leaves(split.targets)):
            raise DataError(
                "augment changes images alone, but the targets look like images as well: "
                f"{outlined(split.targets)}.\n  Remove it, or change both in a Dataset of your own."
            )

    def take(self, rows: Callable[[int], slice]) -> None:
        super().take(rows)
        self._kept = None

    def _in_dtype(self, leaf: Tensor) -> Tensor:
        return leaf.to(self._dtype) if leaf.is_floating_point() else leaf

    def iterate(
        self, order: Tensor | None, generator: torch.Generator | None, start: int = 0
    ) -> Iterator[tuple[Tree, Tree]]:
        """Yield inputs ``(B, ...)`` and targets ``(B, ...)`` of one pass; not to be changed.

        Args:
            order: an int64 permutation of all samples, or None for the order of the data.
            generator: of the augmentations, on the device; not used without them.
            start: number of the first batch. The generator must then be in the state it had there.
        """
        if self.steps == 1 and not self._augmentations:
            if self._kept is None:
                rows = self._rows(self.samples)
                inputs = map_tree(lambda leaf: leaf[rows].to(self._device), self._inputs)
                targets = map_tree(lambda leaf: _labels(leaf[rows]).to(self._device), self._targets)
                self._kept = self._prepare(inputs, None), targets
            if start == 0:
                yield self._kept
            return
        for inputs, targets in self._stored(order, start):
            yield self._prepare(inputs, generator), map_tree(_labels, targets)

    def _stored(self, order: Tensor | None, start: int) -> Iterator[tuple[Tree, Tree]]:
        """Batches as they are stored, on the device that trains."""
        targets = self._targets
        if self._targets_are_small:
            targets = map_tree(lambda leaf: self._in_order(leaf, order), targets)
        if order is not None:
            order = sent(order, next(leaves(self._inputs)).device)
        for number in range(start, self.steps):
            place = self._place(number)
            index = place if order is None else order[place]
            inputs = map_tree(partial(self._gather, index), self._inputs)
            chosen = place if self._targets_are_small else index
            yield inputs, map_tree(partial(self._gather, chosen), targets)

    def _place(self, number: int) -> slice:
        """Return where the samples of a batch, or those of this process, stand in the order."""
        first = number * self._batch_size
        rows = self._rows(self.sizes[number])
        return slice(first + rows.start, first + rows.stop)

    def _in_order(self, leaf: Tensor, order: Tensor | None) -> Tensor:
        ordered = leaf if order is None else leaf.index_select(0, sent(order, leaf.device))
        return sent(ordered, self._device)

    def _gather(self, index: slice | Tensor, leaf: Tensor) -> Tensor:
        if isinstance(index, slice):
            return leaf[index].to(self._device, non_blocking=True)
        if leaf.device.type == self._device.type:
            return leaf.index_select(0, index)
        # Only from pinned memory can a copy overlap with what the device is computing.
        shape = (len(index), *leaf.shape[1:])
        staged = torch.empty(shape, dtype=leaf.dtype, pin_memory=True)
        torch.index_select(leaf, 0, index, out=staged)
        return staged.to(self._device, non_blocking=True)

    def _prepare(self, inputs: Tree, generator: torch.Generator | None) -> Tree:
        if not self._images:
            return inputs.long() if self._tokens else inputs
        if self._augmentations:
            assert generator is not None
            for augmentation in self._augmentations:
                inputs = augmentation(inputs, generator)
        if inputs.shape[2:] != self._size:
            inputs = functional.interpolate(
                inputs.to(torch.float32), self._size, mode="bilinear", antialias=True
            )
        return torch.addcmul(self._shift, inputs, self._scale).to(self._dtype)


def _labels(leaf: Tensor) -> Tensor:
    """Whole numbers as losses take them."""
    is_whole = not leaf.is_floating_point() and not leaf.is_complex() and leaf.dtype != torch.bool
    return leaf.long() if is_whole else leaf


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
