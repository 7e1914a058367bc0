"""Texts with labels, of tables, of lines of JSON and of folders with a file for each text."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deltagclip_cli.core import DataError, by_size, listed, nearest, plural, printable, subfolders
from deltagclip_cli.parts.datasets.dataset import Outline, described
from deltagclip_cli.parts.datasets.delimited import check_columns
from deltagclip_cli.parts.datasets.splits import divided, named_files, unreadable
from deltagclip_cli.parts.datasets.texts import TextDataset, Texts
from deltagclip_cli.parts.datasets.tokenizing import TokenizerFile, tokenizer_of

_AT_ONCE_BYTES = 2**24  # of files that are read to tell how many texts they have


@dataclass(frozen=True)
class LabelledText:
    """A text, its label as a word, and where both stand."""

    text: str
    label: str
    place: str


def _stored(root: Path, image_size: int | None, *, path: str, **options: Any) -> Sequence[str]:
    division = divided(options.get("splits") or {"test": 0.2}, "texts")
    files = [*named_files(root, path, division, "texts").values()]
    name = options.get("tokenizer")
    cutter = tokenizer_of(root, name) if name else None
    if isinstance(cutter, TokenizerFile):
        files.append(cutter.file)
    return [str(file.relative_to(root)) for file in files]


def _outline(
    root: Path, image_size: int | None, *, path: str, max_length: int = 300, **options: Any
) -> Outline | None:
    """Return the outline, of files that are read in a moment."""
    division = divided(options.get("splits") or {"test": 0.2}, "texts")
    files = named_files(root, path, division, "texts").values()
    if not all(each.is_file() and each.stat().st_size <= _AT_ONCE_BYTES for each in files):
        return None
    made = texts(root, image_size, path=path, max_length=max_length, **options)
    validation = 0 if made.validation is None else len(made.validation.texts)
    sizes = len(made.train.texts), len(made.test.texts)
    return Outline(
        (max_length,), made.classes, *sizes, torch.int32, texts=True, validation=validation
    )


@described(_outline, _stored)
def texts(
    root: Path,
    image_size: int | None,
    *,
    path: str,
    text: str = "text",
    label: str = "label",
    splits: dict[str, float | str] | None = None,
    data_seed: int = 0,
    tokenizer: str | None = None,
    max_length: int = 300,
) -> TextDataset:
    """Texts with labels: of a table (.csv, .tsv), lines of JSON, or a folder of classes.

    In a folder of classes each text is a file, ``CLASS/*.txt``. Labels are words or numbers; the
    classes are those of the training part, numbers by their size and words by their letters.

    Args:
        path: of the file or the folder, relative to ``root``, which it cannot leave.
        text: the column, or the key, of the texts.
        label: that of their labels.
        splits: shares, drawn by ``data_seed``, of each class alike; or files (or folders of
            classes) beside ``path`` or in it. None is ``{test: 0.2}``.
        tokenizer: what cuts the texts for a model that has no tokenizer of its own: ``bytes``, or
            the place below ``root`` of a ``tokenizer.json`` or of a folder with one.
        max_length: of a text in tokens; what is longer is cut off.

    Raises:
        DataError: a file or a column is missing or damaged, a text or a label is empty, there is
            one class, or a label that nothing is trained on.
    """
    if image_size is not None:
        raise DataError("image_size is for images, but texts holds texts.\n  Remove it.")
    division = divided(splits or {"test": 0.2}, "texts")
    files = named_files(root, path, division, "texts")
    found = {split: list(_read(file, text, label)) for split, file in files.items()}
    for split, each in found.items():
        if not each:
            raise DataError(f"{_shown(files[split])}: has no texts.\n  Put some there.")
    if division.shares:
        pool = found.pop("train")
        words = {word: n for n, word in enumerate(dict.fromkeys(each.label for each in pool))}
        classes = torch.tensor([words[each.label] for each in pool])
        for split, indices in division.drawn(len(pool), data_seed, classes).items():
            found[split] = [pool[index] for index in indices.tolist()]
    names = sorted({each.label for each in found["train"]}, key=by_size)
    if len(names) < 2:
        raise DataError(
            f"data texts: the training part of {_shown(files['train'])} has one class, "
            f"{names[0]!r}.\n  There must be two at least to tell apart: look at {label!r}."
        )
    made = {split: _numbered(split, each, names) for split, each in found.items()}
    cutter = None if tokenizer is None else tokenizer_of(root, tokenizer)
    return TextDataset(
        root,
        "texts",
        made["train"],
        made["test"],
        len(names),
        max_length,
        made.get("validation"),
        cutter,
    )


def _numbered(split: str, found: Sequence[LabelledText], names: Sequence[str]) -> Texts:
    numbers = {name: number for number, name in enumerate(names)}
    for each in found:
        if each.label not in numbers:
            raise DataError(
                f"{each.place}: label {each.label!r} of {split} is none that is trained on"
                f"{nearest(each.label, names) or '.'}\n"
                f"  There are {listed([repr(name) for name in names])}: correct it, or train on "
                "texts with it."
            )
    targets = torch.tensor([numbers[each.label] for each in found])
    return Texts([each.text for each in found], targets)


def _read(file: Path, text: str, label: str) -> Iterator[LabelledText]:
    """Yield the texts of a file or a folder; DataError names the place of a fault."""
    rows: Callable[[Path, str, str], Iterator[tuple[str, Any, Any]]]
    match file.suffix.lower():
        case _ if file.is_dir():
            rows = _of_folder
        case ".csv" | ".tsv":
            rows = _of_table
        case ".jsonl" | ".ndjson":
            rows = _of_lines
        case _ if not file.exists():
            raise unreadable(file, FileNotFoundError())
        case ending:
            raise DataError(
                f"{_shown(file)}: texts are read of .csv, .tsv, .jsonl and folders of classes, not "
                f"of {ending or 'files without an ending'}.\n  Save it as one of them."
            )
    try:
        for place, words, name in rows(file, text, label):
            if not isinstance(words, str) or not words.strip():
                what = "there is no text" if words in ("", None) else f"{words!r} is no text"
                raise DataError(f"{place}: {what}.\n  Correct it, or take it out.")
            if (
                name is None
                or isinstance(name, (dict, list))
                or not str(name).strip()
                or name != name
            ):
                what = "there is no label" if name in ("", None) else f"{name!r} is no label"
                raise DataError(f"{place}: {what}.\n  Write a word or a number, or take it out.")
            yield LabelledText(words, str(name).strip(), place)
    except OSError as error:
        raise unreadable(file, error) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{_shown(file)}: is not UTF-8 (byte {error.start:,}).\n  Save it as UTF-8."
        ) from error


def _of_table(file: Path, text: str, label: str) -> Iterator[tuple[str, Any, Any]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with file.open(encoding="utf-8-sig", newline="") as opened:
        lines = csv.reader(opened, delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
        try:
            names = [name.strip() for name in next(lines, [])]
            check_columns([text], names, "text", file)
            check_columns([label], names, "label", file)
            columns, before = (names.index(text), names.index(label)), lines.line_num
            for cells in lines:
                place = f"{_shown(file)}:{before + 1}"
                before = lines.line_num
                if len(cells) != len(names) and cells:
                    raise DataError(
                        f"{place}: has {plural(len(cells), 'cell')}, where there are "
                        f"{plural(len(names), 'column')}.\n  Correct it; a text with the delimiter "
                        "in it stands between quotation marks."
                    )
                if cells:
                    yield place, cells[columns[0]], cells[columns[1]]
        except csv.Error as error:
            raise DataError(f"{_shown(file)}:{lines.line_num}: {error}.") from error


def _of_lines(file: Path, text: str, label: str) -> Iterator[tuple[str, Any, Any]]:
    with file.open(encoding="utf-8") as opened:
        for number, line in enumerate(opened, start=1):
            place = f"{_shown(file)}:{number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(
                    f"{place}: is no JSON ({error}).\n  Each line is {{{text!r}: …}}."
                ) from error
            if not isinstance(row, Mapping):
                raise DataError(f"{place}: is no mapping.\n  Each line is {{{text!r}: …}}.")
            for key, option in ((text, "text"), (label, "label")):
                if key not in row:
                    raise DataError(
                        f"{place}: has no {key!r}, which is in {option}"
                        f"{nearest(key, [*row]) or '.'}\n"
                        f"  It has {', '.join(map(str, row))}."
                    )
            yield place, row[text], row[label]


def _of_folder(folder: Path, text: str, label: str) -> Iterator[tuple[str, Any, Any]]:
    names = subfolders(folder)
    if not names:
        raise DataError(
            f"{_shown(folder)}: has no folders.\n  It needs one for each class, with .txt files."
        )
    for name in names:
        files = sorted((folder / name).glob("*.txt"))
        if not files:
            raise DataError(
                f"{_shown(folder / name)}: has no .txt files.\n  Put texts there, or remove it; if "
                "it is a split, name it: splits: {train: train, test: test}."
            )
        for file in files:
            yield _shown(file), file.read_text(encoding="utf-8"), name


def _shown(path: Path) -> str:
    return printable(str(path))
