"""Batches: order, sizes, arithmetic, and where they continue."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from deltagclip_cli.core import DataError
from deltagclip_cli.parts.datasets.augment import Flip, RandomCrop, RandomResizedCrop
from deltagclip_cli.parts.datasets.batches import Batches
from deltagclip_cli.parts.datasets.dataset import Split, place

CPU = torch.device("cpu")
MEAN, STD = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
IMAGES = Split(
    torch.randint(
        256, (23, 3, 6, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    ),
    torch.arange(23) % 5,
)
VECTORS = Split(torch.arange(23.0)[:, None].double().expand(-1, 4), torch.arange(23) % 5)


def batches(split: Split = IMAGES, *, batch_size: int = 5, **options: Any) -> Batches:
    return Batches(split, batch_size=batch_size, device=CPU, **options)


def everything(made: Batches, order: Tensor | None = None, **options: Any) -> tuple[Tensor, Tensor]:
    inputs, targets = zip(
        *made.iterate(order, options.pop("generator", None), **options), strict=True
    )
    return torch.cat(inputs), torch.cat(targets)


def test_the_last_batch_is_as_small_as_it_must_be() -> None:
    made = batches()
    assert (made.samples, made.steps, made.sizes) == (23, 5, [5, 5, 5, 5, 3])
    assert [len(inputs) for inputs, _ in made.iterate(None, None)] == made.sizes
    assert batches(batch_size=23).sizes == [23]
    assert batches(batch_size=100).sizes == [23]


@pytest.mark.parametrize("split", [IMAGES, VECTORS])
@pytest.mark.parametrize("ordered", [True, False])
def test_batches_come_in_the_order_that_is_given(split: Split, ordered: bool) -> None:
    order = torch.randperm(23, generator=torch.Generator().manual_seed(1)) if ordered else None
    places = torch.arange(23) if order is None else order
    inputs, targets = everything(batches(split), order)
    expected = split.inputs[places].float() / (1 if split is VECTORS else 255)
    torch.testing.assert_close(inputs, expected)
    assert torch.equal(targets, split.targets[places])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_are_normalised_channel_by_channel(dtype: torch.dtype) -> None:
    inputs, _ = everything(batches(mean=MEAN, std=STD, dtype=dtype))
    mean, std = (torch.tensor(value, dtype=dtype).view(3, 1, 1) for value in (MEAN, STD))
    torch.testing.assert_close(inputs, (IMAGES.inputs.to(dtype) / 255 - mean) / std)
    assert inputs.dtype == dtype


def test_without_a_mean_images_are_scaled_to_the_unit_interval_exactly() -> None:
    split = Split(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1), torch.zeros(2).long())
    inputs, _ = everything(batches(split))
    assert inputs.flatten().tolist() == [0.0, 1.0]


def test_half_precision_comes_out_even_after_resizing() -> None:
    inputs, _ = everything(batches(dtype=torch.bfloat16, image_size=4))
    assert inputs.dtype == torch.bfloat16


def test_vectors_are_converted_once_and_shared_after_that() -> None:
    made = batches(VECTORS)
    first, second = (next(iter(made.iterate(None, None)))[0] for _ in range(2))
    assert first.data_ptr() == second.data_ptr()
    assert first.dtype == torch.float32
    assert everything(batches(VECTORS, dtype=torch.float64))[0].dtype == torch.float64


@pytest.mark.parametrize("size", [4, 12])
def test_images_are_resized_before_they_are_normalised(size: int) -> None:
    inputs, _ = everything(batches(image_size=size, mean=MEAN, std=STD))
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (MEAN, STD))
    resized = torch.nn.functional.interpolate(
        IMAGES.inputs.float(), (size, size), mode="bilinear", antialias=True
    )
    torch.testing.assert_close(inputs, (resized / 255 - mean) / std)


def test_augmentations_are_applied_in_order_before_resizing() -> None:
    crop, flip = RandomCrop(8), Flip(8)
    made = batches(augmentations=(crop, flip), batch_size=30)
    inputs, _ = everything(made, generator=torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(2)
    expected = flip(crop(IMAGES.inputs, generator), generator)
    torch.testing.assert_close(inputs, expected.float() / 255)


def test_a_random_resized_crop_brings_images_to_their_final_size() -> None:
    made = batches(image_size=10, augmentations=[RandomResizedCrop(10)], batch_size=30)
    inputs, _ = everything(made, generator=torch.Generator().manual_seed(2))
    expected = RandomResizedCrop(10)(IMAGES.inputs, torch.Generator().manual_seed(2))
    torch.testing.assert_close(inputs, expected / 255)


@pytest.mark.parametrize("start", [0, 2, 4, 5])
def test_a_pass_continues_where_it_stopped(start: int) -> None:
    made = batches(augmentations=[RandomCrop(8), Flip(8)])
    order, generator = torch.randperm(23), torch.Generator().manual_seed(0)
    straight = made.iterate(order, generator)
    done = [next(straight) for _ in range(start)]
    state = generator.get_state()
    rest = list(straight)
    generator.set_state(state)
    resumed = list(made.iterate(order, generator, start))
    assert len(done) + len(resumed) == 5
    for (inputs, targets), (same_inputs, same_targets) in zip(rest, resumed, strict=True):
        assert torch.equal(inputs, same_inputs)
        assert torch.equal(targets, same_targets)


def test_a_batch_of_everything_is_prepared_once() -> None:
    made = batches(batch_size=23)
    [(first, targets)] = made.iterate(torch.randperm(23), None)
    [(second, _)] = made.iterate(torch.randperm(23), None)
    assert first is second
    assert torch.equal(targets, IMAGES.targets)
    assert list(made.iterate(None, None, 1)) == []


def test_an_augmented_batch_of_everything_is_prepared_each_time() -> None:
    made = batches(batch_size=23, augmentations=[RandomCrop(8)])
    generator = torch.Generator().manual_seed(0)
    [(first, _)] = made.iterate(None, generator)
    [(second, _)] = made.iterate(None, generator)
    assert not torch.equal(first, second)


def test_the_stored_images_are_left_alone() -> None:
    before = IMAGES.inputs.clone()
    made = batches(mean=MEAN, std=STD, augmentations=[Flip(8)], batch_size=30)
    everything(made, generator=torch.Generator().manual_seed(0))
    assert torch.equal(IMAGES.inputs, before)


@pytest.mark.parametrize("options", [{"augmentations": [Flip(8)]}, {"image_size": 8}])
def test_vectors_can_be_neither_augmented_nor_resized(options: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"are for images, .* float64 \(23, 4\)"):
        batches(VECTORS, **options)


def test_a_mean_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(DataError, match=r"each of the 3 channels \(got 1 and 1\)"):
        batches(mean=(0.5,), std=(0.5,))


def test_on_a_cpu_a_split_stays_where_it_is() -> None:
    assert place(IMAGES, CPU) is IMAGES


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("fits", [True, False])
def test_a_device_gets_the_batches_that_a_cpu_gets(
    fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fits:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 0))
    device = torch.device("cuda")
    split = place(IMAGES, device)
    assert split.inputs.device.type == ("cuda" if fits else "cpu")
    assert fits or split.inputs.is_pinned()
    order = torch.randperm(23)
    for chosen in (None, order):
        made = Batches(split, batch_size=5, device=device, mean=MEAN, std=STD, image_size=12)
        inputs, targets = everything(made, chosen)
        same, same_targets = everything(batches(mean=MEAN, std=STD, image_size=12), chosen)
        torch.testing.assert_close(inputs.cpu(), same)
        assert torch.equal(targets.cpu(), same_targets)
