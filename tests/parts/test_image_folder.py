"""Folders of image files: reading, the kept copy, and every way in which a folder can be wrong."""

from __future__ import annotations

import io
import logging
import os
import re
import resource
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

import numpy
import pytest
import torch
from obstacles import OBSTACLES, as_nobody
from PIL import Image, TiffImagePlugin

from deltagclip_cli.core import DataError
from deltagclip_cli.parts.datasets import image_folder as module
from deltagclip_cli.parts.datasets.dataset import channel_statistics
from deltagclip_cli.parts.datasets.image_folder import image_folder


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

    def counted(file: Path, *others: Any) -> Any:
        names.append(file.name)
        return decode(file, *others)

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


GREY = numpy.array([[0, 128, 257], [1000, 32768, 65535]], numpy.uint16)
SCALED = [[0, 0, 1], [4, 128, 255]]  # by 255/65535, to the nearest


def as_pgm(values: numpy.ndarray[Any, Any], white: int) -> bytes:
    height, width = values.shape
    return b"P5 %d %d %d\n" % (width, height, white) + values.astype(">u2").tobytes()


def as_tiff_of_twelve_bits() -> bytes:
    """Black and white, which pillow reads but does not write."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    values = {256: 2, 257: 1, 258: 12, 259: 1, 262: 1, 273: 0, 277: 1, 278: 1, 279: 3}
    for tag, value in values.items():
        tags[tag] = value
    return b"II*\0\x08\0\0\0" + tags.tobytes(8) + b"\x00\x0f\xff"


def red(file: Path, content: bytes | numpy.ndarray[Any, Any]) -> list[list[int]]:
    """The red values of an image, which are its green and blue ones too."""
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        Image.fromarray(content).save(file)
    image = module._decode(file, None)
    assert (image == image[:, :, :1]).all()
    values: list[list[int]] = image[:, :, 0].tolist()
    return values


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_grey_values_of_sixteen_bits_are_scaled_to_eight(tmp_path: Path, name: str) -> None:
    content = as_pgm(GREY, 65535) if name == "a.pgm" else GREY
    assert red(tmp_path / name, content) == SCALED


def test_white_is_white_however_few_bits_there_are(tmp_path: Path) -> None:
    ten = numpy.array([[0, 512, 1023]], numpy.uint16)
    assert red(tmp_path / "a.pgm", as_pgm(ten, 1023)) == [[0, 128, 255]]
    assert red(tmp_path / "a.png", numpy.array([[False, True]])) == [[0, 255]]
    assert red(tmp_path / "a.tif", as_tiff_of_twelve_bits()) == [[0, 255]]


@pytest.mark.parametrize(
    ("kind", "why"), [(numpy.int32, "values of 32 bits"), (numpy.float32, "floating point")]
)
def test_values_of_which_nobody_knows_what_is_white_are_refused(
    root: Path, kind: Any, why: str
) -> None:
    file = root / "set/train/ant/0.tif"
    Image.fromarray(GREY.astype(kind)).save(file)
    with pytest.raises(DataError, match=rf"train/ant/0\.tif: has .*{why}"):
        image_folder(root, 4, path="set")


def test_other_files_and_hidden_ones_are_left_out(root: Path) -> None:
    (root / "set/train/ant/readme.txt").touch()
    (root / "set/train/ant/.0.png").touch()
    (root / "set/train/.trash").mkdir()
    assert len(image_folder(root, None, path="set").train) == 6


@pytest.mark.parametrize("tiny", [0, 10**9], ids=["threads", "one thread"])
def test_the_number_of_threads_does_not_matter(
    tiny: int, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TINY_BYTES", tiny)
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


@pytest.mark.parametrize(("height", "width"), [(60_000, 1), (1, 60_000), (3, 50_000)])
def test_a_line_of_pixels_takes_no_more_memory_than_an_image(
    tmp_path: Path, height: int, width: int
) -> None:
    Image.new("RGB", (width, height), (200, 0, 0)).save(tmp_path / "a.png")
    before = resource.getrlimit(resource.RLIMIT_AS)
    there = 1024 * int(re.findall(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[0])
    resource.setrlimit(resource.RLIMIT_AS, (there + 2**29, before[1]))
    try:
        image = module._decode(tmp_path / "a.png", 224)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert image.shape == (224, 224, 3)
    assert (image == [200, 0, 0]).all()


def test_what_is_made_of_the_centre_alone_is_that_of_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for height, width, size in ((300, 20, 16), (31, 400, 10), (9, 9, 20), (100, 130, 64)):
        image = Image.fromarray(pixels(7, height, width))
        whole = numpy.asarray(module.centre(image, size)).astype(int)
        with monkeypatch.context() as patch:
            patch.setattr(module, "_MOST_PIXELS", 0)
            centre = numpy.asarray(module.centre(image, size)).astype(int)
        assert abs(whole - centre).max() <= 1


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


def a_list(data: bytearray) -> bytearray:
    file = io.BytesIO()
    torch.save([1, 2], file)
    return bytearray(file.getvalue())


@pytest.mark.parametrize("damage", [cut_short, change_a_pixel, empty, a_list])
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


@pytest.mark.parametrize("why", OBSTACLES)
def test_what_is_no_file_is_named_at_once(root: Path, why: str) -> None:
    OBSTACLES[why](root / "set/train/ant/9.png")
    with pytest.raises(DataError, match=re.escape(f"train/ant/9.png: cannot be read ({why}).")):
        image_folder(root, None, path="set")


def test_a_class_that_links_to_itself_is_none(root: Path) -> None:
    (root / "set/train/cow").symlink_to("cow")
    assert image_folder(root, None, path="set").classes == 2


def test_names_need_not_be_utf8(root: Path) -> None:
    before = image_folder(root, None, path="set")
    name = os.fsdecode(b"b\xff")
    for split in ("train", "test"):
        (root / "set" / split / "bee").rename(root / "set" / split / name)
    after = image_folder(root, None, path="set")
    assert torch.equal(after.train.inputs, before.train.inputs)
    (root / "set/train" / name / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"train/b\\udcff/0\.png: is not an image"):
        image_folder(root, None, path="set")


def test_a_class_that_must_not_be_read_is_named(open_folder: Path) -> None:
    for split in ("train", "test"):
        (open_folder / "set" / split / "ant").mkdir(parents=True)
    (open_folder / "set/train/ant").chmod(0o000)
    with as_nobody(), pytest.raises(DataError, match=r"train/ant: cannot be read \(Permission den"):
        image_folder(open_folder, None, path="set")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_of_too_many_pixels_is_refused_before_it_is_unfolded(root: Path) -> None:
    Image.new("1", (10_000, 9_000)).save(root / "set/train/ant/0.png")
    with pytest.raises(DataError, match=r"ant/0\.png: has 10000 x 9000 pixels, which is more than"):
        image_folder(root, 8, path="set")


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
    begin = time.process_time()
    made = image_folder(real_data, None, path="cifar10-jpeg")
    assert time.process_time() - begin < 3
    assert (len(made.train), len(made.test), made.classes) == (50_000, 10_000, 10)
    # The JPEG files are CIFAR-10's images, whose figures are known, but for what JPEG lost.
    assert made.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=2e-3)


def test_a_folder_of_another_name_may_be_the_test_split(root: Path, decoded: list[str]) -> None:
    usual = image_folder(root, None, path="set")
    (root / "set/test").rename(root / "set/val")
    with pytest.raises(DataError, match=re.escape("splits: {test: val}")):
        image_folder(root, None, path="set")
    found = image_folder(root, None, path="set", splits={"test": "val"})
    assert torch.equal(found.test.inputs, usual.test.inputs)
    assert torch.equal(found.train.inputs, usual.train.inputs)
    decoded.clear()
    image_folder(root, None, path="set", splits={"test": "val"})
    assert decoded == []


def test_a_share_of_what_is_trained_on_may_be_validated_on(root: Path) -> None:
    splits: Any = {"validation": 1 / 3, "test": "test"}
    found = image_folder(root, None, path="set", splits=splits)
    assert {name: len(split) for name, split in found.splits.items()} == {
        "train": 4,
        "test": 6,
        "validation": 2,
    }
    assert found.validation is not None
    assert sorted(found.validation.targets.tolist()) == [0, 1]
    assert (found.mean, found.std) == channel_statistics(found.train.inputs)
    whole = image_folder(root, None, path="set").train.inputs
    both = torch.cat([found.train.inputs, found.validation.inputs])
    assert both.sum() == whole.sum()


def test_a_folder_of_classes_is_divided_by_shares(root: Path) -> None:
    draws = [
        image_folder(root, None, path="set/train", splits={"test": 1 / 3}, data_seed=seed)
        for seed in (0, 0, 1, 2, 3)
    ]
    assert all((len(each.train), len(each.test)) == (4, 2) for each in draws)
    assert all(each.test.targets.tolist() == [0, 1] for each in draws)
    assert torch.equal(draws[0].test.inputs, draws[1].test.inputs)
    assert any(not torch.equal(draws[0].test.inputs, each.test.inputs) for each in draws[2:])
    with pytest.raises(DataError, match=r"to train with: splits: \{train: test, test: 0\.2\}"):
        image_folder(root, None, path="set", splits={"validation": 0.1, "test": 0.2})


def test_what_a_network_learns_from_is_not_what_it_is_tested_on(root: Path) -> None:
    with pytest.raises(DataError, match="splits names 'train' twice"):
        image_folder(root, None, path="set", splits={"test": "train"})


def test_one_class_is_nothing_to_tell_apart(root: Path) -> None:
    for split in ("train", "test"):
        shutil.rmtree(root / "set" / split / sorted(os.listdir(root / "set" / split))[0])
    with pytest.raises(DataError, match="is the only class"):
        image_folder(root, None, path="set")


def test_the_splits_are_known_from_the_listing(root: Path) -> None:
    outline = image_folder.outline  # type: ignore[attr-defined]
    splits: Any = {"validation": 1 / 3, "test": "test"}
    found = outline(root, 8, path="set", splits=splits, channels=1)
    assert (found.shape, found.train, found.test, found.validation) == ((1, 8, 8), 4, 6, 2)
    made = image_folder(root, 8, path="set", splits=splits, channels=1)
    assert made.shape == found.shape
    (folder, kept) = image_folder.files(  # type: ignore[attr-defined]
        root, 8, path="set", splits=splits, channels=1
    )
    assert folder == "set" and (root / kept).is_file()


def test_grey_values_stay_one_channel_where_one_is_asked_for(root: Path) -> None:
    grey = pixels(1)[:, :, 0]
    Image.fromarray(grey).save(root / "set/train/ant/0.png")
    Image.fromarray(GREY[:, :3].repeat(4, axis=0).repeat(3, axis=1)[:8, :8]).save(
        root / "set/train/ant/1.png"
    )
    found = image_folder(root, None, path="set", channels=1)
    assert found.shape == (1, 8, 8)
    assert torch.equal(found.train.inputs[0, 0], torch.tensor(grey))
    assert found.train.inputs[1, 0, 0].tolist() == [0, 0, 0, 0, 0, 0, 1, 1]
    colour = Image.fromarray(pixels(12)).convert("L")
    assert torch.equal(found.train.inputs[2, 0], torch.tensor(numpy.array(colour)))
    assert (found.mean, found.std) == channel_statistics(found.train.inputs)
    assert image_folder(root, None, path="set").shape == (3, 8, 8)


def test_what_is_kept_of_a_plain_folder_has_the_name_that_it_always_had(root: Path) -> None:
    for number, file in enumerate(sorted((root / "set").rglob("*.png"))):
        file.write_bytes(file.read_bytes()[:1] * number)
        os.utime(file, ns=(number, number))
    cache = module._listing(root, "set").cache(root, 32)
    kept = "e22858d614240a7bc14887234881411f19589e718a98dc2468cf5c299c7aba5c.pt"
    assert cache.name == kept
