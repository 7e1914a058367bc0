"""A long row of tokens, of a text or of binary files, cut into windows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy
import torch
from numpy.typing import NDArray

from deltagclip_cli.core import DataError, open_file, printable
from deltagclip_cli.parts.datasets.dataset import Dataset, Outline, Windows, described
from deltagclip_cli.parts.datasets.disk_cache import keep, load_kept
from deltagclip_cli.parts.datasets.splits import NAMES, Division, divided, inside, named_files
from deltagclip_cli.parts.datasets.tokenizing import BYTES, TokenizerFile

Row = NDArray[Any]

CHARACTERS = "characters"

_SPLITS = {"test": 0.1}
_FORMAT = 1  # of kept files; part of their names
_BINARY = (".bin", ".npy")
_MOST_TOKENS = 2**20  # of a vocabulary that nobody has said; the largest have a quarter of it
_SCANNED = 2**25  # tokens that are looked through at a time
_SMALL_BYTES = 2**24  # of a text that is read to tell how large the data will be
_KEPT, _RANGE = "the tokens", "the range of the tokens"
_TO_GET = (
    "Small ones are tiny shakespeare (raw.githubusercontent.com/karpathy/char-rnn/master/data/"
    "tinyshakespeare/input.txt, 1 MB) and enwik8 (mattmahoney.net/dc/enwik8.zip, 100 MB)."
)


@dataclass(frozen=True)
class _Part:
    """One split of a row, and the file that it comes from."""

    file: Path
    row: Row
    start: int  # of the split in the file, in its tokens


def _stored(root: Path, image_size: int | None, *, path: str, **options: Any) -> Sequence[str]:
    splits, tokenizer = options.get("splits"), options.get("tokenizer")
    files = _files(root, path, _division(splits))
    more = [] if tokenizer in (None, BYTES, CHARACTERS) else [TokenizerFile(root / tokenizer).file]
    return [str(file.relative_to(root)) for file in dict.fromkeys([*files.values(), *more])]


def _outline(
    root: Path,
    image_size: int | None,
    *,
    path: str,
    window: int = 256,
    tokenizer: str | None = None,
    splits: dict[str, Any] | None = None,
    dtype: Literal["uint16", "uint32"] = "uint16",
    vocabulary: int | None = None,
) -> Outline | None:
    """Return the outline; None if the files are not there, or it takes long to find out."""
    try:
        files = _files(root, path, _division(splits))
    except _AbsentError:
        return None
    is_quick = tokenizer in (None, BYTES) or tokenizer == CHARACTERS
    if not is_quick or any(file.stat().st_size > _SMALL_BYTES for file in files.values()):
        return None
    made = tokens(
        root,
        image_size,
        path=path,
        window=window,
        tokenizer=tokenizer,
        splits=splits,
        dtype=dtype,
        vocabulary=vocabulary,
    )
    return Outline(
        (window,),
        made.classes,
        len(made.train),
        len(made.test),
        torch.int64,
        validation=0 if made.validation is None else len(made.validation),
        targets_shape=(window,),
        vocabulary=made.vocabulary,
    )


@described(_outline, _stored)
def tokens(
    root: Path,
    image_size: int | None,
    *,
    path: str,
    window: int = 256,
    tokenizer: str | None = None,
    splits: dict[str, Any] | None = None,
    dtype: Literal["uint16", "uint32"] = "uint16",
    vocabulary: int | None = None,
) -> Dataset:
    """Tokens of a text file, or of binary ones, in windows, for the task language_model.

    A sample is a window of tokens, and its targets are the tokens one further on; windows lie end
    to end, and what is left over at the end of a split is left out. Shares of ``splits`` are not
    drawn: the text is cut, with its first part for training and its last for the test, for what is
    next to a window tells too much of it.

    Binary files are those of nanoGPT (``.bin``, numbers of ``dtype`` and nothing else) and numpy's
    ``.npy``. They are mapped into memory, so that they may be larger than that.

    Args:
        path: of the file below the data folder. A folder, if ``splits`` names its files.
        window: how many tokens a sample has.
        tokenizer: of a text: ``bytes`` of UTF-8, which is the default; ``characters``, of the
            training part; or the place below the data folder of a file of the library tokenizers,
            or of a folder with a ``tokenizer.json``.
        splits: shares, or files beside ``path`` or in it. None is ``{test: 0.1}``.
        dtype: of the numbers in ``.bin`` files.
        vocabulary: of binary files, how many tokens there are; else as many as the largest says.

    Raises:
        DataError: a file is missing, empty or damaged, or shorter than a window; a token is not in
            the vocabulary.
    """
    if image_size is not None:
        raise DataError("image_size is for images, but tokens holds texts.\n  Remove it.")
    division = _division(splits)
    files = _files(root, path, division)
    kinds = {file.suffix in _BINARY for file in files.values()}
    if len(kinds) > 1:
        raise DataError("data tokens: some files of splits are texts, others binary.")
    if kinds == {True}:
        if tokenizer is not None:
            raise DataError(
                f"data tokens: {next(iter(files.values()))} holds tokens already, and tokenizer is "
                f"{tokenizer!r}.\n  Leave it out, or name a text file."
            )
        parts = _divided(files, division, partial(_binary, dtype=dtype))
        known = _checked(parts, vocabulary, root)
    else:
        if vocabulary is not None:
            raise DataError(
                "data tokens: vocabulary is for binary files; that of a text follows from it and "
                "its tokenizer.\n  Leave it out."
            )
        parts, known = _of_texts(files, division, tokenizer or BYTES, root)
    found = {name: _windows(name, part, window) for name, part in parts.items()}
    validation = found.get("validation")
    return Dataset(
        found["train"], found["test"], known, None, None, validation=validation, vocabulary=known
    )


class _AbsentError(DataError):
    """A file is not there, or not yet."""


def _division(splits: Mapping[str, Any] | None) -> Division:
    return divided(_SPLITS if splits is None else splits, "tokens")


def _files(root: Path, path: str, division: Division) -> dict[str, Path]:
    """Return the file of each split that is not a share of another one."""
    files = named_files(root, path, division, "tokens")
    for file in files.values():
        if file.is_dir():
            raise DataError(
                f"data tokens: {printable(str(file))} is a folder.\n"
                "  Name its files: splits: {train: train.bin, test: val.bin}."
            )
        if not file.is_file():
            raise _AbsentError(
                f"data tokens: {printable(str(file))} is not there.\n  Put a file of tokens or of "
                f"text there, or name another data folder with --data DIR.\n  {_TO_GET}"
            )
    return files


def _divided(
    files: Mapping[str, Path], division: Division, read: Callable[[Path], Row]
) -> dict[str, _Part]:
    """Read files, and cut off those of training what the shares say, at its end."""
    whole = {name: _Part(file, read(file), 0) for name, file in files.items()}
    if not division.shares:
        return whole
    first = whole["train"]
    sizes = division.sizes(len(first.row))
    end, parts = len(first.row), {}
    for name in reversed(NAMES):
        if name in sizes:
            start = end - sizes[name] if name != "train" else 0
            stop = end if name != "train" else min(end, sizes[name])
            parts[name] = _Part(first.file, first.row[start:stop], start)
            end = start
    parts = {**whole, **parts}
    return {name: parts[name] for name in NAMES if name in parts}


def _binary(file: Path, dtype: str) -> Row:
    """Map a file of numbers into memory, of which nothing is written back."""
    try:
        if file.suffix == ".npy":
            row: Row = numpy.load(file, mmap_mode="c", allow_pickle=False)
        else:
            row = numpy.memmap(file, dtype=f"<u{numpy.dtype(dtype).itemsize}", mode="c")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{printable(str(file))}: cannot be read as "
            f"{'an array of numpy' if file.suffix == '.npy' else dtype}: {error}.\n"
            "  Look at the file, and at dtype if it is one of .bin."
        ) from error
    if row.ndim != 1 or row.dtype.kind not in "iu":
        raise DataError(
            f"{printable(str(file))}: is an array of {row.dtype} {row.shape}, not one row of whole "
            "numbers.\n  Save it flat, such as by numpy.save(file, tokens.reshape(-1))."
        )
    return row


def _checked(parts: Mapping[str, _Part], vocabulary: int | None, root: Path) -> int:
    """Return the number of tokens, all of which are below it."""
    largest = -1
    for part in parts.values():
        least, most = _extent(part, root)
        if least < 0 or (vocabulary is not None and most >= vocabulary):
            above = most + 1 if vocabulary is None else vocabulary
            at = _first_outside(part.row, above)
            said = "tokens begin with 0" if least < 0 else f"vocabulary is {vocabulary:,}"
            raise DataError(
                f"{printable(str(part.file))}: token {part.start + at:,} (from 0) is "
                f"{part.row[at]:,}, but {said}.\n"
                "  Correct vocabulary, or dtype if the file has another one."
            )
        largest = max(largest, most)
    if vocabulary is None and largest >= _MOST_TOKENS:
        raise DataError(
            f"data tokens: the largest token is {largest:,}, more than any vocabulary has.\n"
            "  Write dtype: uint16 if that is what the file has, or say how many tokens there are: "
            "vocabulary: N."
        )
    return largest + 1 if vocabulary is None else vocabulary


def _extent(part: _Part, root: Path) -> tuple[int, int]:
    """Return the least and the largest token; of a long row they are kept, for it takes a while."""
    if len(part.row) <= _SCANNED:
        return int(part.row.min()), int(part.row.max())
    status, span = part.file.stat(), (part.start, len(part.row), part.row.dtype.str)
    said = f"{_FORMAT} {part.file.absolute()} {status.st_size} {status.st_mtime_ns} {span}"
    kept = root / ".tokens" / f"{hashlib.sha256(os.fsencode(said)).hexdigest()}.pt"
    content = load_kept(kept, _RANGE)
    if content is None:
        starts = range(0, len(part.row), _SCANNED)
        blocks = (part.row[start : start + _SCANNED] for start in starts)
        extents = [(int(each.min()), int(each.max())) for each in blocks]
        content = {"least": min(extents)[0], "most": max(most for _, most in extents)}
        keep(content, kept, _RANGE)
    return content["least"], content["most"]


def _first_outside(row: Row, above: int) -> int:
    """Return where the first token is that is negative, or not below a number."""
    for start in range(0, len(row), _SCANNED):
        block = row[start : start + _SCANNED]
        found = (block < 0) | (block >= above)
        if found.any():
            return start + int(found.argmax())
    raise AssertionError("there is one")


def _of_texts(
    files: Mapping[str, Path], division: Division, tokenizer: str, root: Path
) -> tuple[dict[str, _Part], int]:
    """Return the tokens of texts, and how many different ones there are."""
    if tokenizer == BYTES:
        return _divided(files, division, _bytes), 256
    if tokenizer == CHARACTERS:
        return _in_characters(_divided(files, division, _characters))
    cutter = TokenizerFile(inside(root, tokenizer, "tokenizer", "file", "file"))
    return _divided(files, division, partial(_cut, cutter, root)), cutter.known


def _bytes(file: Path) -> Row:
    if not file.stat().st_size:
        raise DataError(f"{printable(str(file))}: is empty.\n  Put a text there.")
    return numpy.memmap(file, dtype=numpy.uint8, mode="c")


def _text(file: Path) -> str:
    with open_file(file) as opened:
        content = opened.read()
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{printable(str(file))}:{line}: this is not UTF-8 (byte {error.start:,}).\n"
            "  Write tokenizer: bytes, which reads any file, or convert it."
        ) from error


def _characters(file: Path) -> Row:
    return numpy.frombuffer(_text(file).encode("utf-32-le"), dtype="<u4")


def _in_characters(parts: Mapping[str, _Part]) -> tuple[dict[str, _Part], int]:
    """Number characters in the order of Unicode, those of the training part; refuse others."""
    known = numpy.flatnonzero(numpy.bincount(parts["train"].row))
    most = max(int(part.row.max(initial=0)) for part in parts.values())
    kind = numpy.min_scalar_type(len(known))
    numbers = numpy.full(most + 1, len(known), dtype=kind)
    numbers[known] = numpy.arange(len(known), dtype=kind)
    made = {}
    for name, part in parts.items():
        row = numbers[part.row]
        unknown = row == len(known)
        if unknown.any():
            raise _outside(name, part, int(unknown.argmax()), int(unknown.sum()))
        made[name] = _Part(part.file, row, part.start)
    return made, len(known)


def _outside(name: str, part: _Part, at: int, count: int) -> DataError:
    before = _characters(part.file)[: part.start + at]
    lines = numpy.flatnonzero(before == ord("\n"))
    column = len(before) - (int(lines[-1]) + 1 if len(lines) else 0) + 1
    more = f", and {count - 1:,} more are not" if count > 1 else ""
    return DataError(
        f"{printable(str(part.file))}:{len(lines) + 1}:{column}: the character "
        f"{chr(part.row[at])!r} of {name} is not in the training part, which makes the "
        f"vocabulary{more}.\n  Write tokenizer: bytes, which knows all; or remove it from the text."
    )


def _cut(tokenizer: TokenizerFile, root: Path, file: Path) -> Row:
    """Return the tokens of a text file, which are kept below the data folder."""
    text = _text(file)
    digest = hashlib.sha256(f"{_FORMAT} {tokenizer.identity}\0{text}".encode()).hexdigest()
    kept = root / ".tokens" / f"{digest}.pt"
    content = load_kept(kept, _KEPT)
    if content is None:
        content = {"row": torch.from_numpy(tokenizer.row(text))}
        keep(content, kept, _KEPT)
    row: Row = content["row"].numpy()
    return row


def _windows(name: str, part: _Part, window: int) -> Windows:
    if len(part.row) <= window:
        raise DataError(
            f"data tokens: {name} has {len(part.row):,} tokens of {printable(str(part.file))}, "
            f"and a window of {window} takes {window + 1}, with what follows it.\n"
            "  Choose a smaller window, a larger share, or a longer text."
        )
    row = part.row if part.row.dtype.isnative else part.row.astype(part.row.dtype.newbyteorder())
    return Windows.cut(torch.from_numpy(numpy.asarray(row)), window)
