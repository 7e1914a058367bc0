"""Batches of a split, made on the device that trains.

The whole split lies on the device if it fits, so that a batch costs an index, a conversion and
nothing that waits: no worker processes, no collation, no copy per sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from deltagclip_cli.core import DataError
from deltagclip_cli.parts.datasets.dataset import Split

Augmentation = Callable[[Tensor, torch.Generator], Tensor]


def place(split: Split, device: torch.device) -> Split:
    """Put a split on the device, or in pinned host memory where it takes over half of what is free.

    Args:
        split: on the host.
        device: that trains.
    """
    if device.type == "cpu":
        return split
    if device.type == "cuda":
        needed = split.inputs.nbytes + split.targets.nbytes
        free, _ = torch.cuda.mem_get_info(device)
        if needed > free // 2:
            return Split(split.inputs.pin_memory(), split.targets.pin_memory())
    return Split(split.inputs.to(device), split.targets.to(device))


def batch_sizes(samples: int, batch_size: int) -> list[int]:
    """Of the batches of so many samples; the last is as small as it must be."""
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
        batch_size: number of samples in a batch.
        device: that trains; batches come out there.
        dtype: floating point type of the inputs that come out.
        mean: of every channel, for values in [0, 1]; None only scales images to [0, 1].
        std: belongs to ``mean``.
        image_size: side in pixels that images are resized to (bilinear, antialiased), after the
            augmentations; None keeps the size.
        augmentations: applied in this order.

    Raises:
        DataError: images are to be augmented or resized, but the inputs are vectors.
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
            if start == 0:
                yield self._whole()
            return
        for inputs, targets in self._stored(order, start):
            yield self._prepare(inputs, generator), targets

    def _whole(self) -> tuple[Tensor, Tensor]:
        if self._kept is None:
            inputs = self._prepare(self._inputs.to(self._device), None)
            self._kept = inputs, self._targets.to(self._device)
        return self._kept

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
