"""Data sets as a trial names them, loaded; and one that is loaded once for several trials."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from deltagclip_cli.core import DataError, UsageError
from deltagclip_cli.parts.datasets.adopted import adopted
from deltagclip_cli.parts.datasets.dataset import Dataset, Split, Windows, place
from deltagclip_cli.parts.datasets.fetched import seeded
from deltagclip_cli.parts.datasets.texts import TextDataset
from deltagclip_cli.parts.datasets.validation import asked_of, with_validation
from deltagclip_cli.parts.making import make
from deltagclip_cli.parts.models import tokenizer
from deltagclip_cli.source.loading import call
from deltagclip_cli.training.exactness import parameter_dtype

if TYPE_CHECKING:
    from deltagclip_cli.spec.data_settings import Data
    from deltagclip_cli.spec.schema import Model
    from deltagclip_cli.spec.trial import Trial


def load_dataset(
    data: Data, data_dir: Path, *, model: Model | None = None, download: bool = True
) -> Dataset:
    """Load a data set, which is downloaded and decoded, or cut into tokens, if it never was.

    Args:
        model: whose tokenizer cuts texts; None for one that reads no texts.
        download: False for a node without a network: what is missing is an error at once.
    """
    folder = data.own_folder(data_dir)
    supplied: dict[str, Any] = {"download": download}
    if folder is None:
        supplied |= {"root": data_dir, "image_size": data.image_size}
        loader, options = data.load(), data.options
        if data.validation is not None:
            options = asked_of(loader, data)
        loaded = call(loader, supplied=supplied, options=options)
    else:
        with seeded(0):  # so that it makes the same each time
            loaded = make(data, supplied={**supplied, "folder": folder})
        if not isinstance(loaded, TextDataset):
            loaded = adopted(loaded, data.name)
    cutter = tokenizer(model, download=download) if model else None
    shape = None if isinstance(loaded, TextDataset) else loaded.shape
    check_reading(data, shape, reads_texts=cutter is not None)
    if isinstance(loaded, TextDataset):
        cutter = loaded.tokenizer or cutter
        assert cutter is not None, "as was just checked"
        loaded = loaded.tokenized(cutter)
    return fitted(loaded, data)


def check_reading(data: Data, shape: tuple[int, ...] | None, *, reads_texts: bool) -> None:
    """Refuse texts, whose inputs have no shape, for a model that reads none, and the reverse."""
    own = data.options.get("tokenizer")
    if shape is None and not reads_texts and own is None:
        hint = "Choose the model bert, or other data."
        if data.name != "emotion":
            hint = (
                "Choose the model bert; or, for one that reads tokens, write data.tokenizer: bytes."
            )
        raise UsageError(f"data {data.name} holds texts, which the model does not read.\n  {hint}")
    if shape is None and reads_texts and own is not None:
        raise UsageError(
            f"data {data.name} are cut by their tokenizer, {own}, but the model has its own.\n"
            "  Leave out data.tokenizer."
        )
    if shape is not None and reads_texts:
        raise UsageError(
            f"the model reads texts, but data {data.name} has inputs of shape {shape}.\n"
            "  Choose data of texts, such as emotion, or another model."
        )


def fitted(dataset: Dataset, data: Data) -> Dataset:
    """Cut a whole data set to the samples that the settings want."""
    if data.validation is not None:
        dataset = with_validation(dataset, data.validation, data.name, data.data_seed)
    dataset = dataset.limited(train_samples=data.train_samples, test_samples=data.test_samples)
    check_batch_size(data, len(dataset.train))
    return dataset


def check_batch_size(data: Data, samples: int) -> None:
    """Refuse a batch of more samples than there are."""
    if data.batch_size != "full" and data.batch_size > samples:
        raise DataError(
            f"data.batch_size is {data.batch_size}, but {data.name} has {samples} samples.\n"
            "  Use a smaller batch, or batch_size: full for all of them in one."
        )


def input_shape(data: Data, stored: Any) -> Any:
    """Return the shape of what a model is given, of inputs that are stored in another."""
    if data.image_size is None or not isinstance(stored, tuple) or len(stored) != 3:
        return stored
    return (stored[0], data.image_size, data.image_size)


def fingerprint(dataset: Dataset) -> str:
    """Return sizes and a checksum of the data, which tell a restart that they are the same."""
    checksum = 0
    for split in dataset.splits.values():
        checksum = split.checksum(checksum)
    sizes = " + ".join(str(len(split)) for split in dataset.splits.values())
    return f"{sizes} samples, checksum {checksum:08x}"


@dataclass(frozen=True)
class Loaded:
    """A data set where it is trained on, for all trials of a process that have the same."""

    dataset: Dataset
    fingerprint: str  # of what was loaded

    @property
    def can_be_shared(self) -> bool:
        """True if several can go through it at once, which not everybody's own code lets them."""
        return all(isinstance(each, (Split, Windows)) for each in self.dataset.splits.values())


def load_placed(
    trial: Trial, data_dir: Path, device: torch.device, *, download: bool = True
) -> Loaded:
    """Load the data of a trial, put them on the device, and make them as exact as its weights."""
    dataset = load_dataset(trial.data, data_dir, model=trial.model, download=download)
    dtype = parameter_dtype(trial.precision)

    def exact(leaf: Tensor) -> Tensor:
        return leaf.to(dtype) if leaf.is_floating_point() else leaf

    placed: dict[str, Any] = {
        name: place(split, device).placed(exact) if isinstance(split, (Split, Windows)) else split
        for name, split in dataset.splits.items()
    }
    return Loaded(replace(dataset, **placed), fingerprint(dataset))
