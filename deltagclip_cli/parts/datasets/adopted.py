"""Results of data functions of one's own, made a data set of ours or refused in words."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from deltagclip_cli.core import DataError, nearest
from deltagclip_cli.parts.datasets.dataset import (
    Dataset,
    Split,
    are_classes,
    are_images,
    channel_statistics,
)
from deltagclip_cli.parts.datasets.fetched import Collate, Items
from deltagclip_cli.parts.nested import Tree, leaves, map_tree, outlined

_KEYS = ("train", "test", "validation", "collate", "classes")
_EXPECTED = (
    "Return (train, test) or a mapping of train, test and perhaps validation, each a pair (inputs, "
    "targets) of tensors or arrays, or a Dataset with a length."
)
_WIDER = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64}


def adopted(made: object, name: str) -> Dataset:
    """Return what a data function made as a data set of ours.

    Raises:
        DataError: it is something else, empty, of unequal lengths, or of types that torch has not.
    """
    if isinstance(made, Dataset):
        return made
    given = _by_name(made, f"data {name}")
    collate, classes = given.pop("collate", None), given.pop("classes", None)
    splits = {key: _split(each, f"data {name}: {key}", collate) for key, each in given.items()}
    _check_alike(splits, f"data {name}")
    train, targets = splits["train"], splits["train"].example()[1]
    if classes is None:
        classes = _outputs(splits.values())
    mean = std = None
    if isinstance(train, Split) and are_images(train.inputs):
        mean, std = channel_statistics(train.inputs)
    if isinstance(train, Split) and are_classes(targets):
        _check_classes(splits, f"data {name}")
    parts = (train, splits["test"], classes, mean, std)
    return Dataset(*parts, validation=splits.get("validation"), measured=mean is not None)


def _outputs(splits: Collection[Split | Items]) -> int:
    """Return how many outputs the targets ask a model for; 0 if that is not clear.

    That is one a class for whole numbers, the largest and 0 among them, and the last dimension of
    real numbers, 1 without any.
    """
    examples = [split.example()[1] for split in splits]
    first = examples[0]
    if not all(isinstance(each, Tensor) for each in examples):
        return 0
    if first.is_floating_point() or first.dtype == torch.bool:
        return int(first.shape[-1]) if first.ndim > 1 else 1
    if all(isinstance(each, Split) for each in splits):
        return int(max(each.targets.max() for each in splits if isinstance(each, Split))) + 1
    return max(each.classes for each in splits if isinstance(each, Items))


def _by_name(made: object, where: str) -> dict[str, Any]:
    if isinstance(made, Mapping):
        unknown = [key for key in made if key not in _KEYS]
        missing = [key for key in ("train", "test") if key not in made]
        if unknown or missing:
            fault = f"has {unknown[0]!r}" if unknown else f"has no {missing[0]!r}"
            raise DataError(
                f"{where}: the mapping that it returns {fault}"
                f"{(unknown and nearest(str(unknown[0]), _KEYS)) or '.'}\n"
                f"  It may have {', '.join(_KEYS)}; the first two it must have."
            )
        return {
            key: made[key] for key in _KEYS if key in ("train", "test") or made.get(key) is not None
        }
    if isinstance(made, tuple) and len(made) == 2:
        return {"train": made[0], "test": made[1]}
    what = f"a tuple of {len(made)}" if isinstance(made, tuple) else _kind(made)
    raise DataError(f"{where}: the function returns {what}.\n  {_EXPECTED}")


def _split(value: Any, where: str, collate: Collate | None) -> Split | Items:
    if isinstance(value, (Split, Items)):
        return value
    if type(value) is TensorDataset and len(value.tensors) == 2 and collate is None:
        value = tuple(value.tensors)
    if isinstance(value, tuple):
        if collate is not None:
            raise DataError(
                f"{where}: there is a collate, but the samples are tensors already.\n"
                "  Leave collate out, or return a Dataset."
            )
        return _pair(value, where)
    if _is_map_style(value):
        return _items(value, where, collate or getattr(value, "collate", None))
    if isinstance(value, DataLoader):
        raise DataError(
            f"{where} is a torch.DataLoader.\n"
            "  Return what it loads, its dataset: batches of the spec's batch_size are made here."
        )
    reason = "has no length and is read in one order only"
    is_iterable = isinstance(value, IterableDataset) or hasattr(value, "__iter__")
    if is_iterable and not isinstance(value, (Tensor, np.ndarray, Mapping, str)):
        what = f"is {_kind(value)}, which {reason}"
        raise DataError(
            f"{where} {what}.\n  Give it __len__ and __getitem__ (a map-style Dataset)."
        )
    raise DataError(f"{where} is {_kind(value)}.\n  {_EXPECTED}")


def _is_map_style(value: Any) -> bool:
    if isinstance(value, (Tensor, np.ndarray, Mapping, str, bytes, IterableDataset)):
        return False
    arrays = isinstance(value, list) and all(
        isinstance(each, (Tensor, np.ndarray)) for each in value
    )
    is_frame = type(value).__module__.partition(".")[0] in ("pandas", "polars")
    return hasattr(value, "__getitem__") and not arrays and not is_frame


def _items(dataset: Any, where: str, collate: Collate | None) -> Items:
    try:
        samples = len(dataset)
    except (TypeError, NotImplementedError):
        raise DataError(
            f"{where} is {_kind(dataset)}, which has no length.\n  Give it a method __len__."
        ) from None
    if samples == 0:
        raise _empty(where)
    if collate is not None and not callable(collate):
        raise DataError(f"{where}: collate is {_kind(collate)}, which cannot be called.")
    items = Items(dataset, collate, where, samples)
    items.check()
    return items


def _pair(value: tuple[Any, ...], where: str) -> Split:
    if len(value) != 2:
        raise DataError(
            f"{where} is a tuple of {len(value)}, not a pair (inputs, targets).\n"
            "  What belongs together is a tuple or a dictionary inside the pair."
        )
    inputs, targets = (
        _tree(each, f"{where}: {part}")
        for each, part in zip(value, ("inputs", "targets"), strict=True)
    )
    lengths = {len(leaf) for leaf in leaves((inputs, targets))}
    if len(lengths) > 1:
        raise DataError(
            f"{where}: inputs are {outlined(inputs)} and targets {outlined(targets)}, not as many "
            "samples.\n  The first dimension of each is the number of samples."
        )
    if lengths == {0}:
        raise _empty(where)
    return Split(inputs, targets)


def _tree(value: Any, where: str) -> Tree:
    if isinstance(value, Tensor):
        return _of_tensor(value, where)
    if isinstance(value, np.ndarray):
        return _of_array(value, where)
    if isinstance(value, Mapping) and value:
        return {str(key): _tree(each, f"{where}[{key!r}]") for key, each in value.items()}
    if isinstance(value, tuple) and value:
        return tuple(_tree(each, f"{where}[{n}]") for n, each in enumerate(value))
    hint = "Make it a tensor or a numpy array, or dictionaries and tuples of them."
    if type(value).__module__.partition(".")[0] in ("pandas", "polars"):
        hint = "Use .to_numpy(), with the columns that are numbers."
    elif isinstance(value, list):
        hint = "Use torch.tensor(...) or torch.stack(...) to make one tensor of it."
    raise DataError(f"{where} is {_kind(value)}.\n  {hint}")


def _of_tensor(value: Tensor, where: str) -> Tensor:
    if value.layout != torch.strided or value.is_quantized:
        raise DataError(
            f"{where} is a tensor of layout {value.layout}.\n  Use .to_dense(), or a Dataset."
        )
    if value.ndim == 0:
        raise DataError(f"{where} is one number.\n  Its first dimension is the number of samples.")
    return value.detach().cpu()


def _of_array(value: np.ndarray[Any, Any], where: str) -> Tensor:
    """Return a tensor of the same numbers; of the same memory where torch has the type."""
    if isinstance(value, np.ma.MaskedArray):
        raise DataError(f"{where} is a masked array.\n  Use .filled(...), with the mask beside it.")
    if value.dtype.kind not in "biufc" or value.dtype.itemsize > 16 or value.dtype.char in "gG":
        what = (
            "objects, so of unequal lengths or types"
            if value.dtype.kind == "O"
            else "which torch has not"
        )
        raise DataError(
            f"{where} is an array of {value.dtype.name} ({what}).\n"
            "  Make it numbers, or return a Dataset with a collate that does so for a batch."
        )
    value = value.astype(value.dtype.newbyteorder("="), copy=False)
    value = value.astype(_WIDER.get(value.dtype.name, value.dtype), copy=False)
    if any(stride < 0 for stride in value.strides) or not value.flags.writeable:
        # Of what cannot be written torch warns; a file that is mapped into memory is read here.
        value = value.copy()
    return _of_tensor(torch.from_numpy(value), where)


def _check_alike(splits: Mapping[str, Split | Items], where: str) -> None:
    """Refuse splits whose samples are made of other things, or are of other shapes."""
    samples = {name: each.example() for name, each in splits.items()}
    for part, of in enumerate(("inputs", "targets")):
        kinds = {name: map_tree(_kind_of_leaf, sample[part]) for name, sample in samples.items()}
        for name, kind in kinds.items():
            both = isinstance(splits[name], Split) and isinstance(splits["train"], Split)
            if kind != kinds["train"] and both:
                raise DataError(
                    f"{where}: the {of} of train are {_each(samples['train'][part])}, "
                    f"those of {name} {_each(samples[name][part])}.\n"
                    "  All splits must be made of the same things, in the same shapes and types."
                )


def _kind_of_leaf(leaf: Tensor) -> tuple[torch.dtype, tuple[int, ...]]:
    return leaf.dtype, tuple(leaf.shape[1:])


def _each(tree: Tree) -> str:
    return outlined(map_tree(lambda leaf: leaf[0], tree))


def _check_classes(splits: Mapping[str, Split | Items], where: str) -> None:
    for name, split in splits.items():
        least = int(split.targets.min()) if isinstance(split, Split) else 0
        if least < 0:
            raise DataError(
                f"{where}: {name}: class {least} among the targets.\n"
                "  Whole numbers are classes, from 0 on; for others use floating point."
            )


def _empty(where: str) -> DataError:
    return DataError(f"{where} has no samples.\n  Look for what the function reads or leaves out.")


def _kind(value: object) -> str:
    if value is None:
        return "None"
    if isinstance(value, (Tensor, np.ndarray)):
        return f"one {type(value).__name__} {tuple(value.shape)}"
    name = type(value).__name__
    module = type(value).__module__.partition(".")[0]
    known = module in ("pandas", "polars", "numpy", "torch", "PIL")
    return f"{'an' if name[0] in 'AEIOaeio' else 'a'} {f'{module}.' if known else ''}{name}"
