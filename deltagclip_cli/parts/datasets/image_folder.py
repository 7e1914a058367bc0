"""Folders of image files, decoded once and kept."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

from deltagclip_cli.core import (
    DataError,
    file_status,
    listed,
    open_file,
    printable,
    subfolders,
)
from deltagclip_cli.parts.datasets.dataset import (
    Dataset,
    Outline,
    Split,
    channel_statistics,
    described,
)
from deltagclip_cli.parts.datasets.disk_cache import keep, load_kept
from deltagclip_cli.parts.datasets.splits import divided, inside

_LOG = logging.getLogger("deltagclip_cli")
_FORMAT = 2  # of the cache file; part of its name
_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_TINY_BYTES = 16 * 1024
_KEPT = "the decoded images"
_WORDS = ("image_folder", "folder", "images")  # for messages
_MOST_PIXELS = 2**24  # of an image that is made larger than what is kept of it
_ADVICE = "Replace the file or delete it, and run this again."

Array = NDArray[numpy.uint8]


@dataclass(frozen=True)
class ImageFile:
    """One image file, its place relative to the data set's folder, and what tells it changed."""

    name: str
    label: int
    size_bytes: int
    modified_ns: int


@dataclass(frozen=True)
class Listing:
    """The image files of each split, class by class, by name; those that are drawn, in any order.

    Args:
        folder: where they are.
        channels: 3 for red, green and blue, 1 for grey values.
        splits: those of train, test and perhaps validation, in this order.
        mark: what the files do not tell of the splits; empty for those of ``train`` and ``test``.
    """

    folder: Path
    channels: int
    classes: Sequence[str]
    splits: Mapping[str, Sequence[ImageFile]]
    mark: str = ""

    @property
    def files(self) -> list[ImageFile]:
        """The files of all splits."""
        return [file for files in self.splits.values() for file in files]

    def cache(self, root: Path, image_size: int | None) -> Path:
        """The file of the decoded images, named by all that they depend on."""
        digest = hashlib.sha256(f"{_FORMAT} {image_size}{self.mark}".encode())
        for file in self.files:
            name = os.fsencode(file.name)  # which need not be UTF-8
            digest.update(b"\0%b\0%d %d" % (name, file.size_bytes, file.modified_ns))
        return root / ".decoded" / f"{digest.hexdigest()}.pt"


def _stored(root: Path, image_size: int | None, *, path: str, **options: Any) -> Sequence[str]:
    """The folder, whose listing says which images are meant, and those images, if they are kept."""
    cache = _listing(root, path, **options).cache(root, image_size)
    return [path, *([str(cache.relative_to(root))] if cache.is_file() else [])]


def _outline(root: Path, image_size: int | None, *, path: str, **options: Any) -> Outline | None:
    """Return the outline, as far as the listing tells it; None if nothing says the size."""
    if image_size is None or not inside(root, path, *_WORDS).is_dir():
        return None
    there = _listing(root, path, **options)
    shape = (there.channels, image_size, image_size)
    sizes = {split: len(files) for split, files in there.splits.items()}
    return Outline(
        shape,
        len(there.classes),
        sizes["train"],
        sizes["test"],
        validation=sizes.get("validation", 0),
    )


@described(_outline, _stored)
def image_folder(
    root: Path,
    image_size: int | None,
    *,
    path: str,
    splits: dict[str, float | str] | None = None,
    data_seed: int | None = None,
    channels: Literal[1, 3] | None = None,
) -> Dataset:
    """Images in ``root/path/{train,test}/CLASS/*``, as RGB; classes in alphabetical order.

    Grey values of 16 bits are scaled to 8. Those of 32 bits and of floating point are refused, for
    nobody knows what is white.

    The decoded images are kept in ``root/.decoded``, so that the next start takes a moment. The
    file there is named by the names, sizes and times of all images: any change decodes again.

    Args:
        image_size: side in pixels: the shorter side of each image is resized to it (bilinear with
            antialiasing), then the centre is cropped. None wants images of one size.
        path: of the data set's folder, relative to ``root``, which it cannot leave.
        splits: folders in that of the data set, such as ``{test: val}``, where ``train`` is that of
            training if nothing else is said; or shares of its images, drawn of each class alike,
            if the folders of classes are in it themselves.
        data_seed: of that draw; None is 0.
        channels: 1 for grey values, of colours too, as television weighs them; None is 3.

    Raises:
        DataError: a folder is missing or empty, the classes of the splits differ, an image is
            broken, too large or no file at all, or the images differ in size.
    """
    there = _listing(root, path, splits, data_seed, channels)
    cache = there.cache(root, image_size)
    content = load_kept(cache, _KEPT)
    if content is None:
        content = _decode_all(there, image_size)
        keep(content, cache, _KEPT)
    made = {
        split: Split(content[split], torch.tensor([file.label for file in files]))
        for split, files in there.splits.items()
    }
    return Dataset(
        made["train"],
        made["test"],
        len(there.classes),
        tuple(content["mean"]),
        tuple(content["std"]),
        validation=made.get("validation"),
        measured=True,
    )


def _listing(
    root: Path,
    path: str,
    splits: Mapping[str, float | str] | None = None,
    data_seed: int | None = None,
    channels: int | None = None,
) -> Listing:
    folder, colours = inside(root, path, *_WORDS), channels or 3
    wanted = splits or {"train": "train", "test": "test"}
    if any(isinstance(each, str) and each for each in wanted.values()):
        wanted = {"train": "train", **wanted}
    division = divided(wanted, "image_folder")
    named = division.named
    for name in named.values():
        inside(folder, name, *_WORDS)
    classes = _classes(folder, named.get("train", ""))
    for name in named.values():
        theirs = _classes(folder, name)
        if theirs != classes:
            only = sorted(set(theirs) ^ set(classes))
            raise DataError(
                f"{_shown(folder)}: {named['train']} and {name} have different classes; "
                f"only in one of them: {printable(', '.join(only[:5]))}.\n"
                "  Both need the same folders, one for each class."
            )
    files = {split: _scan(folder, name, classes) for split, name in named.items()}
    if division.shares:
        pool = files.get("train") or _scan(folder, "", classes)
        labels = torch.tensor([file.label for file in pool])
        drawn = division.drawn(len(pool), data_seed or 0, labels)
        files |= {split: [pool[n] for n in rows.tolist()] for split, rows in drawn.items()}
    if len(classes) < 2:
        raise DataError(
            f"{_shown(folder)}: {printable(classes[0])} is the only class.\n"
            "  There is nothing to tell apart: add a folder of another one."
        )
    order: Sequence[str] = ("train", "test", "validation")
    ordered = {split: files[split] for split in order if split in files}
    mark = ""
    if splits is not None or colours != 3:
        mark = f" {colours} {[(split, len(each)) for split, each in ordered.items()]}"
    return Listing(folder, colours, classes, ordered, mark)


def _classes(folder: Path, split: str) -> list[str]:
    place = folder / split
    try:
        names = subfolders(place)
    except OSError as error:
        raise _unreadable(place, error, _expected(folder, split)) from error
    if not names:
        raise DataError(
            f"{_shown(place)}: has no folders.\n  It needs one for each class, with images."
        )
    return names


def _expected(folder: Path, split: str) -> str:
    """Return what is to be done about a folder that is not there."""
    try:
        there = subfolders(folder)
    except OSError:
        return (
            "image_folder expects PATH/train/CLASS/* and PATH/test/CLASS/* in the data folder "
            "(--data DIR or $DELTAGCLIP_DATA)."
        )
    other = next((each for each in ("val", "valid", "validation", "dev") if each in there), None)
    if split == "test" and other:
        return f"Its folder {other} takes that place with splits: {{test: {other}}}"
    return (
        f"In {_shown(folder)} there is {printable(listed(there)) if there else 'nothing'}. Name "
        "the folders of the splits, or shares if these are classes: splits: {test: 0.2}"
    )


def _scan(folder: Path, split: str, classes: Sequence[str]) -> list[ImageFile]:
    """All image files of a split, class by class, by name."""
    found = []
    for label, name in enumerate(classes):
        place = folder / split / name
        try:
            there = sorted(os.listdir(place))
        except OSError as error:
            advice = "Remove the folder from each split, or allow it to be read."
            raise _unreadable(place, error, advice) from error
        images = [
            each for each in there if each.lower().endswith(_SUFFIXES) and not each.startswith(".")
        ]
        if not images:
            raise DataError(
                f"{_shown(place)}: has no images ({', '.join(_SUFFIXES)}).\n"
                + (
                    "  Remove the folder from each split, or put images there."
                    if split
                    else "  Remove the folder, or put images there; if the classes are in it, name "
                    f"it as the part to train with: splits: {{train: {printable(name)}, test: 0.2}}"
                )
            )
        for image in images:
            try:
                status = file_status(place / image)
            except OSError as error:
                raise _unreadable(place / image, error, _ADVICE) from error
            relative = "/".join([*([split] if split else []), name, image])
            found.append(ImageFile(relative, label, status.st_size, status.st_mtime_ns))
    return found


def _unreadable(path: Path, error: OSError, advice: str) -> DataError:
    return DataError(f"{_shown(path)}: cannot be read ({error.strerror}).\n  {advice}")


def _shown(path: Path) -> str:
    return printable(str(path))


def _decode_all(there: Listing, image_size: int | None) -> dict[str, Any]:
    _LOG.info("decoding %d images in %s", len(there.files), _shown(there.folder))
    first = there.splits["train"][0]
    shape = _decode(there.folder / first.name, image_size, there.channels).shape
    content: dict[str, Any] = {}
    for split, files in there.splits.items():
        images = _decode_split(there, files, image_size, shape)
        content[split] = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    content["mean"], content["std"] = map(list, channel_statistics(content["train"]))
    return content


def _decode_split(
    there: Listing, files: Sequence[ImageFile], image_size: int | None, shape: tuple[int, ...]
) -> Array:
    """Images ``(N, H, W, C)``, all of one shape."""
    images = numpy.empty((len(files), *shape), dtype=numpy.uint8)

    def fill(index: int) -> None:
        image = _decode(there.folder / files[index].name, image_size, there.channels)
        if image.shape != shape:
            raise DataError(
                f"{_shown(there.folder)}: the images differ in size (height x width):\n"
                f"    {printable(there.splits['train'][0].name)}: {shape[0]} x {shape[1]}\n"
                f"    {printable(files[index].name)}: {image.shape[0]} x {image.shape[1]}\n"
                "  Set image_size in the data to bring all of them to one size."
            )
        images[index] = image

    # Tiny images take less time to decode than threads take to hand Python's lock around.
    tiny = sum(file.size_bytes for file in files) < _TINY_BYTES * len(files)
    with ThreadPoolExecutor(1 if tiny else torch.get_num_threads()) as threads:
        for _ in threads.map(fill, range(len(files))):
            pass
    return images


def _decode(file: Path, image_size: int | None, channels: int = 3) -> Array:
    """One image as uint8 ``(H, W, channels)``."""
    try:
        with open_file(file) as content, Image.open(content) as opened:
            image = _in_mode(opened, "RGB" if channels == 3 else "L")
    except (MemoryError, _UnfitError) as error:
        raise DataError(f"{_shown(file)}: {error or 'is too large'}.\n  {_ADVICE}") from error
    except Exception as error:  # pillow has no class of its own for a bad file
        raise DataError(
            f"{_shown(file)}: is not an image that can be read ({error}).\n  {_ADVICE}"
        ) from error
    if image_size is not None:
        image = centre(image, image_size)
    values = numpy.asarray(image)
    return values if channels == 3 else values[:, :, None]


class _UnfitError(Exception):
    """An image can be read, but is nothing to learn from; says why."""


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and image.width * image.height > most:
        raise _UnfitError(f"has {image.width} x {image.height} pixels, which is more than {most:,}")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        bits = image.tag_v2[BITSPERSAMPLE][0] if isinstance(image, TiffImageFile) else 16
        grey, white = numpy.asarray(image, dtype=numpy.uint32), (1 << bits) - 1
        scaled = (grey * 255 + white // 2) // white
        return Image.fromarray(scaled.astype(numpy.uint8)).convert(mode)
    if image.mode in ("I", "F"):
        values = "32 bits" if image.mode == "I" else "floating point"
        raise _UnfitError(
            f"has values of {values}, of which nobody knows which is white; 8 or 16 bits are read"
        )
    return image.convert(mode)


def centre(image: Image.Image, size: int) -> Image.Image:
    """Return a square from the centre of an image whose shorter side was resized to ``size``."""
    width, height = image.size
    shorter = min(width, height)
    width, height = (max(size, round(side * size / shorter)) for side in (width, height))
    left, top = (width - size) // 2, (height - size) // 2
    if width * height > _MOST_PIXELS:  # of which only the centre is made, equal but for rounding
        across, down = image.width / width, image.height / height
        box = (left * across, top * down, (left + size) * across, (top + size) * down)
        return image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return image.crop((left, top, left + size, top + size))
