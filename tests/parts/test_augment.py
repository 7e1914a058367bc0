"""Augmentations against literal twins, one image at a time, and against torchvision's law."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import RandomResizedCrop as TorchvisionCrop
from torchvision.transforms.functional import resized_crop

from deltagclip_cli.core import UsageError, load_target
from deltagclip_cli.parts.datasets import AUGMENTATIONS
from deltagclip_cli.parts.datasets.augment import Flip, RandomCrop, RandomResizedCrop

CPU = torch.device("cpu")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_images(samples: int = 6, height: int = 7, width: int = 9) -> Tensor:
    shape = (samples, 3, height, width)
    return torch.randint(1, 256, shape, generator=seeded(), dtype=torch.uint8)


def literal_crop(image: Tensor, padding: int, down: int, right: int) -> Tensor:
    _, height, width = image.shape
    padded = torch.zeros(3, height + 2 * padding, width + 2 * padding, dtype=torch.uint8)
    padded[:, padding : padding + height, padding : padding + width] = image
    return padded[:, down : down + height, right : right + width]


def test_random_crop_cuts_each_image_out_of_its_padded_self() -> None:
    images, padding = some_images(), 2
    cropped = RandomCrop(0, padding=padding)(images, seeded(3))
    shifts = torch.randint(5, (2, 6, 1, 1), generator=seeded(3)).view(2, 6)
    for image, result, down, right in zip(images, cropped, *shifts.tolist(), strict=True):
        assert torch.equal(result, literal_crop(image, padding, down, right))
    assert cropped.dtype == torch.uint8


def test_random_crop_makes_all_shifts_equally_often() -> None:
    image = some_images(1, 5, 5)
    shifted = {
        literal_crop(image[0], 1, *shift).numpy().tobytes(): shift
        for shift in itertools.product(range(3), repeat=2)
    }
    cropped = RandomCrop(0, padding=1)(image.expand(9000, -1, -1, -1), seeded())
    counts = Counter(shifted[result.numpy().tobytes()] for result in cropped)
    assert len(counts) == 9
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 26  # χ², p = 0.001


def test_a_crop_without_padding_changes_nothing() -> None:
    assert torch.equal(RandomCrop(0, padding=0)(some_images(), seeded()), some_images())


def test_flip_mirrors_each_image_or_leaves_it() -> None:
    images = some_images(40)
    flipped = Flip(0)(images, seeded(3))
    chosen = torch.rand(40, generator=seeded(3)) < 0.5
    for image, result, mirror in zip(images, flipped, chosen.tolist(), strict=True):
        assert torch.equal(result, image.flip(2) if mirror else image)
    assert 0 < chosen.sum() < 40


@pytest.mark.parametrize(("probability", "share"), [(0.0, 0.0), (0.3, 0.3), (1.0, 1.0)])
def test_flip_keeps_its_probability(probability: float, share: float) -> None:
    image = some_images(1).expand(4000, -1, -1, -1)
    flipped = Flip(0, probability=probability)(image, seeded())
    mirrored = (flipped == image.flip(3)).flatten(1).all(1).double().mean().item()
    assert mirrored == pytest.approx(share, abs=0.03)


# Random resized crops


@pytest.mark.parametrize(("size", "height", "width"), [(9, 7, 9), (5, 16, 12), (64, 32, 32)])
def test_a_resized_crop_is_what_torchvision_makes_of_the_same_rectangle(
    size: int, height: int, width: int
) -> None:
    images = some_images(20, height, width)
    augmentation = RandomResizedCrop(size)
    results = augmentation(images, seeded(4))
    rectangles = torch.stack(augmentation.rectangles(20, height, width, seeded(4), CPU), dim=1)
    for image, result, rectangle in zip(images, results, rectangles, strict=True):
        top, left, rows, columns = map(int, rectangle)
        expected = resized_crop(image.float(), top, left, rows, columns, [size, size])
        torch.testing.assert_close(result, expected, rtol=0, atol=2e-3)


def test_the_crop_of_the_whole_image_at_its_size_is_the_image() -> None:
    images = some_images(4, 8, 8)
    whole = RandomResizedCrop(8, scale=(1.0, 1.0), ratio=(1.0, 1.0))(images, seeded())
    assert torch.equal(whole, images.float())


def torchvision_rectangles(samples: int, height: int, width: int, **options: Any) -> Tensor:
    law = TorchvisionCrop(8, **options)
    torch.manual_seed(0)
    image = torch.empty(1, height, width)
    return torch.tensor(
        [law.get_params(image, list(law.scale), list(law.ratio)) for _ in range(samples)]
    ).double()


@pytest.mark.parametrize(
    ("height", "width", "options"),
    [
        (32, 32, {}),
        (32, 32, {"scale": (0.05, 1.0)}),
        (20, 48, {"scale": (0.5, 1.0), "ratio": (0.5, 2.0)}),
        (6, 32, {"scale": (0.9, 1.0)}),
        (32, 6, {"scale": (0.9, 1.0)}),
    ],
)
def test_rectangles_follow_torchvisions_law(
    height: int, width: int, options: dict[str, Any]
) -> None:
    samples = 3000
    drawn = RandomResizedCrop(8, **options).rectangles(samples, height, width, seeded(), CPU)
    ours = torch.stack(drawn, dim=1).double()
    theirs = torchvision_rectangles(samples, height, width, **options)
    for figure in (*range(4), lambda rectangle: rectangle[:, 2] * rectangle[:, 3]):
        first, second = (
            figure(values) if callable(figure) else values[:, figure] for values in (ours, theirs)
        )
        assert largest_difference_of_shares(first, second) < 1.95 * (2 / samples) ** 0.5


def largest_difference_of_shares(first: Tensor, second: Tensor) -> float:
    """The Kolmogorov-Smirnov statistic; 1.95 √(2/n) is its limit at p = 0.001."""
    places = torch.cat([first, second])
    shares = [
        torch.searchsorted(values.sort().values, places, right=True) / len(values)
        for values in (first, second)
    ]
    return (shares[0] - shares[1]).abs().max().item()


def test_rectangles_lie_in_the_image() -> None:
    drawn = RandomResizedCrop(8, scale=(0.01, 1.0)).rectangles(20_000, 9, 13, seeded(), CPU)
    top, left, rows, columns = drawn
    assert min(top.min(), left.min()) == 0
    assert min(rows.min(), columns.min()) >= 1
    assert (top + rows).max() == 9
    assert (left + columns).max() == 13
    assert all(torch.equal(value, value.round()) for value in drawn)


# All of them


@pytest.mark.parametrize("target", AUGMENTATIONS.entries.values())
def test_an_augmentation_repeats_itself_and_draws_from_its_generator_alone(target: str) -> None:
    augmentation = load_target(target)(9)
    images = some_images(50, 9, 9)
    before, state = images.clone(), torch.get_rng_state()
    first = augmentation(images, seeded(1))
    assert torch.equal(first, augmentation(images, seeded(1)))
    assert not torch.equal(first, augmentation(images, seeded(2)))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, before)


@pytest.mark.parametrize("first", AUGMENTATIONS.entries.values())
@pytest.mark.parametrize("second", AUGMENTATIONS.entries.values())
def test_augmentations_follow_one_another_in_any_order(first: str, second: str) -> None:
    images = some_images(3, 9, 9)
    for target in (first, second):
        images = load_target(target)(9)(images, seeded())
    assert images.shape == (3, 3, 9, 9)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomResizedCrop(8, scale=(0.0, 1.0)),
        lambda: RandomResizedCrop(8, ratio=(2.0, 1.0)),
    ],
)
def test_options_out_of_range_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match=r"must be .*\(got"):
        make()
