"""CSV files as logs: Lightning's ``metrics.csv``, those of Keras' ``CSVLogger``, and any others.

A log has a column that counts steps, or else epochs, and a row whenever something was measured.
Cells may be empty: Lightning writes several rows a step, each with some of the metrics.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from deltagclip_cli.core import as_number, open_file, plural, shortened
from deltagclip_cli.results.read.log import Log, Points

_STEPS = ("step", "global_step", "trainer/global_step", "iteration", "iter", "_step", "steps")
_EPOCHS = ("epoch", "epochs")
_TIMES = ("wall_time", "timestamp", "_timestamp", "time", "elapsed", "elapsed_time", "_runtime")
_FIRST_TIME = 1e9  # of 2001, in seconds since 1970: what is smaller counts from some beginning
_OURS = {"experiment", "optimizer", "identity"}  # columns of a table of many runs
_EMPTY = {"", "-", "none", "null", "n/a", "na"}
_LIKE_NUMBERS = re.compile(r"[-+]?\d[\d.,' ]*%?")  # with marks that no program reads alike
_MOST_BYTES_OF_A_LINE = 2**16
_LINES_OF_A_BEGINNING = 10
_ENCODING = "utf-8-sig"


@dataclass(frozen=True)
class CsvFile:
    """One file of a log."""

    path: Path
    columns: Sequence[str] = ()  # those of metrics; empty if nobody has looked yet
    clock: str | None = None  # the one of them that may tell the time
    first: float = math.nan  # the count in its first row; NaN without one
    counts_epochs: bool = False
    # what its metrics are called in the log, by their columns; None for what the columns are called
    tags: Mapping[str, str] | None = None


def csv_file(path: Path) -> CsvFile | None:
    """Look at the beginning of a file; None if its first line names no count, or nothing else.

    Tables that this program has written of runs are no logs.
    """
    with suppress(OSError), open(path, "rb", opener=_at_once) as file:
        lines = [file.readline(_MOST_BYTES_OF_A_LINE) for _ in range(_LINES_OF_A_BEGINNING)]
        header = _Header(lines[0].decode(_ENCODING, "replace"))
        if header.counter is not None and header.metrics:
            counts = (header.count(line.decode(errors="replace")) for line in lines[1:])
            first = next((each for each in counts if each is not None), math.nan)
            clock = None if header.clock is None else header.names[header.clock]
            columns = [header.names[n] for n in header.metrics]
            return CsvFile(path, columns, clock, first, header.counts_epochs)
    return None


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # it may be a pipe, that would never answer


def read_csv_files(files: Sequence[CsvFile]) -> Log:
    """Read the log of a run; of files that are cut off or damaged, everything before that.

    What a file has again of an earlier one supersedes that. All count the same.
    """
    points = Points()
    problems: list[str] = []
    doubts: list[str] = []
    begins: list[float] = []
    without_times: list[float] = []  # when each of those files was written
    counts_epochs = False
    for each in files:
        try:
            with open_file(each.path) as file:
                written_at, content = os.fstat(file.fileno()).st_mtime, file.read()
        except OSError as error:
            problems.append(f"{each.path}: cannot be read: {error.strerror or error}.")
            continue
        whole = content[: content.rfind(b"\n") + 1]
        table = _Table(whole.decode(_ENCODING, "replace"), each.tags)
        problem = table.problem
        if not problem and len(whole) < len(content):
            problem = "its last line has no end; it is cut off, or still being written"
        if problem:
            problems.append(f"{each.path}: {problem}.")
        doubts += [f"{each.path}: {doubt}." for doubt in table.doubts()]
        begin = table.add_to(points, written_at)
        if begin is None:
            without_times.append(written_at)
        else:
            begins.append(begin)
        counts_epochs = table.counts_epochs
    told = [f"{files[0].path}: {each}." for each in (points.lost(), points.mixed()) if each]
    return Log(
        points.scalars(),
        [*problems, *doubts, *told],
        min(begins, default=None),
        whole=not problems,
        written_at=max(without_times) if without_times and not begins else None,
        counts_epochs=counts_epochs,
    )


class _Header:
    """The names of the columns, and which count and tell the time."""

    def __init__(self, line: str) -> None:
        self.separator = max(",;\t", key=line.count)
        self.written = next(csv.reader([line], delimiter=self.separator), [])
        self.names = [name.strip() for name in self.written]
        self.keys = [name.lower().replace(" ", "_") for name in self.names]
        counters = [*_STEPS, *_EPOCHS] if not set(self.keys) >= _OURS else []
        self.counter = next((self.keys.index(key) for key in counters if key in self.keys), None)
        self.clock = next((self.keys.index(key) for key in _TIMES if key in self.keys), None)
        self.epoch = next((self.keys.index(key) for key in _EPOCHS if key in self.keys), None)
        no_metrics = {*_STEPS, *_EPOCHS, ""}
        self.metrics = [n for n, key in enumerate(self.keys) if key not in no_metrics]

    @property
    def counts_epochs(self) -> bool:
        return self.counter is not None and self.keys[self.counter] in _EPOCHS

    def count(self, line: str) -> float | None:
        """Return what a line counts; None if it does not."""
        cells = next(csv.reader([line.rstrip("\r\n")], delimiter=self.separator), [])
        if self.counter is None or len(cells) <= self.counter:
            return None
        return self.number(cells[self.counter])

    def number(self, cell: str) -> float | None:
        """Return the number in a cell; None if there is none, or something else."""
        if self.separator == ";":  # where a comma is before the decimals
            cell = cell.replace(",", ".")
        return as_number(cell)

    def time(self, cell: str) -> float:
        """Return the seconds in a cell, or those since 1970 of a date; NaN if there are none."""
        number = self.number(cell)
        if number is None:
            with suppress(ValueError, OverflowError):
                number = datetime.fromisoformat(cell.strip()).timestamp()
        return math.nan if number is None else number


class _Table:
    """The rows of a log, up to the first that makes no sense."""

    def __init__(self, text: str, tags: Mapping[str, str] | None) -> None:
        lines = io.StringIO(text, newline="")
        self.header = header = _Header(lines.readline())
        names = [header.names[n] for n in header.metrics]
        self.tags = {name: name for name in names} if tags is None else tags
        self.rows: list[tuple[float, list[str]]] = []  # the count, and all cells
        self.counts_epochs = header.counts_epochs
        self.problem = ""
        reader = csv.reader(lines, delimiter=header.separator)
        try:
            for row in reader:
                if row and row != header.written:  # some programs write it at each start
                    self.rows += self._read(row)
        except (ValueError, csv.Error):
            self.problem = f"damaged in line {reader.line_num + 1}; what follows was not read"
        if (epochs := self._epochs_of_counts_within()) is not None:
            self.rows = [(at, row) for at, (_, row) in zip(epochs, self.rows, strict=True)]
            self.counts_epochs = True

    def _epochs_of_counts_within(self) -> list[float] | None:
        """Return the epoch of each row, if steps are counted anew from each on; else None."""
        column = self.header.epoch
        if column is None or self.counts_epochs:
            return None
        epochs = [self.header.number(row[column]) for _, row in self.rows]
        known = [each for each in epochs if each is not None]
        if len(known) < len(epochs):
            return None
        places = pairwise(zip(known, (count for count, _ in self.rows), strict=True))
        back = [(one, later) for (one, before), (later, count) in places if count < before]
        return known if back and all(one < later for one, later in back) else None

    def doubts(self) -> Iterator[str]:
        """Yield what may be other than it was meant."""
        counts = [count for count, _ in self.rows]
        begins = 1 + sum(later == counts[0] < one for one, later in pairwise(counts))
        if begins > 1:
            unit = "epoch" if self.counts_epochs else "step"
            yield f"begins {begins} times, at {unit} {counts[0]:.12g}; the last training counts"
        for column in self.header.metrics:
            cells = [row[column].strip() for _, row in self.rows]
            cells = [each for each in cells if each.lower() not in _EMPTY]
            strange = [each for each in cells if self.header.number(each) is None]
            is_of_numbers = len(strange) < len(cells) or all(map(_LIKE_NUMBERS.fullmatch, strange))
            if strange and is_of_numbers and column != self.header.clock:
                found = plural(len(strange), "cell")
                name, last = self.header.names[column], shortened(strange[-1], 30)
                yield f"{found} of '{name}' left out, written as no number is: '{last}'"

    def _read(self, row: list[str]) -> Iterator[tuple[float, list[str]]]:
        """Yield a row if it counts anything; ValueError if it is no row of this table."""
        header = self.header
        if header.counter is None or len(row) < len(header.names) or any(row[len(header.names) :]):
            raise ValueError
        if not row[header.counter].strip():
            return
        count = header.number(row[header.counter])
        if count is None or not math.isfinite(count):
            raise ValueError
        yield count, row

    def add_to(self, points: Points, written_at: float) -> float | None:
        """Add all points, as those of the next file; return when it was begun, if it has times.

        Args:
            written_at: when the last row was written, in seconds since 1970.
        """
        points.next_file()
        header = self.header
        times, begin = self._times(written_at)
        for (count, row), at in zip(self.rows, times, strict=True):
            for column in header.metrics:
                tag = self.tags.get(header.names[column])
                if tag is None or (begin is not None and column == header.clock):
                    continue
                value = header.number(row[column])
                if value is not None:
                    points.add(tag, count, at, value)
        return begin

    def _times(self, written_at: float) -> tuple[list[float], float | None]:
        """Return when each row was written, in seconds since 1970; NaN if nobody knows."""
        unknown = [math.nan] * len(self.rows)
        if self.header.clock is None or not self.rows:
            return unknown, None
        times = [self.header.time(row[self.header.clock]) for _, row in self.rows]
        known = [each for each in times if not math.isnan(each)]
        if not known or any(later < one for one, later in pairwise(known)):
            return unknown, None  # how long each epoch took, perhaps
        if known[0] >= _FIRST_TIME:
            return times, known[0]
        begin = written_at - known[-1]
        return [begin + each for each in times], begin
