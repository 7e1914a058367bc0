"""From the data of a trial to batches on the device that trains."""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from deltagclip_cli.core import DataError, UsageError, load_target, stopped
from deltagclip_cli.parts.datasets.dataset import (
    Augmentation,
    Batches,
    Dataset,
    TokenBatches,
    place,
)
from deltagclip_cli.parts.datasets.texts import TextDataset
from deltagclip_cli.parts.models import tokenizer
from deltagclip_cli.spec.schema import Data, Model, Normalization


def load_dataset(
    data: Data, data_dir: Path, *, model: Model | None = None, download: bool = True
) -> Dataset:
    """Load a data set, which is downloaded and decoded, or cut into tokens, if it never was.

    Args:
        data: its settings.
        data_dir: where data sets lie.
        model: whose tokenizer cuts texts; None for one that reads no texts.
        download: False for a node without a network: what is missing is an error at once.

    Raises:
        DataError: it is missing or broken, or does not fit the settings.
        UsageError: the model is of texts and the data are not, or the other way round; or what it
            was pretrained as is missing.
    """
    loader = load_target(data.target)
    takes_download = "download" in inspect.signature(loader).parameters
    supplied = {"download": download} if takes_download else {}
    loaded: Dataset | TextDataset = loader(data_dir, data.image_size, **supplied, **data.options)
    cutter = tokenizer(model.target, model.options, download=download) if model else None
    shape = None if isinstance(loaded, TextDataset) else loaded.shape
    check_reading(data, shape, reads_texts=cutter is not None)
    if isinstance(loaded, TextDataset):
        assert cutter is not None, "as was just checked"
        loaded = loaded.tokenized(cutter)
    return fitted(loaded, data)


def check_reading(data: Data, shape: tuple[int, ...] | None, *, reads_texts: bool) -> None:
    """Refuse texts for a model that reads none, and the other way round.

    Args:
        data: settings of the data.
        shape: of the inputs; None for texts.
        reads_texts: whether the model reads texts.

    Raises:
        UsageError: they do not go together.
    """
    if shape is None and not reads_texts:
        raise UsageError(
            f"data {data.name} holds texts, which the model does not read.\n"
            "  Choose the model bert, or other data."
        )
    if shape is not None and reads_texts:
        raise UsageError(
            f"the model reads texts, but data {data.name} has inputs of shape {shape}.\n"
            "  Choose data of texts, such as emotion, or another model."
        )


def fitted(dataset: Dataset, data: Data) -> Dataset:
    """A whole data set cut to the samples that the settings want.

    Raises:
        DataError: it has fewer, or fewer than a batch.
    """
    dataset = dataset.limited(train_samples=data.train_samples, test_samples=data.test_samples)
    check_batch_size(data, len(dataset.train))
    return dataset


def check_batch_size(data: Data, samples: int) -> None:
    """Refuse a batch of more samples than there are.

    Raises:
        DataError: it has more.
    """
    if data.batch_size != "full" and data.batch_size > samples:
        raise DataError(
            f"data.batch_size is {data.batch_size}, but {data.name} has {samples} samples.\n"
            "  Use a smaller batch, or batch_size: full for all of them in one."
        )


def input_shape(data: Data, stored: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what a model is given, of inputs that are stored in another."""
    if data.image_size is None or len(stored) != 3:
        return stored
    return (stored[0], data.image_size, data.image_size)


def make_batches(
    data: Data, dataset: Dataset, training: bool, device: torch.device, dtype: torch.dtype
) -> Batches | TokenBatches:
    """The batches of one split.

    Raises:
        UsageError: the data do not go with their augmentation, or it refuses its options.
    """
    split = place(dataset.train if training else dataset.test, device)
    wanted = data.batch_size if training else data.evaluation_batch_size
    batch_size = len(split) if wanted == "full" else wanted
    if dataset.padding is not None:
        if data.augment:
            raise DataError(f"augment is for images, but {data.name} holds texts.\n  Remove it.")
        return TokenBatches(split, batch_size=batch_size, device=device, padding=dataset.padding)
    mean, std = _normalization(data, dataset)
    return Batches(
        split,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        mean=mean,
        std=std,
        image_size=data.image_size,
        augmentations=_augmentations(data, dataset) if training else [],
    )


def _augmentations(data: Data, dataset: Dataset) -> list[Augmentation]:
    size = data.image_size or dataset.shape[-1]
    return [
        built(each.target, "augmentation", each.name, each.options, size) for each in data.augment
    ]


def _normalization(
    data: Data, dataset: Dataset
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    if isinstance(data.normalize, Normalization):
        return tuple(data.normalize.mean), tuple(data.normalize.std)
    return (dataset.mean, dataset.std) if data.normalize == "dataset" else (None, None)


def fingerprint(dataset: Dataset) -> str:
    """Sizes and a checksum of the data, by which a restart knows that they are the same."""
    checksum = 0
    for split in (dataset.train, dataset.test):
        for tensor in (split.inputs, split.targets):
            checksum = zlib.crc32(tensor.contiguous().numpy().data, checksum)
    return f"{len(dataset.train)} + {len(dataset.test)} samples, checksum {checksum:08x}"


def built(target: str, kind: str, name: str, options: Mapping[str, Any], *supplied: object) -> Any:
    """What a target makes of its options.

    Raises:
        UsageError: it refuses them.
    """
    try:
        return load_target(target)(*supplied, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{kind} '{name}' refuses its options: {stopped(error)}") from None
