"""Arrays of numpy in a file: what is recognised, and what is refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from deltagclip_cli.core import DataError
from deltagclip_cli.parts.datasets.arrays import npz
from deltagclip_cli.parts.datasets.dataset import Dataset, channel_statistics

DRAW = numpy.random.default_rng(0)
VECTORS = DRAW.normal(3, 2, (8, 3))
LABELS = numpy.array([0, 1] * 4)
ONE_MISSING = numpy.where(numpy.arange(24).reshape(8, 3) == 16, numpy.nan, VECTORS)
SPLITS: Any = {"test": 0.25}


def made(folder: Path, /, arrays: dict[str, Any], **options: Any) -> Dataset:
    numpy.savez(folder / "a.npz", **arrays)
    usual = {} if options.pop("whole", "x" not in arrays) else {"splits": SPLITS}
    found = npz(folder, None, path="a.npz", **{**usual, **options})
    told = {"inputs": "x", "targets": "y", "standardize": False, "data_seed": 0}
    outline = npz.outline(folder, None, path="a.npz", **{**told, **usual, **options})  # type: ignore[attr-defined]
    assert outline.stand_in().shape == found.shape
    assert outline.stand_in().targets_shape == found.targets_shape
    sizes = {name: len(split) for name, split in outline.stand_in().splits.items()}
    assert sizes == {name: len(split) for name, split in found.splits.items()}
    assert outline.classes == found.classes
    return found


def refused(folder: Path, /, arrays: dict[str, Any], **options: Any) -> str:
    numpy.savez(folder / "a.npz", **arrays)
    with pytest.raises(DataError) as caught:
        npz(folder, None, path="a.npz", **options)
    return str(caught.value).replace(f"{folder}/", "")


def test_arrays_are_divided_by_shares_of_each_class(tmp_path: Path) -> None:
    found = made(tmp_path, {"x": VECTORS, "y": LABELS})
    assert (found.shape, found.classes, len(found.train), len(found.test)) == ((3,), 2, 6, 2)
    assert sorted(found.test.targets.tolist()) == [0, 1]
    both = torch.cat([found.train.inputs, found.test.inputs])
    assert both.dtype == torch.float64
    assert sorted(both.tolist()) == sorted(VECTORS.tolist())


@pytest.mark.parametrize("pattern", ["{0}_{1}", "{1}_{0}"], ids=["keras", "medmnist"])
def test_names_of_splits_are_recognised_before_and_behind(tmp_path: Path, pattern: str) -> None:
    arrays = {}
    for number, split in enumerate(("train", "val", "test"), start=1):
        arrays[pattern.format("x", split)] = VECTORS[: 2 * number]
        arrays[pattern.format("y", split)] = LABELS[: 2 * number]
    found = made(tmp_path, arrays)
    assert {name: len(each) for name, each in found.splits.items()} == {
        "train": 2,
        "test": 6,
        "validation": 4,
    }
    drawn = made(tmp_path, arrays, splits={"validation": 0.5, "test": "val"})
    assert {name: len(each) for name, each in drawn.splits.items()} == {
        "train": 1,
        "test": 4,
        "validation": 1,
    }


def test_without_a_test_split_one_is_drawn_from_what_is_trained_on(tmp_path: Path) -> None:
    found = made(tmp_path, {"x_train": VECTORS, "y_train": LABELS})
    assert (len(found.train), len(found.test)) == (6, 2)


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((8, 5, 6), {}, (1, 5, 6)),
        ((8, 3, 5, 6), {}, (3, 5, 6)),
        ((8, 5, 6, 3), {}, (3, 5, 6)),
        ((8, 5, 6, 1), {}, (1, 5, 6)),
        ((8, 3, 5, 3), {"layout": "channels_last"}, (3, 3, 5)),
        ((8, 2, 5, 6), {"layout": "channels_first"}, (2, 5, 6)),
    ],
)
def test_bytes_are_images(tmp_path: Path, shape: Any, options: Any, expected: Any) -> None:
    images = DRAW.integers(0, 256, shape, numpy.uint8)
    found = made(tmp_path, {"x": images, "y": LABELS}, **options)
    assert found.shape == expected and found.train.inputs.dtype == torch.uint8
    assert (found.mean, found.std) == channel_statistics(found.train.inputs)
    whole = images.reshape(8, 1, 5, 6) if len(shape) == 3 else images
    if whole.shape[1:] != expected:
        whole = numpy.moveaxis(whole, 3, 1)
    both = torch.cat([found.train.inputs, found.test.inputs])
    assert sorted(both.flatten(1).tolist()) == sorted(whole.reshape(8, -1).tolist())


def test_it_is_asked_which_dimension_has_the_channels(tmp_path: Path) -> None:
    for shape in ((8, 3, 5, 3), (8, 7, 5, 9)):
        images = numpy.zeros(shape, numpy.uint8)
        assert "channels_last" in refused(tmp_path, {"x": images, "y": LABELS})


def test_real_targets_are_told_side_by_side(tmp_path: Path) -> None:
    real = VECTORS[:, 0].astype(numpy.float32)
    found = made(tmp_path, {"x": VECTORS, "y": real})
    assert (found.classes, found.targets_shape) == (1, (1,))
    found = made(tmp_path, {"x": VECTORS, "y": LABELS}, classes=False)
    assert found.train.targets.dtype == torch.float64
    assert made(tmp_path, {"x": VECTORS, "y": VECTORS[:, :2]}).classes == 2


@pytest.mark.parametrize(
    ("targets", "options", "classes"),
    [
        (LABELS[:, None].astype(numpy.uint8), {}, 2),  # as MedMNIST has them
        (LABELS.astype(float), {"classes": True}, 2),
        (LABELS + 3, {}, 5),
        (LABELS.astype(bool), {}, 2),
        (numpy.array(["no", "yes"] * 4), {}, 2),
    ],
)
def test_whole_numbers_and_words_are_classes(
    tmp_path: Path, targets: Any, options: Any, classes: int
) -> None:
    found = made(tmp_path, {"x": VECTORS, "y": targets}, **options)
    assert found.classes == classes
    assert found.train.targets.dtype == torch.int64 and found.targets_shape == ()
    order = {tuple(row): label for row, label in zip(VECTORS.tolist(), LABELS, strict=True)}
    shift = classes - 2
    for row, label in zip(found.test.inputs.tolist(), found.test.targets.tolist(), strict=True):
        assert label == order[tuple(row)] + shift


def test_vectors_and_targets_may_be_standardised_by_the_training_part(tmp_path: Path) -> None:
    arrays = {"x": VECTORS, "y": 10 * VECTORS[:, 1]}
    plain, found = (made(tmp_path, arrays, standardize=each) for each in (False, True))
    for part in ("inputs", "targets"):
        train = getattr(plain.train, part)
        mean, deviation = train.mean(dim=0), train.std(dim=0, correction=0)
        for split in ("train", "test"):
            before, after = (getattr(getattr(each, split), part) for each in (plain, found))
            torch.testing.assert_close(after, (before - mean) / deviation)
    assert found.target_scale == pytest.approx(float(deviation))
    images = numpy.zeros((8, 5, 6), numpy.uint8)
    said = refused(tmp_path, {"x": images, "y": LABELS}, standardize=True)
    assert "standardize is for vectors" in said


@pytest.mark.parametrize(
    ("arrays", "options", "why"),
    [
        ({"x": VECTORS, "y": LABELS}, {"inputs": "X"}, "no array 'X' - did you mean 'x'?"),
        ({"x": VECTORS, "y": LABELS}, {"targets": "z"}, "It has x (8, 3), y (8,): name them"),
        ({"x": VECTORS, "y": LABELS[:7]}, {}, "are of unequal lengths, 8 and 7"),
        ({"x": VECTORS, "y": VECTORS[0, 0]}, {}, "of unequal lengths, 8 and no dimension"),
        ({"x": numpy.array([{}] * 8), "y": LABELS}, {}, "'x' is of object (Python objects, which"),
        ({"x": VECTORS, "y": numpy.array([None] * 8)}, {}, "'y' is of object"),
        ({"x": VECTORS.astype(complex), "y": LABELS}, {}, "'x' is of complex128"),
        ({"x": LABELS.astype(str), "y": LABELS}, {}, "the inputs are words"),
        ({"x": VECTORS, "y": numpy.eye(8, dtype=int)}, {}, "numpy.argmax"),
        ({"x": VECTORS, "y": VECTORS[:, 0]}, {"classes": True}, "no whole numbers"),
        ({"x": VECTORS, "y": LABELS - 1}, {}, "class -1 among the targets"),
        ({"x": VECTORS[:1], "y": LABELS[:1]}, {}, "one sample cannot be divided"),
        ({"x": VECTORS * numpy.nan, "y": LABELS}, {}, "x: nan in sample 0 (from 0) and 23 more"),
        ({"x": ONE_MISSING, "y": LABELS}, {}, "x: nan in sample 5 (from 0).\n"),
        ({"x": VECTORS * 1e300, "y": LABELS}, {}, "float32 ends at 3.4e+38: write standardize"),
        ({"x": VECTORS, "y": LABELS * 10**9}, {}, "of which a network would have"),
        ({"x": VECTORS, "y": VECTORS[:, 0] * numpy.inf}, {}, "y: inf"),
        ({}, {}, "has no arrays"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path: Path, arrays: Any, options: Any, why: str) -> None:
    assert why in refused(tmp_path, arrays, **options)


def test_a_file_that_is_missing_or_damaged_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"b\.npz: there is no such file"):
        npz(tmp_path, None, path="b.npz")
    assert npz.outline(tmp_path, None, path="b.npz") is None  # type: ignore[attr-defined]
    (tmp_path / "b.npz").write_bytes(b"PK no archive")
    with pytest.raises(DataError, match=r"b\.npz: its arrays cannot be read"):
        npz(tmp_path, None, path="b.npz")
    with pytest.raises(DataError, match="inside the data folder"):
        npz(tmp_path, None, path="../b.npz")


def test_an_array_that_is_smaller_than_it_says_takes_no_memory(tmp_path: Path) -> None:
    numpy.savez(tmp_path / "a.npz", x=VECTORS, y=LABELS)
    opened = io.BytesIO()
    numpy.lib.format.write_array_header_1_0(
        opened, {"descr": "<f8", "fortran_order": False, "shape": (10**13, 3)}
    )
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("x.npy", opened.getvalue())
        with zipfile.ZipFile(tmp_path / "a.npz") as other:
            archive.writestr("y.npy", other.read("y.npy"))
    with pytest.raises(DataError, match="array x is said to take 240000000000000 bytes"):
        npz(tmp_path, None, path="b.npz")
