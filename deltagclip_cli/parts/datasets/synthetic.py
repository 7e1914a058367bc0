"""Made images, for tests and first steps: nothing to download."""

from __future__ import annotations

from pathlib import Path

import torch

from deltagclip_cli.parts.datasets.dataset import (
    Dataset,
    Outline,
    Split,
    channel_statistics,
    described,
)

_CELLS = 4  # a prototype is a pattern of at most 4 x 4 even squares


def _outline(
    root: Path,
    image_size: int | None,
    *,
    classes: int,
    channels: int,
    size: int,
    train: int,
    test: int,
    **others: float,
) -> Outline:
    # Patterns, and for the larger split a pattern, noise and their sum, in whole numbers.
    pixels = channels * size**2 * (2 * classes + 3 * max(train, test))
    making = torch.int64.itemsize * (pixels + classes * channels * _CELLS**2)
    return Outline((channels, size, size), classes, train, test, making_bytes=making)


@described(_outline)
def synthetic(
    root: Path,
    image_size: int | None,
    *,
    classes: int = 10,
    channels: int = 3,
    size: int = 32,
    train: int = 512,
    test: int = 256,
    noise: float = 0.5,
    data_seed: int = 0,
) -> Dataset:
    """Made images: a pattern for each class plus noise, the same on every machine.

    Labels go round 0, 1, ..., so that classes are balanced. The noise is even, its half-width a
    share of the range of values (0 to 1); with the default an image is still told from its
    pattern. All trials see the same data, whatever their seeds.
    """
    # Whole numbers only: floating point draws differ between processors in the last digit.
    generator = torch.Generator().manual_seed(data_seed)
    coarse = torch.randint(64, 192, (classes, channels, _CELLS, _CELLS), generator=generator)
    cell = torch.arange(size) * _CELLS // size
    patterns = coarse[:, :, cell][:, :, :, cell]
    spread = round(255 * noise)
    splits = []
    for samples in (train, test):
        targets = torch.arange(samples) % classes
        shape = (samples, *patterns.shape[1:])
        shift = torch.randint(-spread, spread + 1, shape, generator=generator)
        images = (patterns[targets] + shift).clamp(0, 255).to(torch.uint8)
        splits.append(Split(images, targets))
    mean, std = channel_statistics(splits[0].inputs)
    return Dataset(splits[0], splits[1], classes, mean, std, measured=True)
