"""Division of samples into splits: one grammar for files, folders and shares, whatever the data.

``splits: {train: a.csv, validation: 0.1, test: b.csv}``. A word names what holds the samples of a
split. A number is a share of what ``train`` names, or of all samples if that names nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deltagclip_cli.core import DataError, listed, nearest, printable

NAMES = ("train", "validation", "test")

_ROUNDING = 1e-9  # 0.7 + 0.2 + 0.1 is less than 1, 0.8 + 0.1 + 0.1 more


@dataclass(frozen=True)
class Division:
    """Splits that were checked, in the order of :data:`NAMES`.

    Args:
        data: the name of the data set, for messages.
        named: of each split that has samples of its own, what holds them.
        shares: of each split that is drawn. That of training is what is left over, unless it is
            said, or ``train`` is in ``named``.
    """

    data: str
    named: Mapping[str, str]
    shares: Mapping[str, float]

    def sizes(self, samples: int) -> dict[str, int]:
        """Return how many of so many samples go into each split that they are divided into.

        Raises:
            DataError: one would have none.
        """
        sizes = {name: max(1, round(share * samples)) for name, share in self.shares.items()}
        rest = samples - sum(sizes.values())
        if "train" not in sizes:
            sizes, rest = {"train": rest, **sizes}, 0
        if rest < 0 and sizes["train"] > -rest:  # rounded up, each
            sizes["train"] += rest
        if min(sizes.values()) < 1 or sum(sizes.values()) > samples:
            count = f"{samples:,} samples" if samples != 1 else "one sample"
            wanted = ", ".join(f"{name} {share:g}" for name, share in self.shares.items())
            raise DataError(
                f"data {self.data}: {count} cannot be divided into {listed([*sizes])}"
                f"{f' ({wanted})' if wanted else ''}.\n"
                "  Each needs one sample at least: add samples, or change splits."
            )
        return sizes

    def drawn(
        self, samples: int, data_seed: int, classes: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Draw the samples of each split that shares divide: ascending int64 indices ``(n,)``.

        Args:
            samples: how many there are to be divided.
            data_seed: of the draw, the same on every machine.
            classes: the class ``(N,)`` of each sample, from 0 on, if they have any: then each split
                has its share of each class, as nearly as whole samples allow.
        """
        sizes = self.sizes(samples)
        order = torch.randperm(samples, generator=torch.Generator().manual_seed(data_seed))
        if classes is not None:
            order = order[_spread_over(classes[order])]
        split_of, start = torch.full((samples,), -1, dtype=torch.int8), 0
        for name in sorted(sizes, key=NAMES.index, reverse=True):  # another share of training
            end = start + sizes[name]  # leaves the others as they are
            split_of[order[start:end]] = NAMES.index(name)
            start = end
        chosen = {name: split_of.numpy() == NAMES.index(name) for name in sizes}
        # Many times as fast as torch's own, which is why numpy is asked.
        return {name: torch.from_numpy(np.flatnonzero(each)) for name, each in chosen.items()}


def divided(splits: Mapping[str, Any], data: str) -> Division:
    """Check how samples are to be divided.

    Args:
        splits: a share between 0 and 1, or the name of what holds the samples, by the names of
            splits; ``train`` may be left out, ``test`` must be there.
        data: the name of the data set, for messages.

    Raises:
        DataError: a split has another name, no samples are left to train with, a share is none.
    """
    if not isinstance(splits, Mapping):
        raise _refused(data, f"splits is {splits!r}")
    for key in splits:
        if key not in NAMES:
            raise _refused(data, f"splits has {key!r}{nearest(key, NAMES)}")
    if "test" not in splits:
        raise _refused(data, "splits has no test")
    given = {name: splits[name] for name in NAMES if name in splits}
    named = {name: value for name, value in given.items() if isinstance(value, str) and value}
    shares = {name: _share(value, name, data) for name, value in given.items() if name not in named}
    total = math.fsum(shares.values())
    if total > 1 + _ROUNDING or ("train" not in shares and total > 1 - _ROUNDING):
        said = " + ".join(f"{share:g}" for share in shares.values())
        left = "more than all" if total > 1 + _ROUNDING else "which leaves none for train"
        raise _refused(data, f"the shares of splits are {said} = {total:g}, {left}")
    if len(set(named.values())) < len(named):
        twice = next(each for each in named.values() if list(named.values()).count(each) > 1)
        raise _refused(data, f"splits names {twice!r} twice")
    return Division(data, named, shares)


def _share(value: Any, name: str, data: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _refused(data, f"splits.{name} is {value!r}")
    if not 0 < value < 1:
        raise _refused(data, f"splits.{name} is {value:g}, which is no share")
    return float(value)


def inside(root: Path, path: str, data: str, kind: str, content: str) -> Path:
    """Return what ``path`` means below the data folder, ``root``.

    Args:
        kind: of it, a file or a folder, for messages as are the other words.
        content: what the user has there.

    Raises:
        DataError: it would be elsewhere.
    """
    pure = PurePath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise DataError(
            f"{data}: path must name a {kind} inside the data folder (got {path!r}).\n"
            f"  Put the {content} into {root} or link them there, and give the path from there."
        )
    return root / pure


def named_files(root: Path, path: str, division: Division, data: str) -> dict[str, Path]:
    """Return the file, or the folder, of ``train`` and of each other split that names one.

    They lie beside ``path``, or in it if that is a folder. ``path`` itself is that of training if
    ``train`` is not named, also if it is a folder.

    Raises:
        DataError: one would lie outside the data folder.
    """
    place = inside(root, path, data, "file", "files")
    folder = place if place.is_dir() else place.parent
    for name in division.named.values():
        inside(root, str((folder / name).relative_to(root)), data, "file", "files")
    return {"train": place, **{split: folder / name for split, name in division.named.items()}}


def unreadable(file: Path, error: OSError) -> DataError:
    """Return that a file is not there, or cannot be read."""
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return DataError(
            f"{printable(str(file))}: there is no such file.\n"
            "  path is looked for in the data folder: put it there, or name another folder with "
            "--data DIR or $DELTAGCLIP_DATA."
        )
    return DataError(
        f"{printable(str(file))}: cannot be read ({error.strerror or error}).\n"
        "  Allow it to be read, or name another file."
    )


def _refused(data: str, fault: str) -> DataError:
    return DataError(
        f"data {data}: {fault}{'' if fault.endswith('?') else '.'}\n"
        "  It has test, perhaps validation and train, each a share between 0 and 1 or the name of "
        "what holds it: splits: {validation: 0.1, test: 0.2}"
    )


def _spread_over(classes: Tensor) -> Tensor:
    """Return an order ``(N,)`` every beginning of which has its share of each class."""
    by_class = torch.argsort(classes, stable=True)
    counts = torch.bincount(classes)
    starts = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    within = torch.empty(len(classes), dtype=torch.float64)  # how far on in its class, 0 to 1
    place = torch.arange(len(classes)) - starts + 0.5
    within[by_class] = place.double() / torch.repeat_interleave(counts, counts)
    return torch.argsort(within, stable=True)
