"""Folders of image files: reading, the kept copy, and every way in which a folder can be wrong."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

import numpy
import pytest
import torch
from PIL import Image

from deltagclip_cli.datasets import image_folder as module
from deltagclip_cli.datasets.dataset import channel_statistics
from deltagclip_cli.datasets.image_folder import image_folder
from deltagclip_cli.errors import DataError


def pixels(seed: int, height: int = 8, width: int = 8) -> numpy.ndarray[Any, Any]:
    return numpy.random.default_rng(seed).integers(0, 256, (height, width, 3), numpy.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data folder with ``set/{train,test}/{ant,bee}/{0,1,2}.png``, 8 x 8 pixels."""
    for i, split in enumerate(("train", "test")):
        for j, name in enumerate(("bee", "ant")):
            folder = tmp_path / "set" / split / name
            folder.mkdir(parents=True)
            for k in range(3):
                Image.fromarray(pixels(100 * i + 10 * j + k)).save(folder / f"{k}.png")
    return tmp_path


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were decoded, in no particular order."""
    names: list[str] = []
    decode: Callable[..., Any] = module._decode

    def counted(file: Path, image_size: int | None) -> Any:
        names.append(file.name)
        return decode(file, image_size)

    monkeypatch.setattr(module, "_decode", counted)
    return names


def test_images_are_read_class_by_class_and_by_name(root: Path) -> None:
    made = image_folder(root, None, path="set")
    assert made.classes == 2
    assert made.shape == (3, 8, 8)
    assert made.train.targets.tolist() == made.test.targets.tolist() == [0, 0, 0, 1, 1, 1]
    for index, seed in enumerate((10, 11, 12, 0, 1, 2)):
        expected = torch.tensor(pixels(seed)).permute(2, 0, 1)
        assert torch.equal(made.train.inputs[index], expected)
        expected = torch.tensor(pixels(seed + 100)).permute(2, 0, 1)
        assert torch.equal(made.test.inputs[index], expected)
    assert made.train.inputs.is_contiguous()
    assert (made.mean, made.std) == channel_statistics(made.train.inputs)


def test_grey_and_transparent_images_become_rgb(root: Path) -> None:
    grey = pixels(1)[:, :, 0]
    Image.fromarray(grey).save(root / "set/train/ant/0.png")
    Image.fromarray(numpy.dstack([pixels(2), grey])).save(root / "set/train/ant/1.png")
    inputs = image_folder(root, None, path="set").train.inputs
    assert torch.equal(inputs[0], torch.tensor(grey).expand(3, 8, 8))
    assert torch.equal(inputs[1], torch.tensor(pixels(2)).permute(2, 0, 1))


def test_other_files_and_hidden_ones_are_left_out(root: Path) -> None:
    (root / "set/train/ant/readme.txt").touch()
    (root / "set/train/ant/.0.png").touch()
    (root / "set/train/.trash").mkdir()
    assert len(image_folder(root, None, path="set").train) == 6


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_does_not_matter(
    threads: int, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 1)
    monkeypatch.setattr(module, "_threads", lambda files: threads)
    inputs = image_folder(root, None, path="set").train.inputs
    assert torch.equal(inputs[5], torch.tensor(pixels(2)).permute(2, 0, 1))


# Sizes


def test_image_size_resizes_the_shorter_side_and_cuts_the_centre(root: Path) -> None:
    wide = Image.fromarray(pixels(5, 10, 25))
    wide.save(root / "set/train/ant/0.png")
    made = image_folder(root, 4, path="set")
    assert made.shape == (3, 4, 4)
    resized = wide.resize((10, 4), Image.Resampling.BILINEAR).crop((3, 0, 7, 4))
    assert torch.equal(made.train.inputs[0], torch.tensor(numpy.array(resized)).permute(2, 0, 1))


def test_images_of_two_sizes_are_an_error_that_shows_one_of_each(root: Path) -> None:
    Image.fromarray(pixels(5, 9, 8)).save(root / "set/test/bee/1.png")
    with pytest.raises(DataError) as caught:
        image_folder(root, None, path="set")
    for part in ("train/ant/0.png: 8 x 8", "test/bee/1.png: 9 x 8", "Set image_size"):
        assert part in str(caught.value)


# The kept copy


def test_a_second_start_decodes_nothing(root: Path, decoded: list[str]) -> None:
    first = image_folder(root, None, path="set")
    count = len(decoded)
    second = image_folder(root, None, path="set")
    assert len(decoded) == count > 0
    assert torch.equal(first.test.inputs, second.test.inputs)
    assert (first.mean, first.std) == (second.mean, second.std)
    assert len(list((root / ".decoded").iterdir())) == 1


def touch_later(root: Path) -> None:
    os.utime(root / "set/test/bee/1.png", ns=(0, time.time_ns() + 10**9))


def rename(root: Path) -> None:
    (root / "set/test/bee/1.png").rename(root / "set/test/bee/9.png")


def remove(root: Path) -> None:
    (root / "set/test/bee/1.png").unlink()


@pytest.mark.parametrize("change", [touch_later, rename, remove])
def test_any_change_of_the_files_decodes_again(
    change: Callable[[Path], None], root: Path, decoded: list[str]
) -> None:
    image_folder(root, None, path="set")
    change(root)
    decoded.clear()
    image_folder(root, None, path="set")
    assert decoded


def test_another_image_size_decodes_again(root: Path) -> None:
    image_folder(root, None, path="set")
    assert image_folder(root, 4, path="set").shape == (3, 4, 4)


def cut_short(data: bytearray) -> bytearray:
    return data[: len(data) // 2]


def change_a_pixel(data: bytearray) -> bytearray:
    place = data.index(pixels(10).transpose(2, 0, 1).tobytes())
    data[place] ^= 1
    return data


def empty(data: bytearray) -> bytearray:
    return data[:0]


@pytest.mark.parametrize("damage", [cut_short, change_a_pixel, empty])
def test_a_damaged_copy_is_made_anew_with_a_warning(
    damage: Callable[[bytearray], bytearray], root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = image_folder(root, None, path="set")
    copy = next((root / ".decoded").iterdir())
    copy.write_bytes(damage(bytearray(copy.read_bytes())))
    again = image_folder(root, None, path="set")
    assert torch.equal(whole.train.inputs, again.train.inputs)
    assert "is damaged" in caplog.text
    caplog.clear()
    image_folder(root, None, path="set")
    assert "is damaged" not in caplog.text


def test_a_copy_that_holds_code_is_not_run(root: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(root / "sprung"),)

    image_folder(root, None, path="set")
    torch.save(Trap(), next((root / ".decoded").iterdir()))
    assert len(image_folder(root, None, path="set").train) == 6
    assert not (root / "sprung").exists()


def test_where_nothing_can_be_kept_there_is_a_warning(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / ".decoded").touch()
    with caplog.at_level(logging.WARNING, logger="deltagclip_cli"):
        assert len(image_folder(root, None, path="set").train) == 6
    assert "cannot keep the decoded images" in caplog.text


def disk_full(*args: object) -> None:
    raise OSError("disk full")


@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_a_copy_that_cannot_be_finished_leaves_nothing_behind(
    place: str, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, place, disk_full)
    image_folder(root, None, path="set")
    assert "disk full" in caplog.text
    assert list((root / ".decoded").iterdir()) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_copy_that_is_broken_off_leaves_nothing_behind(
    error: type[BaseException], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(content: object, file: IO[bytes]) -> None:
        file.write(b"half")
        raise error

    monkeypatch.setattr(torch, "save", break_off)
    with pytest.raises(KeyboardInterrupt) if error is KeyboardInterrupt else nullcontext():
        image_folder(root, None, path="set")
    assert list((root / ".decoded").iterdir()) == []


# What is refused


@pytest.mark.parametrize("path", ["../set", "set/../../set", "/etc", "", "."])
def test_a_path_that_leaves_the_data_folder_is_refused(path: str, root: Path) -> None:
    with pytest.raises(DataError, match="path must name a folder inside the data folder"):
        image_folder(root / "set", None, path=path)


def test_a_linked_folder_may_lie_elsewhere(root: Path, tmp_path_factory: Any) -> None:
    data = tmp_path_factory.mktemp("data")
    (data / "linked").symlink_to(root / "set")
    assert len(image_folder(data, None, path="linked").train) == 6


def test_a_missing_folder_says_what_is_expected(root: Path) -> None:
    with pytest.raises(DataError, match=r"/none/train: cannot be read .*\n.*PATH/train/CLASS"):
        image_folder(root, None, path="none")


def test_a_split_without_classes_is_refused(root: Path) -> None:
    (root / "flat/train").mkdir(parents=True)
    with pytest.raises(DataError, match="flat/train: has no folders"):
        image_folder(root, None, path="flat")


def test_a_class_without_images_is_refused(root: Path) -> None:
    for split in ("train", "test"):
        (root / "set" / split / "cow").mkdir()
    with pytest.raises(DataError, match="train/cow: has no images"):
        image_folder(root, None, path="set")


def test_classes_that_differ_between_the_splits_are_named(root: Path) -> None:
    (root / "set/test/bee").rename(root / "set/test/wasp")
    with pytest.raises(DataError, match="different classes; only in one of them: bee, wasp"):
        image_folder(root, None, path="set")


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_a_broken_image_is_named(content: bytes | None, root: Path) -> None:
    file = root / "set/test/ant/2.png"
    file.write_bytes(file.read_bytes()[:60] if content is None else content)
    with pytest.raises(DataError, match=r"test/ant/2\.png: is not an image that can be read"):
        image_folder(root, None, path="set")
    assert not (root / ".decoded").exists()


@pytest.mark.slow
def test_the_second_start_of_sixty_thousand_images_takes_about_a_second(real_data: Path) -> None:
    image_folder(real_data, None, path="cifar10-jpeg")
    begin = time.perf_counter()
    made = image_folder(real_data, None, path="cifar10-jpeg")
    assert time.perf_counter() - begin < 3
    assert (len(made.train), len(made.test), made.classes) == (50_000, 10_000, 10)
    # The JPEG files are CIFAR-10's images, whose figures are known, but for what JPEG lost.
    assert made.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=2e-3)
