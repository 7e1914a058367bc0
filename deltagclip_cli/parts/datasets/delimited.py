"""Tables in text files, read with pyarrow; whatever is wrong with one is said with its place."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deltagclip_cli.core import (
    DataError,
    UsageError,
    file_status,
    listed,
    nearest,
    open_file,
    plural,
    printable,
    shortened,
)
from deltagclip_cli.parts.datasets.splits import unreadable

Numbers = NDArray[np.float64]

_FIRST_BYTES = 2**18  # in which the first line ends
_DELIMITERS = {",": "','", ";": "';'", "\t": '"\\t"', "|": "'|'"}
_PACKINGS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4", ".br": "brotli"}


@dataclass(frozen=True)
class TableFormat:
    """Marks and names that a file may need to be read, which it does not tell.

    Args:
        columns: the names of all columns of a file without a line of them; None reads that line.
        delimiter: between cells; None is a tab where the name ends in ``.tsv``, else a comma.
        decimal: between whole numbers and what follows.
        thousands: between groups of digits.
        encoding: a name that Python knows.
    """

    columns: Sequence[str] | None = None
    delimiter: str | None = None
    decimal: str = "."
    thousands: str | None = None
    encoding: str = "utf-8"

    def between(self, file: Path) -> str:
        """Return what stands between the cells of a file."""
        if self.delimiter is not None:
            return self.delimiter
        name = file.name.lower()
        for ending in _PACKINGS:
            name = name.removesuffix(ending)
        return "\t" if name.endswith((".tsv", ".tab")) else ","


@dataclass(frozen=True)
class Columns:
    """Rows of a table, as they were read.

    Args:
        numbers: ``(N, columns)``, NaN for an empty cell.
        codes: int64 ``(N, columns)``, which of ``words`` stands in a cell, -1 for an empty one.
        words: those of each column, in alphabetical order.
    """

    numbers: Numbers
    codes: NDArray[np.int64]
    words: Sequence[Sequence[str]]

    def __len__(self) -> int:
        return len(self.numbers)


def column_names(file: Path, form: TableFormat) -> list[str]:
    """Return the names of the columns of a file, from its first line or as they were given.

    Raises:
        DataError: there is no such file or it is no such table, or two columns have one name.
    """
    first = _first_line(file, form)
    names = [each.strip() for each in first]
    where, between = printable(str(file)), form.between(file)
    if form.columns is not None:
        if len(form.columns) != len(names):
            raise DataError(
                f"{where}: its first line has {plural(len(names), 'cell')}, and columns names "
                f"{len(form.columns)}.\n  Name every column of the file, in its order."
            )
        names = list(form.columns)
    elif len(names) == 1 and (other := _likelier(names[0], between)):
        raise DataError(
            f"{where}: has one column, {shortened(names[0])!r}.\n"
            f"  Its cells are not divided by {_DELIMITERS.get(between, repr(between))}: write "
            f"delimiter: {_DELIMITERS[other]}"
        )
    elif all(_number(each, form) is not None for each in names):
        raise DataError(
            f"{where}: its first line has numbers alone ({shortened(', '.join(names))}), no names "
            "of columns.\n  Name them in the data: columns: [a, b, …]"
        )
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1 and name]
    if twice:
        raise DataError(
            f"{where}: several columns are called {listed([repr(each) for each in twice])}.\n"
            "  Give each a name of its own."
        )
    return names


def _first_line(file: Path, form: TableFormat) -> list[str]:
    text = _beginning(file, form)
    lines = csv.reader(io.StringIO(text.removeprefix("\ufeff")), delimiter=form.between(file))
    try:
        first = next((line for line in lines if line), [])
    except csv.Error as error:
        raise DataError(f"{printable(str(file))}: cannot be read as a table ({error}).") from None
    if not first:
        raise DataError(f"{printable(str(file))}: is empty.\n  It needs names and rows of cells.")
    return first


def _beginning(file: Path, form: TableFormat) -> str:
    """Return the first part of a file, unpacked; DataError if it is no text."""
    try:
        with open_file(file) as opened:
            packed = _PACKINGS.get(file.suffix.lower())
            source: Any = _arrow().CompressedInputStream(opened, packed) if packed else opened
            content = bytes(source.read(_FIRST_BYTES))
    except OSError as error:
        raise unreadable(file, error) from error
    is_whole = len(content) < _FIRST_BYTES
    try:
        text = content.decode(form.encoding, "strict" if is_whole else "ignore")
    except LookupError:
        raise UsageError(
            f"data csv: there is no encoding {form.encoding!r}.\n"
            "  Write one that Python knows, such as utf-8, latin-1 or utf-16."
        ) from None
    except UnicodeDecodeError as error:
        raise _undecodable(file, form, error.reason) from None
    if "\0" in text:
        raise DataError(
            f"{printable(str(file))}: is no text ({_guess(content)}).\n"
            "  Save it as comma-separated values, or say its encoding."
        )
    return text


def read_columns(
    file: Path, form: TableFormat, numbers: Sequence[str], words: Sequence[str]
) -> Columns:
    """Read columns of numbers and columns of words.

    Raises:
        DataError: a cell is no number, or an infinite one; a row is too short or too long; there
            are no rows.
    """
    arrow = _arrow()
    texts = dict.fromkeys(words, arrow.string())
    told = bool(form.thousands)  # whether numbers are made of what is written, cell by cell
    try:
        if not told:
            table = _read(file, form, {**texts, **dict.fromkeys(numbers, arrow.float64())})
    except arrow.ArrowInvalid:  # which names no place
        told = True
    if told:
        table = _texts(file, form, {**texts, **dict.fromkeys(numbers, arrow.string())})
    if not len(table):
        raise DataError(f"{printable(str(file))}: has no rows below the names of its columns.")
    if told:
        columns = [
            _numbers_in(table.column(name).to_pylist(), file, name, form) for name in numbers
        ]
        matrix = np.stack(columns, axis=1) if columns else np.empty((len(table), 0))
    else:
        matrix = _matrix(table, numbers)
    _refuse_infinite(matrix, numbers, file)
    coded = [_coded(table.column(name)) for name in words]
    codes = np.stack([each for each, _ in coded], axis=1) if words else np.empty((len(table), 0))
    return Columns(matrix, codes.astype(np.int64), [names for _, names in coded])


def _matrix(table: Any, numbers: Sequence[str]) -> Numbers:
    """Return columns as ``(N, columns)``, NaN for an empty cell."""
    matrix, start = np.empty((len(table), len(numbers))), 0
    for batch in table.select(list(numbers)).to_batches():
        for place, column in enumerate(batch.columns):
            matrix[start : start + len(batch), place] = column.to_numpy(zero_copy_only=False)
        start += len(batch)
    return matrix


def _refuse_infinite(matrix: Numbers, numbers: Sequence[str], file: Path) -> None:
    if np.isfinite(matrix.sum()):  # in no memory, which most often is all
        return
    infinite = np.isinf(matrix)
    if infinite.any():
        row, place = (int(each) for each in np.argwhere(infinite)[0])
        raise DataError(
            f"{printable(str(file))}: row {row + 1}, column {numbers[place]!r}: "
            f"{matrix[row, place]} is no number to learn from.\n  Correct it, or leave it empty."
        )


def _read(
    file: Path,
    form: TableFormat,
    types: dict[str, Any],
    *,
    threads: bool = True,
    on_bad_row: Any = None,
) -> Any:
    from pyarrow import csv as arrow_csv

    try:
        file_status(file)
        return arrow_csv.read_csv(
            str(file),
            read_options=arrow_csv.ReadOptions(
                column_names=column_names(file, form),
                skip_rows=0 if form.columns else 1,
                encoding=form.encoding,
                use_threads=threads,
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=form.between(file),
                newlines_in_values=True,
                invalid_row_handler=on_bad_row,
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=types, include_columns=list(types), decimal_point=form.decimal
            ),
        )
    except UnicodeDecodeError as error:
        raise _undecodable(file, form, error.reason) from None
    except OSError as error:
        raise unreadable(file, error) from error


def _coded(column: Any) -> tuple[NDArray[np.int64], list[str]]:
    """Return which word stands in each cell, and the words, in alphabetical order."""
    from pyarrow import compute

    encoded = compute.utf8_trim_whitespace(column).combine_chunks().dictionary_encode()
    words = encoded.dictionary.to_pylist()
    order = sorted(word for word in words if word)
    places = {word: place for place, word in enumerate(order)}
    code_of = np.array([places.get(word, -1) for word in words], dtype=np.int64)
    return code_of[encoded.indices.to_numpy(zero_copy_only=False)], order


def _texts(file: Path, form: TableFormat, types: dict[str, Any]) -> Any:
    """Return columns as they are written; DataError names the first row of another length."""
    bad: list[Any] = []

    def remember(row: Any) -> Literal["skip"]:
        bad.append(row)
        return "skip"

    try:
        table = _read(file, form, types, threads=False, on_bad_row=remember)
    except _arrow().ArrowInvalid as error:
        if "UTF8" in str(error):
            raise _undecodable(file, form, str(error)) from None
        raise DataError(f"{printable(str(file))}: cannot be read as a table ({error}).") from None
    if bad:
        first = bad[0]
        row = first.number - (0 if form.columns else 1)
        more = f" (and {plural(len(bad) - 1, 'more row')} likewise)" if len(bad) > 1 else ""
        raise DataError(
            f"{printable(str(file))}: row {row} has {plural(first.actual_columns, 'cell')}, where "
            f"there are {plural(first.expected_columns, 'column')}: {shortened(first.text)!r}"
            f"{more}.\n"
            "  Correct it; a cell with the delimiter in it stands between quotation marks."
        )
    return table


_EMPTY = frozenset(  # those that pyarrow takes for no number
    [
        "",
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "n/a",
        "nan",
        "null",
    ]
)


def _numbers_in(cells: Sequence[str], file: Path, name: str, form: TableFormat) -> Numbers:
    """Return the numbers of a column; DataError names the first cell that has none."""
    found = np.empty(len(cells))
    faults: list[int] = []
    for row, cell in enumerate(cells):
        text = cell.strip()
        if text in _EMPTY:
            found[row] = math.nan
        elif (number := _number(text, form)) is not None:
            found[row] = number
        else:
            faults.append(row)
    if not faults:
        return found
    words = [cells[row].strip() for row in faults]
    rows = f" (and in {plural(len(faults) - 1, 'more row')})" if len(faults) > 1 else ""
    raise DataError(
        f"{printable(str(file))}: row {faults[0] + 1}, column {name!r}: "
        f"{shortened(words[0], 40)!r} is no number{rows}.\n  {_remedy(words[0], name, form)}"
    )


def _remedy(word: str, name: str, form: TableFormat) -> str:
    for thousands, decimal in ((",", "."), (".", ","), (" ", "."), ("'", ".")):
        other = TableFormat(thousands=thousands, decimal=decimal)
        if _number(word, other) is not None and (thousands in word or decimal in word):
            marks = {"thousands": thousands, "decimal": decimal}
            told = [
                f'{key}: "{mark}"' for key, mark in marks.items() if mark in word and mark != "."
            ]
            if told:
                return f"If that is a number, write {' and '.join(told)}."
    return (
        f"Correct it; or take the column as words, with categories: [{name}] among the inputs and "
        "classes: true as the target; or name other inputs."
    )


def _number(text: str, form: TableFormat) -> float | None:
    if form.thousands:
        whole, mark, rest = text.partition(form.decimal)
        text = whole.replace(form.thousands, "") + mark + rest
    if form.decimal != ".":
        if "." in text:
            return None
        text = text.replace(form.decimal, ".")
    if "_" in text:  # which Python reads
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _likelier(line: str, between: str) -> str | None:
    """Return the delimiter that a line has which is one cell; None if it has none."""
    counts = {each: line.count(each) for each in _DELIMITERS if each != between}
    most = max(counts, key=lambda each: counts[each])
    return most if counts[most] else None


def check_columns(wanted: Sequence[str], there: Sequence[str], option: str, file: Path) -> None:
    """Refuse names of columns that a file has not."""
    for name in wanted:
        if name not in there:
            raise DataError(
                f"{printable(str(file))}: has no column {name!r}, which is in {option}"
                f"{nearest(name, there) or '.'}\n"
                f"  Its columns: {shortened(', '.join(there), 400)}"
            )


def _undecodable(file: Path, form: TableFormat, said: str) -> DataError:
    return DataError(
        f"{printable(str(file))}: is not {form.encoding.upper()} ({shortened(said)}).\n"
        "  Say what it is: encoding: latin-1, cp1252 or utf-16; or save it as UTF-8."
    )


def _guess(content: bytes) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "perhaps encoding: utf-16"
    kinds = {b"PK": "a workbook or another archive", b"\x1f\x8b": "packed by gzip", b"\x89P": "PNG"}
    return kinds.get(content[:2], "it has bytes of zero")


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise UsageError(
            "data csv: pyarrow, which reads the file, is not installed.\n  Run pip install pyarrow."
        ) from None
    return pyarrow
