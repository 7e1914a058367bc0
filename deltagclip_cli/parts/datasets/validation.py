"""A validation split: samples taken out of the training part, for choices to look at.

Which ones they are follows from the data alone, so that it is the same for every optimizer and
seed. They are taken before a setting limits the training samples: what is trained with may become
less, and what is chosen by stays the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from deltagclip_cli.core import DataError, plural
from deltagclip_cli.parts.datasets.dataset import (
    Dataset,
    Outline,
    Samples,
    Split,
    Windows,
    are_classes,
    channel_statistics,
    column_statistics,
)
from deltagclip_cli.parts.datasets.fetched import Items
from deltagclip_cli.parts.datasets.splits import Division

if TYPE_CHECKING:
    from deltagclip_cli.spec.data_settings import Data

OFFICIAL = "official"
"""Stands for the split that the data have themselves."""

Wanted = int | float | str
"""A number of samples, a share of those for training, or :data:`OFFICIAL`."""


def asked_of(loader: Callable[..., Any], data: Data) -> dict[str, Any]:
    """Return the options of data of ours, and that they are to be read with their own split."""
    takes = data.validation == OFFICIAL and "official" in signature(loader).parameters
    return {**data.options, **({"official": True} if takes else {})}


def with_validation(dataset: Dataset, wanted: Wanted, data: str, data_seed: int = 0) -> Dataset:
    """Return the data set with a validation split.

    Of classes each has its share there, as nearly as whole samples allow. A row of tokens gives its
    last windows, for what is next to a window tells too much of it. What was measured of the
    training samples, to normalise by it, is measured anew on those that are left.

    Args:
        wanted: what the setting ``validation`` says.
        data: the name of the data set, for messages.
        data_seed: of the draw, the same on every machine.

    Raises:
        DataError: there is such a split already, or none where that of the data is wanted; or
            validation or training would lack all samples, or those of a class.
    """
    _check_said(wanted, len(dataset.validation or ()), data)
    if wanted == OFFICIAL:
        return dataset
    samples = dataset.train
    count = _counted(wanted, len(samples), data)
    kept, aside = _taken_apart(samples, count, wanted, data, data_seed)
    return _measured_anew(replace(dataset, train=kept, validation=aside), data)


def outline_with_validation(outline: Outline, wanted: Wanted, data: str) -> Outline:
    """Return the outline of what :func:`with_validation` makes, which knows of no classes."""
    _check_said(wanted, outline.validation, data)
    if wanted == OFFICIAL:
        return outline
    count = _counted(wanted, outline.train, data)
    return replace(outline, train=outline.train - count, validation=count)


def _check_said(wanted: Wanted, there: int, data: str) -> None:
    if wanted == OFFICIAL and not there:
        raise DataError(
            f"data {data}: validation is official, but these data have no such split of their own."
            "\n  Write how many training samples to take for it, or which share of them: "
            "validation: 0.1"
        )
    if wanted != OFFICIAL and there:
        raise DataError(
            f"data {data}: validation is {wanted}, but the data have a split for it already, of "
            f"{plural(there, 'sample')}.\n  Write validation: official to use that one."
        )


def _counted(wanted: Wanted, there: int, data: str) -> int:
    """Return how many of the training samples are wanted, where some are left."""
    count = wanted if isinstance(wanted, int) else max(1, round(float(wanted) * there))
    if count >= there:
        raise DataError(
            f"data {data}: validation is {wanted}, which leaves nothing for training: there "
            f"{'is' if there == 1 else 'are'} {plural(there, 'training sample')}.\n"
            "  Write fewer samples, or a smaller share."
        )
    return count


def _taken_apart(
    samples: Samples, count: int, wanted: Wanted, data: str, data_seed: int
) -> tuple[Samples, Samples]:
    """Return the samples that are left to train with, and those that are set aside."""
    left = len(samples) - count
    if isinstance(samples, Windows):
        last = samples.tokens[left * samples.window :]
        return samples.limited(left), Windows.cut(last, samples.window)
    classes = _classes_of(samples)
    division = Division(data, {}, {"validation": count / len(samples)})
    rows = division.drawn(len(samples), data_seed, classes)
    if classes is not None:
        _check_classes(classes, rows["validation"], "in validation", wanted, data)
        _check_classes(classes, rows["train"], "for training", wanted, data)
    return _rows_of(samples, rows["train"]), _rows_of(samples, rows["validation"])


def _classes_of(samples: Samples) -> Tensor | None:
    """Return the class ``(N,)`` of each sample, from 0 on; None of what has none, or tells none."""
    if isinstance(samples, Items):
        return samples.known_classes()
    return samples.targets if are_classes(samples.targets) else None


def _rows_of(samples: Samples, rows: Tensor) -> Samples:
    if isinstance(samples, Items):
        return samples.taken(rows)
    return samples.mapped(lambda leaf: leaf[rows])


def _check_classes(classes: Tensor, rows: Tensor, where: str, wanted: Wanted, data: str) -> None:
    there = torch.bincount(classes)
    lacking = (there > 0) & (torch.bincount(classes[rows], minlength=len(there)) == 0)
    if not lacking.any():
        return
    first, others = int(lacking.int().argmax()), int(lacking.sum()) - 1
    named = f"class {first}" + (f" and {plural(others, 'other')}" if others else "")
    has = int(there[first])
    hint = "Write more samples, or a larger share"
    if has == 1:
        hint = "One sample cannot be in both: add samples of it, or leave it out of the data"
    elif where != "in validation":
        hint = "Write fewer samples, or a smaller share"
    raise DataError(
        f"data {data}: validation is {wanted}, which leaves {named} without a sample {where}: "
        f"there {'is' if has == 1 else 'are'} {plural(has, 'sample')} of class {first}.\n  {hint}."
    )


def _measured_anew(dataset: Dataset, data: str) -> Dataset:
    """Return the data set with statistics of what is left to train with, if it had such."""
    train = dataset.train
    if dataset.measured and isinstance(train, Split):
        mean, std = channel_statistics(train.inputs)
        dataset = replace(dataset, mean=mean, std=std)
    if dataset.standardized is None or not isinstance(train, Split):
        return dataset
    scales = [_scale_of(train.inputs, dataset.standardized, "column", data)]
    factor = 1.0
    if train.targets.is_floating_point():
        scales.append(_scale_of(train.targets, train.targets.shape[1], "target", data))
        factor = float(scales[1][1][0]) if train.targets.shape[1] == 1 else 1.0

    def scaled(split: Samples | None) -> Samples | None:
        if not isinstance(split, Split):
            return split
        parts = [split.inputs, split.targets]
        for place, (mean, deviation) in enumerate(scales):
            parts[place] = (parts[place] - mean) / deviation
        return Split(*parts)

    made: dict[str, Any] = {name: scaled(split) for name, split in dataset.splits.items()}
    return replace(dataset, **made, target_scale=dataset.target_scale * factor)


def _scale_of(values: Tensor, columns: int, name: str, data: str) -> Sequence[Tensor]:
    """Return mean and deviation ``(D,)`` of the first columns; 0 and 1 of the others."""
    names = [f"{name} {number}" for number in range(columns)]
    measured = column_statistics(values[:, :columns].double().numpy(), names, data)
    width = values.shape[1]
    made = values.new_zeros(width), values.new_ones(width)
    for whole, part in zip(made, measured, strict=True):
        whole[:columns] = torch.from_numpy(part)
    return made
