"""Tidy rows in files: a table of runs and a table of what was measured, as CSV or as Parquet.

Both are written anew each time, from the run folders, and appear whole.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import IO

from deltagclip_cli.core import written_whole
from deltagclip_cli.export.destination import Change, Destination, held_folder, write_error
from deltagclip_cli.export.exported import rows_of
from deltagclip_cli.results.read.run import Run
from deltagclip_cli.results.tidy import TidyRow, Value, result_rows

USUAL_FOLDER = "export"
_ROWS_AT_ONCE = 10_000

Kinds = Mapping[str, type]
"""The type of the values of each column: bool, int, float or str."""

Writes = Callable[[IO[bytes], Kinds, Iterable[TidyRow]], None]


def csv_files(place: str | None) -> AbstractContextManager[Destination]:
    """Open a folder for ``runs.csv`` and ``metrics.csv``."""
    return _opened(place, "csv", _write_csv)


def parquet_files(place: str | None) -> AbstractContextManager[Destination]:
    """Open a folder for ``runs.parquet`` and ``metrics.parquet``."""
    return _opened(place, "parquet", _write_parquet)


@contextmanager
def _opened(place: str | None, ending: str, write: Writes) -> Iterator[Destination]:
    folder = Path(place or USUAL_FOLDER)
    with held_folder(folder):
        yield TableFiles(folder, ending, write)


@dataclass
class TableFiles:
    """Two tables in a folder."""

    folder: Path
    ending: str
    write: Writes
    next_step: str = ""

    @property
    def where(self) -> str:
        return " and ".join(str(self._file(name)) for name in ("runs", "metrics"))

    def send(self, runs: Sequence[Run]) -> Iterator[Change]:
        """Write the tables of these runs, and of no others."""
        read: Callable[[], Iterator[TidyRow]] = partial(_metrics, runs)
        for name, rows in (("metrics", read), ("runs", lambda: iter(result_rows(runs)))):
            file = self._file(name)
            try:
                kinds = _kinds(rows())
                with written_whole(file) as opened:
                    self.write(opened, kinds, rows())
            except OSError as error:
                raise write_error(str(file), error) from None
        yield from [Change.WRITTEN] * len(runs)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.{self.ending}"


def _metrics(runs: Iterable[Run]) -> Iterator[TidyRow]:
    return chain.from_iterable(map(rows_of, runs))


def _kinds(rows: Iterable[TidyRow]) -> Kinds:
    """Return the columns of some rows in order, and the most general type in each."""
    found: dict[str, set[type]] = {}
    for row in rows:
        for name, value in row.items():
            found.setdefault(name, set()).add(type(value))
    return {name: _common(types - {type(None)}) for name, types in found.items()}


def _common(types: set[type]) -> type:
    if types <= {int, float} and types:
        return float if float in types else int
    return bool if types == {bool} else str


def _cell(value: Value, kind: type) -> Value:
    return value if value is None or isinstance(value, kind) else kind(value)


def _write_csv(file: IO[bytes], kinds: Kinds, rows: Iterable[TidyRow]) -> None:
    text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(kinds)
    for row in rows:
        writer.writerow(_cell(row.get(name), kind) for name, kind in kinds.items())
    text.detach()


def _write_parquet(file: IO[bytes], kinds: Kinds, rows: Iterable[TidyRow]) -> None:
    import pyarrow
    from pyarrow import parquet

    types = {bool: "bool", int: "int64", float: "float64", str: "string"}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in kinds.items()])
    with parquet.ParquetWriter(file, schema) as writer:
        left = iter(rows)
        while some := list(islice(left, _ROWS_AT_ONCE)):
            columns = [[_cell(row.get(n), kind) for row in some] for n, kind in kinds.items()]
            writer.write_table(
                pyarrow.Table.from_arrays(
                    [
                        pyarrow.array(c, field.type)
                        for c, field in zip(columns, schema, strict=True)
                    ],
                    schema=schema,
                )
            )
