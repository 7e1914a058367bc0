"""Arrays of numpy, in one file."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray

from deltagclip_cli.core import DataError, nearest, open_file, printable, shortened
from deltagclip_cli.parts.datasets.adopted import adopted
from deltagclip_cli.parts.datasets.dataset import (
    Dataset,
    Outline,
    column_statistics,
    described,
)
from deltagclip_cli.parts.datasets.splits import NAMES, Division, divided, inside, unreadable

_CALLED = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
_COLOURS = (1, 3, 4)  # as many channels as an image may be known by
_LAYOUTS = ("channels_first", "channels_last")
_MOST_CLASSES = 1_000  # where there are fewer samples than that
_ADVICE = "Save it again with numpy.savez, from arrays of numbers."

Array = NDArray[Any]
Layout = Literal["channels_first", "channels_last"]


@dataclass(frozen=True)
class _Header:
    """The shape of an array in a file, and the type of its numbers."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class _Archive:
    """The arrays of a file, of which one is read when it is asked for."""

    def __init__(self, file: Path, content: zipfile.ZipFile) -> None:
        self._file, self._content = file, content
        members = {each.filename: each for each in content.infolist()}
        self._members = {
            name.removesuffix(".npy"): each
            for name, each in members.items()
            if name.endswith(".npy")
        }
        if not self._members:
            raise DataError(f"{printable(str(file))}: has no arrays.\n  {_ADVICE}")

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def header(self, name: str) -> _Header:
        """Return what the file says of an array; DataError if it is not there or no numbers."""
        if name not in self._members:
            there = [f"{each} {self.header(each).shape}" for each in self._members]
            raise DataError(
                f"{printable(str(self._file))}: has no array {name!r}"
                f"{nearest(name, self._members) or '.'}\n"
                f"  It has {shortened(', '.join(there), 400)}: name them in inputs and targets."
            )
        member = self._members[name]
        with self._content.open(member) as opened:
            version = npy.read_magic(opened)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(opened)
            said = math.prod(shape) * dtype.itemsize
            if not dtype.hasobject and member.file_size - opened.tell() != said:
                raise ValueError(f"array {name} is said to take {said} bytes, and does not")
        return _Header(shape, dtype)

    def read(self, name: str) -> Array:
        """Return an array."""
        header = self.header(name)
        if header.dtype.kind not in "biufUS":
            what = "Python objects, which only code can load" if header.dtype.hasobject else ""
            raise DataError(
                f"{printable(str(self._file))}: array {name!r} is of {header.dtype.name}"
                f"{f' ({what})' if what else ''}.\n  {_ADVICE}"
            )
        with self._content.open(self._members[name]) as opened:
            array: Array = npy.read_array(opened, allow_pickle=False)
        return array


@contextmanager
def _opened(root: Path, path: str) -> Iterator[_Archive]:
    file = inside(root, path, "npz", "file", "file")
    try:
        with open_file(file) as content, zipfile.ZipFile(content) as archive:
            yield _Archive(file, archive)
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, zlib.error) as error:
        reason = shortened(str(error), 200)
        raise DataError(
            f"{printable(str(file))}: its arrays cannot be read ({reason}).\n  {_ADVICE}"
        ) from error
    except OSError as error:
        raise unreadable(file, error) from error


def _outline(root: Path, image_size: int | None, *, path: str, **options: Any) -> Outline | None:
    """Return the outline, from what the file says of its arrays, and the targets."""
    if not inside(root, path, "npz", "file", "file").is_file():
        return None
    with _opened(root, path) as archive:
        asked = _Asked.of(archive, options)
        header = archive.header(asked.inputs["train"])
        is_image, shape = _image_shape(header, options.get("layout"))
        dtype = torch.uint8 if is_image else torch.float64
        if header.dtype.kind == "f" and header.dtype.itemsize == 4:
            dtype = torch.float32
        samples = {split: len(each) for split, each in asked.divided(archive).items()}
    targets = asked.targets["train"]
    is_class = targets.dtype.kind == "i"
    return Outline(
        shape=shape,
        classes=asked.classes,
        train=samples["train"],
        test=samples["test"],
        dtype=dtype,
        validation=samples.get("validation", 0),
        targets_shape=() if is_class else targets.shape[1:],
        targets_dtype=torch.int64 if is_class else torch.float64,
    )


def _stored(root: Path, image_size: int | None, *, path: str, **options: Any) -> Sequence[str]:
    with _opened(root, path):
        return [path]


@described(_outline, _stored)
def npz(
    root: Path,
    image_size: int | None,
    *,
    path: str,
    inputs: str = "x",
    targets: str = "y",
    classes: bool | None = None,
    standardize: bool = False,
    layout: Layout | None = None,
    splits: dict[str, float | str] | None = None,
    data_seed: int = 0,
) -> Dataset:
    """Arrays of numpy in a file ``.npz``: images, or vectors and whatever has more dimensions.

    Arrays of uint8 with three or four dimensions are images, ``(N, H, W)``, ``(N, H, W, C)`` or
    ``(N, C, H, W)`` with 1, 3 or 4 channels. All others are real numbers. Targets are classes if
    they are whole numbers, ``(N,)`` or ``(N, 1)``, or words, in alphabetical order; else real
    numbers, ``(N, T)``, of which ``(N,)`` becomes ``(N, 1)``.

    Nothing in the file is executed.

    Args:
        path: of the file relative to ``root``, which it cannot leave.
        inputs: the name of the array of inputs, with that of a split before or behind it, as in
            ``x_train``, if the file has several.
        targets: that of the targets, likewise.
        classes: whether the targets are classes; None tells it by their type.
        standardize: vectors ``(N, D)``, column by column, and real targets, to a mean of 0 and a
            standard deviation of 1 over the training part.
        layout: of images, where three and four dimensions may mean either.
        splits: what names of arrays have for each split, or shares, drawn by ``data_seed``, of each
            class alike. None takes ``train``, ``test`` and, if it is there, ``validation``, ``val``
            or ``valid``; or ``{test: 0.2}`` if nothing in the file is called so.

    Raises:
        DataError: a file or an array is missing, damaged, of Python objects or of unequal lengths,
            a number is NaN, or a split would have no samples.
    """
    options: Mapping[str, Any] = {
        "inputs": inputs, "targets": targets, "classes": classes, "splits": splits,
        "data_seed": data_seed,
    }  # fmt: skip
    with _opened(root, path) as archive:
        asked = _Asked.of(archive, options)
        arrays = {split: archive.read(name) for split, name in asked.inputs.items()}
        rows = asked.divided(archive)
    file = printable(str(root / path))
    most = float("inf") if standardize else float(np.finfo(np.float32).max)
    for split, array in arrays.items():
        of = f" of {split}" if len(arrays) > 1 else ""
        _check_finite(array, f"{file}: {inputs}{of}", most)
        _check_finite(asked.targets[split], f"{file}: {targets}{of}", most)
    made: dict[str, tuple[Array, Array]] = {}
    for split, chosen in rows.items():
        source = split if split in arrays else "train"
        read, told = _inputs(arrays[source], layout, file), asked.targets[source]
        is_all = len(chosen) == len(told)  # in their order, and need no copy
        made[split] = (read, told) if is_all else (read[chosen], told[chosen])
    scale = 1.0
    if standardize:
        made, scale = _standardized(made, file)
    dataset = adopted({**made, "classes": asked.classes}, "npz")
    columns = made["train"][0].shape[1] if standardize else None
    return replace(dataset, target_scale=scale, standardized=columns)


@dataclass(frozen=True)
class _Asked:
    """The arrays of inputs by their splits, the targets, and how they are divided."""

    inputs: Mapping[str, str]
    targets: Mapping[str, Array]  # int64 ``(N,)``, or float64 ``(N, T)``
    classes: int  # or outputs
    division: Division
    data_seed: int

    @classmethod
    def of(cls, archive: _Archive, options: Mapping[str, Any]) -> _Asked:
        """Find the arrays of a file and read the targets; DataError if something is missing."""
        inputs, targets = options.get("inputs", "x"), options.get("targets", "y")
        splits = options.get("splits")
        if splits is None:
            splits = _splits_in(archive, inputs) or {"test": 0.2}
        division = divided(splits, "npz")
        words = dict(division.named)
        if not words or "train" not in words:
            words["train"] = "train" if words or _named(archive, inputs, "train") else ""
        words = {split: words[split] for split in NAMES if split in words}
        names = {split: _sought(archive, inputs, word) for split, word in words.items()}
        raw = {
            split: archive.read(_sought(archive, targets, word)) for split, word in words.items()
        }
        for split, name in names.items():
            samples = [archive.header(name).shape[:1], raw[split].shape[:1]]
            if samples[0] != samples[1] or not samples[0]:
                counts = " and ".join(str(each[0]) if each else "no dimension" for each in samples)
                raise DataError(
                    f"data npz: {split}: inputs {name!r} and targets are of unequal lengths, "
                    f"{counts}.\n  The first dimension of each is the number of samples."
                )
        found, outputs = _targets(raw, options.get("classes"))
        return cls(names, found, outputs, division, options.get("data_seed", 0))

    def divided(self, archive: _Archive) -> dict[str, Any]:
        """Return the rows of each split: all of its own, or some of those to be drawn from."""
        rows: dict[str, Any] = {
            split: np.arange(archive.header(name).shape[0]) for split, name in self.inputs.items()
        }
        if self.division.shares:
            train = self.targets["train"]
            labels = torch.from_numpy(train) if train.dtype.kind == "i" else None
            drawn = self.division.drawn(len(train), self.data_seed, labels)
            rows |= {split: each.numpy() for split, each in drawn.items()}
        return rows


def _splits_in(archive: _Archive, inputs: str) -> dict[str, str]:
    """Return the splits that names of arrays tell, if there are those that must be."""
    found = {
        split: word
        for split, words in _CALLED.items()
        for word in reversed(words)
        if _named(archive, inputs, word)
    }
    return found if {"train", "test"} <= found.keys() else {}


def _named(archive: _Archive, name: str, word: str) -> str | None:
    """Return the name of the array of a split; None if there is none."""
    return next((each for each in (f"{name}_{word}", f"{word}_{name}") if each in archive), None)


def _sought(archive: _Archive, name: str, word: str) -> str:
    """Return the name of the array of a split, or of all samples; DataError if there is none."""
    found = _named(archive, name, word) if word else name
    if found is None:
        archive.header(f"{name}_{word}")
    archive.header(found or name)
    return found or name


def _image_shape(header: _Header, layout: Layout | None) -> tuple[bool, tuple[int, ...]]:
    """Return whether an array holds images, and the shape of one of its inputs ``(C, H, W)``."""
    shape = header.shape[1:]
    if header.dtype != np.uint8 or len(shape) not in (2, 3):
        return False, shape or (1,)
    if len(shape) == 2:
        return True, (1, *shape)
    first, last = shape[0] in _COLOURS, shape[2] in _COLOURS
    if layout is None and first == last:
        raise DataError(
            f"data npz: images of shape {shape}: it is not clear which of these are the channels.\n"
            f"  Write layout: {' or '.join(_LAYOUTS)}."
        )
    is_last = last if layout is None else layout == "channels_last"
    return True, (shape[2], *shape[:2]) if is_last else shape


def _inputs(array: Array, layout: Layout | None, file: str) -> Array:
    """Return images ``(N, C, H, W)``, or real numbers."""
    if array.dtype.kind in "US":
        raise DataError(f"{file}: the inputs are words.\n  Name an array of numbers in inputs.")
    is_image, shape = _image_shape(_Header(array.shape, array.dtype), layout)
    if not is_image:
        real = array if array.dtype.kind == "f" else array.astype(np.float64)
        return real.reshape(-1, 1) if real.ndim == 1 else real
    if array.shape[1:] in (shape, shape[1:]):
        return array.reshape(-1, *shape)
    return array.transpose(0, 3, 1, 2)


def _targets(raw: Mapping[str, Array], classes: bool | None) -> tuple[dict[str, Array], int]:
    """Return targets as classes or as real numbers, and how many there are of them."""
    kinds = {each.dtype.kind for each in raw.values()}
    are_classes = bool(kinds & set("biuUS")) if classes is None else classes
    if not are_classes:
        if kinds & set("US"):
            raise DataError("data npz: the targets are words.\n  Leave out classes: false.")
        real = {split: each.astype(np.float64) for split, each in raw.items()}
        real = {split: each.reshape(len(each), -1) for split, each in real.items()}
        return real, real["train"].shape[1]
    wide = next((each for each in raw.values() if math.prod(each.shape[1:]) != 1), None)
    if wide is not None:
        raise DataError(
            f"data npz: targets of shape {wide.shape} are no classes, one for each sample.\n"
            "  Save their numbers, such as of numpy.argmax(y, axis=1); or write classes: false."
        )
    return _classes({split: each.reshape(-1) for split, each in raw.items()})


def _classes(flat: Mapping[str, Array]) -> tuple[dict[str, Array], int]:
    """Return class numbers of words or of whole numbers, and how many classes there are."""
    if any(each.dtype.kind in "US" for each in flat.values()):
        words, places = np.unique(np.concatenate(list(flat.values())), return_inverse=True)
        ends = np.cumsum([len(each) for each in flat.values()])[:-1]
        numbered = dict(zip(flat, np.split(places.astype(np.int64), ends), strict=True))
        return numbered, len(words)
    for each in flat.values():
        if each.dtype.kind == "f" and not (np.isfinite(each) & (each == np.floor(each))).all():
            raise DataError(
                "data npz: the targets are no whole numbers, and so no classes.\n"
                "  Leave out classes: true."
            )
    numbered = {split: each.astype(np.int64) for split, each in flat.items()}
    together = np.concatenate(list(numbered.values()))
    least = int(together.min(initial=0))
    if least < 0:
        raise DataError(
            f"data npz: class {least} among the targets.\n"
            "  Classes are numbered from 0 on; write classes: false for real numbers."
        )
    classes = int(together.max(initial=0)) + 1
    if classes > max(_MOST_CLASSES, len(together)):
        raise DataError(
            f"data npz: the largest class among the targets is {classes - 1:,}, of which a network "
            f"would have {classes:,} outputs.\n"
            "  Number the classes from 0 on; write classes: false for real numbers."
        )
    return numbered, classes


def _check_finite(array: Array, where: str, most: float) -> None:
    """Refuse numbers that are none, or are larger than what they are to be computed with."""
    if array.dtype.kind != "f":
        return
    bad = ~(np.abs(array) <= most) | np.isinf(array)
    if not bad.any():
        return
    place = tuple(np.argwhere(bad)[0])
    count = int(bad.sum()) - 1
    more = f" and {count:,} more such" if count else ""
    found = f"{where}: {array[place]} in sample {place[0]:,} (from 0){more}"
    if np.isfinite(array[place]):
        raise DataError(f"{found}.\n  float32 ends at {most:.2g}: write standardize: true.")
    raise DataError(f"{found}.\n  Leave such samples out, or fill in numbers.")


def _standardized(
    made: Mapping[str, tuple[Array, Array]], file: str
) -> tuple[dict[str, tuple[Array, Array]], float]:
    """Return inputs and real targets standardised, and the deviation of a single target."""
    inputs, targets = made["train"]
    if inputs.ndim != 2:
        raise DataError(
            f"{file}: standardize is for vectors (N, D), and the inputs are {inputs.shape}.\n"
            "  Leave it out: images are normalised by the setting normalize."
        )
    names = [f"column {number}" for number in range(inputs.shape[1])]
    mean, deviation = column_statistics(inputs.astype(np.float64), names, "npz")
    scaled = {split: ((x - mean) / deviation, y) for split, (x, y) in made.items()}
    if targets.dtype.kind == "i":
        return scaled, 1.0
    names = [f"target {number}" for number in range(targets.shape[1])]
    mean, deviation = column_statistics(targets, names, "npz")
    scaled = {split: (x, (y - mean) / deviation) for split, (x, y) in scaled.items()}
    return scaled, float(deviation[0]) if targets.shape[1] == 1 else 1.0
