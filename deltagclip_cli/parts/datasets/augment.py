"""Random changes to training images, a whole batch at a time on the device the images are on.

Every class is made as ``Class(size, **options)``, with the side in pixels of the images that the
model gets, and called as ``augmentation(images, generator)`` on images ``(B, C, H, W)`` with values
from 0 to 255: uint8, or floating point after a change that resamples. Draws come from the
generator alone, which must be on the images' device, and nothing waits for that device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from deltagclip_cli.core import UsageError

_TRIES = 10  # as many as torchvision makes


class RandomCrop:
    """Shift each image by up to ``padding`` pixels either way, with black where it moved from.

    The same law as torchvision's ``RandomCrop(H, padding)``: all (2 padding + 1)² shifts are
    equally likely. 4 pixels are usual for CIFAR.
    """

    def __init__(self, size: int, *, padding: int = 4) -> None:
        self.padding = padding

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return shifted images ``(B, C, H, W)`` of the same dtype."""
        samples, channels, height, width = images.shape
        padded = functional.pad(images, (self.padding,) * 4)
        stride, device = padded.shape[3], images.device
        shift = torch.randint(
            2 * self.padding + 1, (2, samples, 1, 1), generator=generator, device=device
        )
        rows = shift[0] + torch.arange(height, device=device)[:, None]
        columns = shift[1] + torch.arange(width, device=device)
        places = (rows * stride + columns).view(samples, 1, height * width)
        cropped = padded.flatten(2).gather(2, places.expand(-1, channels, -1))
        return cropped.view(samples, channels, height, width)


class Flip:
    """Mirror each image left to right, or not.

    The same law as torchvision's ``RandomHorizontalFlip``.
    """

    def __init__(self, size: int, *, probability: float = 0.5) -> None:
        self.probability = probability

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return images ``(B, C, H, W)`` of the same dtype, some of them mirrored."""
        samples, channels, height, width = images.shape
        draws = torch.rand(samples, 1, 1, 1, generator=generator, device=images.device)
        columns = torch.arange(width, device=images.device)
        places = torch.where(draws < self.probability, columns.flip(0), columns)
        return images.gather(3, places.expand(-1, channels, height, -1))


class RandomResizedCrop:
    """Cut a random rectangle out of each image and resize it to ``size`` x ``size``.

    The law is torchvision's: the area is even in ``scale`` (as a share of the image), the logarithm
    of width : height even in the logarithms of ``ratio``; of ten such draws the first that fits is
    placed evenly in the image, and if none fits the largest central rectangle of an allowed shape
    is taken. Pixels are resampled bilinearly with antialiasing, which is two matrix products here.
    Differs from torchvision: all ten draws are always made, and the result is not rounded to whole
    numbers (floating point, 0 to 255).

    Args:
        scale: smallest and largest share of the image's area.
        ratio: smallest and largest width : height.
    """

    def __init__(
        self,
        size: int,
        *,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (0.75, 1.3333333333333333),
    ) -> None:
        for name, (low, high) in (("scale", scale), ("ratio", ratio)):
            if not 0 < low <= high < math.inf:
                raise UsageError(
                    f"random_resized_crop: {name} must be two numbers above 0, the smaller first "
                    f"(got {low}, {high})."
                )
        self.size = size
        self.scale = scale
        self.ratio = ratio

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return images ``(B, C, size, size)`` in floating point."""
        samples, _, height, width = images.shape
        top, left, rows, columns = self.rectangles(samples, height, width, generator, images.device)
        values = images if images.is_floating_point() else images.to(torch.float32)
        vertical = _bilinear(top, rows, height, self.size).to(values.dtype)
        horizontal = _bilinear(left, columns, width, self.size).to(values.dtype)
        return vertical[:, None] @ values @ horizontal[:, None].mT

    def rectangles(
        self,
        samples: int,
        height: int,
        width: int,
        generator: torch.Generator,
        device: torch.device,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Top, left, rows and columns, each ``(samples,)``, whole numbers in floating point."""
        area, shape, down, across = torch.rand(
            4, samples, _TRIES, generator=generator, device=device
        ).unbind(0)
        area = height * width * _between(*self.scale, area)
        shape = torch.exp(_between(math.log(self.ratio[0]), math.log(self.ratio[1]), shape))
        rows, columns = torch.sqrt(area / shape).round(), torch.sqrt(area * shape).round()
        fits = (rows >= 1) & (rows <= height) & (columns >= 1) & (columns <= width)
        first, any_fits = fits.int().argmax(dim=1, keepdim=True), fits.any(dim=1)
        drawn = (_offset(down, height - rows), _offset(across, width - columns), rows, columns)
        top, left, rows, columns = (
            torch.where(any_fits, value.gather(1, first).squeeze(1), central)
            for value, central in zip(drawn, self._central(height, width), strict=True)
        )
        return top, left, rows, columns

    def _central(self, height: int, width: int) -> tuple[float, float, float, float]:
        """The largest central rectangle of an allowed shape: top, left, rows, columns."""
        narrowest, widest = self.ratio
        rows, columns = height, width
        if width / height < narrowest:
            rows = round(width / narrowest)
        elif width / height > widest:
            columns = round(height * widest)
        return float((height - rows) // 2), float((width - columns) // 2), rows, columns


def _between(low: float, high: float, share: Tensor) -> Tensor:
    return low + (high - low) * share


def _offset(share: Tensor, most: Tensor) -> Tensor:
    """A whole number from 0 to ``most``, from a share in [0, 1)."""
    # A product just below a whole number may round up to it; the minimum brings it back.
    return torch.minimum((share * (most + 1)).floor(), most)


def _bilinear(start: Tensor, length: Tensor, source: int, target: int) -> Tensor:
    """Matrices ``(B, target, source)`` that resize the pixels from ``start`` on to ``target``.

    A pixel weighs the less the further it is from the centre of the new pixel, down to nothing at
    a distance of one old or one new pixel, whichever is larger (the antialiasing).
    """
    start, length = start[:, None, None], length[:, None, None]
    step = length / target
    old = torch.arange(source, device=start.device) + 0.5
    new = start + step * (torch.arange(target, device=start.device)[:, None] + 0.5)
    weights = (1 - (old - new).abs() / step.clamp(min=1)).clamp(min=0)
    weights = weights * ((old > start) & (old < start + length))
    return weights / weights.sum(dim=2, keepdim=True)
