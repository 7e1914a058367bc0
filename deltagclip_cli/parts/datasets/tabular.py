"""Tables in comma-separated files: columns to learn from, and columns to tell."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deltagclip_cli.core import DataError, file_status, listed, plural, printable
from deltagclip_cli.parts.datasets.dataset import (
    Dataset,
    Numbers,
    Outline,
    Split,
    column_statistics,
    described,
)
from deltagclip_cli.parts.datasets.delimited import (
    Columns,
    TableFormat,
    check_columns,
    column_names,
    read_columns,
)
from deltagclip_cli.parts.datasets.disk_cache import keep, load_kept
from deltagclip_cli.parts.datasets.splits import Division, divided, inside, unreadable

_LOG = logging.getLogger("deltagclip_cli")
_FORMAT = 1  # of the cache file; part of its name
_KEPT = "the table"
_AT_ONCE_BYTES = 2**26  # of files that are read to tell how many rows they have


@dataclass(frozen=True)
class _Asked:
    """The columns that are wanted, and what is to become of them."""

    form: TableFormat
    targets: Sequence[str]
    inputs: Sequence[str]  # that are numbers
    categories: Sequence[str]  # inputs that are words
    classes: bool

    @property
    def numbers(self) -> list[str]:
        return [*self.inputs, *(() if self.classes else self.targets)]

    @property
    def words(self) -> list[str]:
        return [*self.categories, *(self.targets if self.classes else ())]


@dataclass(frozen=True)
class _Place:
    """The files of a table, below the data folder."""

    root: Path
    division: Division
    pool: str  # the file that is trained on, and that shares are drawn from

    def files(self) -> dict[str, str]:
        """Return the names of the files, relative to the root, by that of their split."""
        folder = os.path.dirname(self.pool)
        others = {
            name: os.path.join(folder, file)
            for name, file in self.division.named.items()
            if name != "train"
        }
        return {"train": self.pool, **others}


def _outline(root: Path, image_size: int | None, *, path: str, **options: Any) -> Outline | None:
    """Return the outline, of a table that is kept or that is read in a moment."""
    place = _place(root, path, options.get("splits"))
    files = [root / name for name in place.files().values()]
    if not all(each.is_file() for each in files):
        return None
    kept = all(each.is_file() for each in _caches(place, options))
    if not kept and sum(each.stat().st_size for each in files) > _AT_ONCE_BYTES:
        return None
    made = csv(root, image_size, path=path, **options)
    assert isinstance(made.train, Split) and isinstance(made.test, Split)
    assert isinstance(made.train.inputs, Tensor) and isinstance(made.train.targets, Tensor)
    validation = 0 if made.validation is None else len(made.validation)
    return Outline(
        shape=tuple(made.train.inputs.shape[1:]),
        classes=made.classes,
        train=len(made.train),
        test=len(made.test),
        dtype=made.train.inputs.dtype,
        validation=validation,
        targets_shape=tuple(made.train.targets.shape[1:]),
        targets_dtype=made.train.targets.dtype,
    )


def _stored(root: Path, image_size: int | None, *, path: str, **options: Any) -> Sequence[str]:
    place = _place(root, path, options.get("splits"))
    kept = [each for each in _caches(place, options) if each.is_file()]
    return [*place.files().values(), *(str(each.relative_to(root)) for each in kept)]


@described(_outline, _stored)
def csv(
    root: Path,
    image_size: int | None,
    *,
    path: str,
    target: str | list[str],
    inputs: list[str] | None = None,
    categories: list[str] | None = None,
    classes: bool = False,
    standardize: bool = True,
    missing: Literal["drop", "mean"] | None = None,
    splits: dict[str, float | str] | None = None,
    data_seed: int = 0,
    columns: list[str] | None = None,
    delimiter: str | None = None,
    decimal: str = ".",
    thousands: str | None = None,
    encoding: str = "utf-8",
) -> Dataset:
    """A table in a comma-separated file: numbers, and words by one input for each.

    Inputs are float64 ``(N, D)``: the columns of numbers in their order, then one column for each
    word of each of the categories, 1 where that word stands. Targets are float64 ``(N, T)``, or
    int64 ``(N,)`` if they are classes: the words, or numbers, of that column in their order.

    What was read is kept in ``root/.tables``, so that the next start takes a moment. The file there
    is named by the names, sizes and times of the table, and by what is read of it.

    Args:
        path: of the file relative to ``root``, which it cannot leave; also packed, as ``.csv.gz``.
            A folder, if ``splits`` names its files.
        target: the column that is to be told, or several of them.
        inputs: the columns that are learnt from. None takes all others that have a name, for one
            without is most often an index.
        categories: columns among these that hold words; a word that the training part has not is 0
            everywhere.
        classes: whether the values of the target are classes.
        standardize: numbers, targets among them, to a mean of 0 and a standard deviation of 1 over
            the training part. A column that is constant there is 0.
        missing: rows with an empty cell are left out (``drop``), or get the mean of the training
            part in its place (``mean``; no word, of words). None refuses them.
        splits: files beside ``path`` or in it, or shares of its rows, drawn by ``data_seed``, of
            each class alike. None is ``{test: 0.2}``.
        columns: the names of all columns, of a file without a line of them.
        delimiter: between cells: a comma, or a tab in a file ``.tsv``.
        thousands: a mark between groups of digits.

    Raises:
        DataError: a file or a column is missing, a cell is empty or no number, a row has another
            length, or a split would have no samples.
        UsageError: pyarrow is not installed.
    """
    options = {
        "target": target, "inputs": inputs, "categories": categories, "classes": classes,
        "columns": columns, "delimiter": delimiter, "decimal": decimal, "thousands": thousands,
        "encoding": encoding,
    }  # fmt: skip
    if image_size is not None:
        raise DataError("image_size is for images, but csv holds numbers.\n  Remove it.")
    place = _place(root, path, splits)
    asked = _asked(root / place.pool, options)
    parts = {
        split: _complete(_kept(root, name, asked), root / name, asked, missing)
        for split, name in place.files().items()
    }
    names = _class_names(parts, place, asked) if asked.classes else []
    labels = {split: _labels(each, names) for split, each in parts.items()} if names else {}
    drawn = _drawn(parts.pop("train"), place.division, data_seed, labels.pop("train", None))
    for split, part in parts.items():
        drawn[split] = part, labels.get(split)
    scaling = _Scaling.of(drawn["train"][0], asked, standardize)
    made = {
        split: Split(scaling.inputs(part), scaling.targets(part) if found is None else found)
        for split, (part, found) in drawn.items()
    }
    scale = float(scaling.deviations[-1]) if not classes and len(asked.targets) == 1 else 1.0
    return Dataset(
        made["train"],
        made["test"],
        len(names) or len(asked.targets),
        None,
        None,
        validation=made.get("validation"),
        target_scale=scale,
        standardized=len(asked.inputs) if standardize else None,
    )


def _place(root: Path, path: str, splits: Mapping[str, float | str] | None) -> _Place:
    folder = inside(root, path, "csv", "file", "files")
    division = divided(splits or {"test": 0.2}, "csv")
    pool = path
    if folder.is_dir():
        if "train" not in division.named:
            raise DataError(
                f"{printable(str(folder))}: is a folder.\n  Name its files: splits: {{train: "
                "train.csv, test: test.csv}, or one of them in path."
            )
        pool = os.path.join(path, division.named["train"])
    elif "train" in division.named:
        pool = os.path.join(os.path.dirname(path), division.named["train"])
    for name in division.named.values():
        inside(root, os.path.join(os.path.dirname(pool), name), "csv", "file", "files")
    return _Place(root, division, pool)


def _asked(pool: Path, options: Mapping[str, Any]) -> _Asked:
    """Return the columns that are wanted, all of which the file has."""
    form = TableFormat(**{key: options[key] for key in vars(TableFormat()) if key in options})
    target, classes = options["target"], bool(options.get("classes"))
    targets = [target] if isinstance(target, str) else list(target)
    there = column_names(pool, form)
    categories = options.get("categories") or []
    chosen = options.get("inputs")
    check_columns(targets, there, "target", pool)
    check_columns(categories, there, "categories", pool)
    if chosen is None:
        chosen = [name for name in there if name and name not in targets]
    check_columns(chosen, there, "inputs", pool)
    chosen = [*chosen, *(name for name in categories if name not in chosen)]
    _check_asked(chosen, targets, classes)
    numbers = [name for name in chosen if name not in categories]
    return _Asked(form, targets, numbers, categories, classes)


def _check_asked(chosen: Sequence[str], targets: Sequence[str], classes: bool) -> None:
    both = [name for name in targets if name in chosen]
    if both:
        raise DataError(
            f"data csv: {both[0]!r} is a target and among the inputs, so that there is nothing to "
            "learn.\n  Leave it out of one of them."
        )
    if classes and len(targets) > 1:
        raise DataError("data csv: classes are those of one target.\n  Name one column alone.")
    if not chosen or not targets:
        raise DataError("data csv: there is no column to learn from.\n  Name inputs and a target.")
    for name, listing in (("inputs", chosen), ("target", targets)):
        if len(set(listing)) < len(listing):
            raise DataError(f"data csv: {name} names a column twice.\n  Name each once.")


def _cache(root: Path, name: str, asked: _Asked) -> Path:
    """Return the file that keeps what is read of a table, named by all that it depends on."""
    try:
        status = file_status(root / name)
    except OSError as error:
        raise unreadable(root / name, error) from error
    said = json.dumps([_FORMAT, vars(asked.form), asked.numbers, asked.words])
    digest = hashlib.sha256(said.encode())
    digest.update(b"\0%b\0%d %d" % (os.fsencode(name), status.st_size, status.st_mtime_ns))
    return root / ".tables" / f"{digest.hexdigest()}.pt"


def _caches(place: _Place, options: Mapping[str, Any]) -> list[Path]:
    asked = _asked(place.root / place.pool, options)
    return [_cache(place.root, name, asked) for name in place.files().values()]


def _kept(root: Path, name: str, asked: _Asked) -> Columns:
    cache = _cache(root, name, asked)
    content = load_kept(cache, _KEPT)
    if content is None:
        _LOG.info("reading %s", printable(str(root / name)))
        there = column_names(root / name, asked.form)
        check_columns([*asked.numbers, *asked.words], there, "the data", root / name)
        read = read_columns(root / name, asked.form, asked.numbers, asked.words)
        content = {
            "numbers": torch.from_numpy(read.numbers),
            "codes": torch.from_numpy(read.codes),
            "words": [list(each) for each in read.words],
        }
        keep(content, cache, _KEPT)
    return Columns(content["numbers"].numpy(), content["codes"].numpy(), content["words"])


def _complete(
    part: Columns, file: Path, asked: _Asked, missing: Literal["drop", "mean"] | None
) -> Columns:
    """Return the rows that can be used; DataError if there are empty cells that nobody fills."""
    if not np.isnan(part.numbers.sum()) and (part.codes >= 0).all():
        return part
    empty = np.concatenate([np.isnan(part.numbers), part.codes < 0], axis=1)
    names = [*asked.numbers, *asked.words]
    if missing == "drop":
        full = np.flatnonzero(~empty.any(axis=1))
        left, of = len(part) - len(full), len(part)
        _LOG.info("%s: %d of %d rows have empty cells and are left out", file, left, of)
        if not len(full):
            raise DataError(f"{printable(str(file))}: every row has an empty cell.")
        return _taken(part, full)
    gaps = {
        name: column
        for name, column in zip(names, empty.T, strict=True)
        if column.any() and (missing is None or name in asked.targets)
    }
    if gaps:
        raise _incomplete(file, gaps, int(empty.any(axis=1).sum()), missing)
    return part


def _incomplete(file: Path, gaps: Mapping[str, Any], rows: int, missing: str | None) -> DataError:
    told = [
        f"{name!r} ({int(column.sum()):,} empty, the first in row {int(column.argmax()) + 1})"
        for name, column in gaps.items()
    ]
    of = len(next(iter(gaps.values())))
    hint = (
        "missing: drop leaves these rows out, missing: mean fills in the mean of the training part."
        if missing is None
        else "A target cannot be filled in: write missing: drop, or take these rows out."
    )
    return DataError(
        f"{printable(str(file))}: {plural(rows, 'row')} of {of:,} "
        f"{'has' if rows == 1 else 'have'} empty cells: column {listed(told)}.\n  {hint}"
    )


def _taken(part: Columns, rows: Any) -> Columns:
    return replace(
        part, numbers=part.numbers.take(rows, axis=0), codes=part.codes.take(rows, axis=0)
    )


def _class_names(parts: Mapping[str, Columns], place: _Place, asked: _Asked) -> list[str]:
    """Return the classes in their order: as numbers if all of them are, else as words."""
    there = {
        split: {part.words[-1][code] for code in np.unique(part.codes[:, -1])}
        for split, part in parts.items()
    }
    for split, words in there.items():
        other = sorted(words - there["train"])
        if other:
            raise DataError(
                f"{printable(place.files()[split])}: {split} has {plural(len(other), 'class')} of "
                f"{asked.targets[0]!r} that nothing is trained on: {listed(other)}.\n"
                "  Correct the word, or add samples of it to the file that is trained on."
            )
    names = sorted(there["train"])
    if len(names) < 2:
        raise DataError(f"data csv: {asked.targets[0]!r} is {names[0]!r} everywhere: one class.")
    try:
        return sorted(names, key=float)
    except ValueError:
        return names


def _labels(part: Columns, names: Sequence[str]) -> Tensor:
    places = {name: place for place, name in enumerate(names)}
    of_code = torch.tensor([places.get(word, -1) for word in part.words[-1]])
    return of_code[torch.from_numpy(part.codes[:, -1])]


def _drawn(
    pool: Columns, division: Division, data_seed: int, labels: Tensor | None
) -> dict[str, tuple[Columns, Tensor | None]]:
    """Divide what is drawn from; the training part comes first."""
    if not division.shares:
        return {"train": (pool, labels)}
    chosen = division.drawn(len(pool), data_seed, labels)
    return {
        split: (_taken(pool, rows.numpy()), None if labels is None else labels[rows])
        for split, rows in chosen.items()
    }


@dataclass(frozen=True)
class _Scaling:
    """Makes inputs and targets of columns, as the training part says.

    Args:
        means: of each column of numbers, which is taken off.
        deviations: the standard deviation of each, which is divided by.
        fillings: of each, what stands in the place of an empty cell.
        words: those that each category has in the training part.
    """

    asked: _Asked
    means: Numbers
    deviations: Numbers
    fillings: Numbers
    words: Sequence[Sequence[str]]

    @classmethod
    def of(cls, train: Columns, asked: _Asked, standardize: bool) -> _Scaling:
        """Measure the training part."""
        numbers = train.numbers
        nothing = [asked.numbers[n] for n in np.flatnonzero(np.isnan(numbers).all(axis=0))]
        if nothing:
            raise DataError(
                f"data csv: column {nothing[0]!r} is empty everywhere in the training part.\n"
                "  Leave it out of the inputs."
            )
        means, deviations = column_statistics(numbers, asked.numbers, "csv")
        words = [
            [part[code] for code in np.unique(codes[codes >= 0])]
            for part, codes in zip(train.words, train.codes.T, strict=True)
        ][: len(asked.categories)]
        fillings = means
        if not standardize:
            means, deviations = np.zeros_like(means), np.ones_like(means)
        return cls(asked, means, deviations, fillings, words)

    def inputs(self, part: Columns) -> Tensor:
        """Return inputs ``(N, D)``, float64."""
        start = len(self.asked.inputs)
        scaled = self._scaled(part, slice(0, start))
        if not self.words:
            return torch.from_numpy(scaled)
        made = np.empty((len(part), start + sum(map(len, self.words))))
        made[:, :start] = scaled
        for words, there, codes in zip(self.words, part.words, part.codes.T, strict=False):
            end = start + len(words)
            # One row more, of zeros, for no word and for one that the training part has not.
            row_of = [words.index(word) if word in words else len(words) for word in there]
            rows = np.eye(len(words) + 1, len(words))
            made[:, start:end] = rows[np.array([*row_of, len(words)])[codes]]
            start = end
        return torch.from_numpy(made)

    def targets(self, part: Columns) -> Tensor:
        """Return targets ``(N, T)``, float64."""
        return torch.from_numpy(self._scaled(part, slice(len(self.asked.inputs), None)))

    def _scaled(self, part: Columns, place: slice) -> NDArray[np.float64]:
        values = part.numbers[:, place]
        if np.isnan(values.sum()):
            values = np.where(np.isnan(values), self.fillings[place], values)
        # In place, for what was read is needed for nothing else.
        values -= self.means[place]
        values /= self.deviations[place]
        return values
