"""Data sets of the library datasets, from a folder that its ``save_to_disk`` wrote."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from deltagclip_cli.core import (
    DataError,
    UsageError,
    by_size,
    listed,
    nearest,
    printable,
    shortened,
    stopped,
)
from deltagclip_cli.parts.datasets.dataset import Dataset, Split, channel_statistics, described
from deltagclip_cli.parts.datasets.disk_cache import keep, load_kept
from deltagclip_cli.parts.datasets.splits import NAMES, Division, divided, inside
from deltagclip_cli.parts.datasets.texts import TextDataset, Texts
from deltagclip_cli.parts.datasets.tokenizing import tokenizer_of

_FORMAT = 1  # of the kept file; part of its name
_KEPT = "the decoded images"
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


@described(lambda root, image_size, **options: None, lambda root, image_size, *, path, **_: [path])
def huggingface(
    root: Path,
    image_size: int | None,
    *,
    path: str,
    inputs: str | list[str] | None = None,
    text: str | None = None,
    target: str = "label",
    splits: dict[str, float | str] | None = None,
    data_seed: int = 0,
    tokenizer: str | None = None,
    max_length: int = 300,
) -> Dataset | TextDataset:
    """Data set of the library datasets, from a folder that save_to_disk wrote.

    It is read into memory. Images are decoded, grey ones of one channel and all others of three,
    and kept in ``root/.decoded``. Numbers become float64 ``(N, D)``, their columns side by side.
    The network is never asked for anything, and no code of a data set is run.

    Args:
        image_size: side in pixels: the shorter side of images is resized to it, then the centre is
            cropped. None wants images of one size.
        path: of the folder relative to ``root``, which it cannot leave.
        inputs: a column of images, or one or more of numbers. None takes the only one of images, or
            all that hold numbers.
        text: a column of texts, in the place of ``inputs``.
        target: the column to be told: of class labels, whole numbers or words, which are classes,
            or of real numbers, ``(N, T)``.
        splits: names of splits in the folder, or shares of that of training, drawn by
            ``data_seed``, of each class alike. None takes those there are by their names, or a
            fifth for the test if there is one.
        tokenizer: what cuts texts, as of data ``texts``; and so ``max_length``.

    Raises:
        DataError: there is no such folder, split or column, a value is missing, or images differ in
            size.
        UsageError: the library is not installed.
    """
    folder = inside(root, path, "huggingface", "folder", "folder")
    there = _loaded(folder)
    division = _division(splits, there)
    sources = _sources(folder, there, division)
    columns = _columns(folder, sources["train"], inputs, text, target)
    targets, classes = _targets(folder, sources, target)
    if text is not None:
        values: Mapping[str, Any] = {
            name: _texts(folder, name, each, text) for name, each in sources.items()
        }
    elif _is_image(sources["train"].features[columns[0]]):
        values = _images(root, folder, sources, columns[0], image_size)
    elif image_size is not None:
        raise DataError(f"image_size is for images, but {columns[0]!r} holds none.\n  Remove it.")
    else:
        values = {name: _numbers(folder, name, each, columns) for name, each in sources.items()}
    made = {name: (values[name], targets[name]) for name in sources}
    if division.shares:
        pool, labels = made.pop("train")
        drawn = division.drawn(len(labels), data_seed, labels if classes else None)
        made |= {name: (_taken(pool, index), labels[index]) for name, index in drawn.items()}
    if text is not None:
        cut = {name: Texts(words, labels) for name, (words, labels) in made.items()}
        cutter = None if tokenizer is None else tokenizer_of(root, tokenizer)
        parts = (cut["train"], cut["test"], classes, max_length, cut.get("validation"), cutter)
        return TextDataset(root, "huggingface", *parts)
    found = {name: Split(*each) for name, each in made.items()}
    mean = std = None
    if found["train"].inputs.dtype == torch.uint8:
        mean, std = channel_statistics(found["train"].inputs)
    outputs = classes or found["train"].targets.shape[1]
    made_of = (found["train"], found["test"], outputs, mean, std)
    return Dataset(*made_of, validation=found.get("validation"), measured=mean is not None)


@contextmanager
def _offline() -> Iterator[None]:
    """Let the libraries below ask no network, which they decide when they are imported."""
    before = {name: os.environ.get(name) for name in _OFFLINE}
    os.environ.update(_OFFLINE)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _loaded(folder: Path) -> Any:
    """Return the ``Dataset`` or the ``DatasetDict`` in a folder."""
    with _offline():
        try:
            import datasets
        except ImportError:
            raise UsageError(
                "data huggingface: the library datasets is not installed.\n"
                "  Run pip install 'deltagclip_cli[bert]', or pip install datasets."
            ) from None
        if not folder.is_dir():
            raise DataError(
                f"{_shown(folder)}: there is no such folder.\n  Write it where there is a network: "
                "datasets.load_dataset('NAME').save_to_disk('FOLDER'); then copy it into the data "
                "folder (--data DIR)."
            )
        datasets.disable_progress_bars()
        try:
            return datasets.load_from_disk(str(folder))
        except Exception as error:  # the library has no class of its own for a bad folder
            raise DataError(
                f"{_shown(folder)}: is not what save_to_disk writes: {stopped(error)}\n"
                "  Write it anew: datasets.load_dataset('NAME').save_to_disk('FOLDER')."
            ) from error


def _division(splits: Mapping[str, Any] | None, there: Any) -> Division:
    if splits is None:
        names = {name: name for name in NAMES if isinstance(there, dict) and name in there}
        splits = names if "test" in names else {**names, "test": 0.2}
    return divided(splits, "huggingface")


def _sources(folder: Path, there: Any, division: Division) -> dict[str, Any]:
    """Return the data set of each split that is not a share of another one."""
    if not isinstance(there, dict):
        if division.named:
            raise DataError(
                f"{_shown(folder)}: holds one split, without a name.\n"
                "  Write shares: splits: {validation: 0.1, test: 0.1}."
            )
        return {"train": there}
    named = {"train": "train", **division.named}
    for name in named.values():
        if name not in there:
            raise DataError(
                f"{_shown(folder)}: has no split {name!r}{_near(name, there)}\n"
                f"  It has {listed([*there])}; name them: splits: {{train: …, test: …}}."
            )
    return {split: there[name] for split, name in named.items()}


def _columns(
    folder: Path, source: Any, inputs: str | Sequence[str] | None, text: str | None, target: str
) -> list[str]:
    """Return the columns that are learnt from, all of which are there."""
    if text is not None and inputs is not None:
        raise DataError("data huggingface: both text and inputs are written.\n  Leave one out.")
    there = source.column_names
    if inputs is None and text is None:
        images = [name for name in there if _is_image(source.features[name])]
        numbers = [n for n in there if n != target and _is_number(source.features[n])]
        inputs = images[:1] or numbers
        if not inputs or len(images) > 1:
            raise DataError(
                f"{_shown(folder)}: it is not clear what is learnt from.\n"
                f"  Write inputs or text: its columns are {listed(there)}."
            )
    named = inputs if text is None else text
    wanted = [named] if isinstance(named, str) else [*(named or ())]
    for name in [*wanted, target]:
        if name not in there:
            raise DataError(
                f"{_shown(folder)}: has no column {name!r}{_near(name, there)}\n"
                f"  Its columns: {', '.join(there)}."
            )
    if target in wanted:
        raise DataError(f"data huggingface: {target!r} is target and input, so nothing is learnt.")
    return wanted


def _targets(
    folder: Path, sources: Mapping[str, Any], target: str
) -> tuple[dict[str, Tensor], int]:
    """Return the targets of each split, and how many classes they are of; 0 for real numbers."""
    values = {name: each.with_format("numpy")[:][target] for name, each in sources.items()}
    feature = sources["train"].features[target]
    if hasattr(feature, "num_classes"):
        names: list[Any] = list(range(feature.num_classes))
    elif numpy.asarray(values["train"]).dtype.kind == "f":
        rows = {name: _finite(folder, name, target, each) for name, each in values.items()}
        return {name: each.reshape(len(each), -1) for name, each in rows.items()}, 0
    else:
        names = sorted({*_plain(values["train"])}, key=lambda name: by_size(str(name)))
    numbers = {name: number for number, name in enumerate(names)}
    made = {}
    for split, each in values.items():
        plain = _plain(each)
        wrong = next((row for row, name in enumerate(plain) if name not in numbers), None)
        if wrong is not None:
            raise DataError(
                f"{_shown(folder)}: {split}, row {wrong + 1}: {target!r} is {plain[wrong]!r}, "
                "which is no class that is trained on.\n"
                "  Choose another split, or leave such rows out."
            )
        made[split] = torch.tensor([numbers[name] for name in plain])
    if len(names) < 2:
        raise DataError(f"{_shown(folder)}: {target!r} is {names[0]!r} everywhere: one class.")
    return made, len(names)


def _plain(values: Any) -> list[Any]:
    return [each.item() if hasattr(each, "item") else each for each in values]


def _texts(folder: Path, split: str, source: Any, text: str) -> list[str]:
    words = list(source[text])
    for row, each in enumerate(words, start=1):
        if not isinstance(each, str) or not each.strip():
            raise DataError(
                f"{_shown(folder)}: {split}, row {row}: {text!r} is {shortened(repr(each))}, which "
                "is no text.\n  Choose another column, or leave such rows out."
            )
    return words


def _numbers(folder: Path, split: str, source: Any, columns: Sequence[str]) -> Tensor:
    read = source.select_columns(list(columns)).with_format("numpy")[:]
    rows = [_finite(folder, split, name, read[name]) for name in columns]
    return torch.cat([each.reshape(len(each), -1) for each in rows], dim=1)


def _finite(folder: Path, split: str, column: str, values: Any) -> Tensor:
    try:
        rows = torch.from_numpy(numpy.array(values).astype(numpy.float64))
    except (TypeError, ValueError):
        raise DataError(
            f"{_shown(folder)}: {split}: {column!r} has no numbers, or rows of unequal lengths.\n"
            "  Choose other inputs; texts are named by text."
        ) from None
    missing = ~torch.isfinite(rows.reshape(len(rows), -1)).all(dim=1)
    if missing.any():
        raise DataError(
            f"{_shown(folder)}: {split}, row {int(missing.int().argmax()) + 1}: {column!r} has a "
            "value that is missing or not finite.\n  Fill it in, or leave such rows out."
        )
    return rows


def _images(
    root: Path, folder: Path, sources: Mapping[str, Any], column: str, image_size: int | None
) -> dict[str, Tensor]:
    """Return uint8 images ``(N, C, H, W)``, which are kept for the next start."""
    digest = hashlib.sha256(f"{_FORMAT} {folder.absolute()} {column} {image_size}".encode())
    for name, each in sources.items():
        digest.update(f"\0{name} {each._fingerprint} {len(each)}".encode())
    kept = root / ".decoded" / f"{digest.hexdigest()}.pt"
    content = load_kept(kept, _KEPT)
    if content is None:
        first = sources["train"][0][column]
        grey = first is not None and first.mode in ("1", "L")
        content = {
            name: _decoded(folder, name, each, column, grey, image_size)
            for name, each in sources.items()
        }
        keep(content, kept, _KEPT)
    return content


def _decoded(
    folder: Path, split: str, source: Any, column: str, grey: bool, image_size: int | None
) -> Tensor:
    from deltagclip_cli.parts.datasets.image_folder import centre

    images: Any = None
    for row in range(len(source)):
        place = f"{_shown(folder)}: {split}, row {row + 1}"
        try:
            image = source[row][column].convert("L" if grey else "RGB")
        except Exception as error:  # pillow has no class of its own for a bad image
            raise DataError(f"{place}: is no image that can be read ({error}).") from error
        pixels = numpy.asarray(image if image_size is None else centre(image, image_size))
        if images is None:
            images = numpy.empty((len(source), *pixels.shape), dtype=numpy.uint8)
        if pixels.shape != images.shape[1:]:
            raise DataError(
                f"{place}: has {pixels.shape[1]} x {pixels.shape[0]} pixels, those before it "
                f"{images.shape[2]} x {images.shape[1]}.\n"
                "  Set image_size in the data to bring all of them to one size."
            )
        images[row] = pixels
    stacked = torch.from_numpy(images)
    return stacked.unsqueeze(1) if grey else stacked.permute(0, 3, 1, 2).contiguous()


def _taken(pool: Any, index: Tensor) -> Any:
    return pool[index] if isinstance(pool, Tensor) else [pool[each] for each in index.tolist()]


def _is_image(feature: Any) -> bool:
    return type(feature).__name__ == "Image"


def _is_number(feature: Any) -> bool:
    inner = getattr(feature, "feature", feature)
    kind = str(getattr(inner, "dtype", ""))
    return not hasattr(inner, "num_classes") and kind.startswith(("int", "uint", "float", "bool"))


def _near(name: str, there: Any) -> str:
    return nearest(name, [*there]) or "."


def _shown(path: Path) -> str:
    return printable(str(path))
