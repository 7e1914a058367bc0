"""The TensorBoard scalars that any program wrote into a folder.

What a record holds is taken apart by TensorBoard's own code. Its readers of whole files are not
used: they open the file three times for each record and allocate what a damaged length says.

**Restarts.** A program that goes on from a checkpoint writes some steps a second time, in a new
file or further on in the same one. What it wrote before from there on is superseded. Two rules say
what that is; a point that either of them drops is dropped.

1. TensorBoard's, as in its ``EventAccumulator``: the start of a session drops the points of *all*
   tags from its step on, if the file names a version of at least 2. In files that do not, a step
   below the highest one so far drops the points of the event's own tags from that step on.
2. For programs that start again without a word: a point drops those of *its own* tag with a higher
   step, and those with the same step if they are from an earlier file.

Points of one tag that have the same step and lie in one file are therefore all kept, in the order
in which they were written: that is how programs write that do not count. Order is that of the
files' names and of the records in them, never that of the clocks, which may differ between hosts.
Two programs that write *different* tags into one folder at the same time do not disturb each other
under the second rule. If they write the same tags, nobody can tell that from a restart: from the
first step of the later file on, only its points remain.
"""

from __future__ import annotations

import math
import os
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from deltagclip_cli.curves.run import Numbers

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

_HEADER = 8 + 4  # the length of the record and its checksum
_FOOTER = 4  # the checksum of the record
_CUT_OFF = (
    "ends in the middle of a record, after {} whole ones; it is cut off, or still being written"
)
_DAMAGED = "damaged after record {}; what follows was not read"


@dataclass(frozen=True, eq=False)
class Scalars:
    """One tag's points in order of their steps, as read-only arrays (N,) of float64.

    Args:
        steps: as the program counted them; a step may be there more than once.
        wall_times: seconds since 1970.
        values: NaN and infinite where that was written; mostly of float32's precision.
    """

    steps: Numbers
    wall_times: Numbers
    values: Numbers


@dataclass(frozen=True, eq=False)
class Events:
    """What the event files of a folder hold.

    Args:
        scalars: by tag, in order of first appearance; each has at least one point.
        problems: a sentence for each file that is cut off, damaged or cannot be read; it begins
            with the path of the file, or of the folder if that cannot be listed.
        begin: when the first of the files was begun, in seconds since 1970; None if none says so.
        lasting: whether reading the same files again would say the same; not after an error of the
            disk or of permissions.
    """

    scalars: Mapping[str, Scalars]
    problems: Sequence[str] = ()
    begin: float | None = None
    lasting: bool = True


def event_files(folder: Path) -> list[Path]:
    """The files directly in a folder that TensorBoard would read, in order of their names.

    Links that lead nowhere are among them, since their data are missing; folders are not.

    Raises:
        OSError: the folder cannot be listed.
    """
    with os.scandir(folder) as entries:
        return [
            folder / name
            for name in sorted(entry.name for entry in entries if _is_event_file(entry))
        ]


def read_events(folder: Path) -> Events:
    """Read all scalars of a run, which is all event files directly in a folder.

    Every point is read, none is sampled. Of a file that is cut off or damaged, everything before
    that is kept; what went wrong is among the problems, and nothing is raised.
    """
    try:
        paths = event_files(folder)
    except OSError as error:
        return Events(
            {}, [f"{folder}: cannot be listed: {error.strerror or error}."], lasting=False
        )
    stream, problems, lasting = _Stream(), [], True
    for number, path in enumerate(paths):
        try:
            stream.read(path, number)
        except _BrokenError as error:
            problems.append(f"{path}: {error}.")
        except OSError as error:
            problems.append(f"{path}: cannot be read: {error.strerror or error}.")
            lasting = False
    return Events(stream.scalars(), problems, stream.begin, lasting)


def _is_event_file(entry: os.DirEntry[str]) -> bool:
    # Nothing else is opened: the opening of a named pipe, say, would never return.
    return "tfevents" in entry.name and (
        entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    )


class _BrokenError(Exception):
    """A file ends in the middle of a record, or goes on with something else; says which."""


class _Points:
    """The points of one tag that are not superseded; their steps never decrease."""

    def __init__(self) -> None:
        self.steps = array("q")
        self.wall_times = array("d")
        self.values = array("d")
        self.last_file = -1

    def add(self, file: int, step: int, wall_time: float, value: float) -> None:
        """Append a point of the file of that number, and drop what it supersedes."""
        if self.steps:
            last = self.steps[-1]
            if step < last or (step == last and file != self.last_file):
                self.drop_from(step)
        self.steps.append(step)
        self.wall_times.append(wall_time)
        self.values.append(value)
        self.last_file = file

    def drop_from(self, step: int) -> None:
        """Drop the points of this step and of higher ones."""
        kept = bisect_left(self.steps, step)
        for numbers in (self.steps, self.wall_times, self.values):
            del numbers[kept:]


class _Stream:
    """All events of a run, one after the other, and what remains of them."""

    def __init__(self) -> None:
        self.begin: float | None = None
        self._points: dict[str, _Points] = {}
        self._plugins: dict[str, str] = {}
        self._version = 0.0
        self._highest_step = -1

    def scalars(self) -> dict[str, Scalars]:
        """What has not been superseded so far."""
        return {tag: _frozen(points) for tag, points in self._points.items() if points.steps}

    def read(self, path: Path, number: int) -> None:
        """Add the events of a file, the ``number``-th.

        Raises:
            OSError: it cannot be read.
            _BrokenError: it is not whole; everything before that was added.
        """
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
        from tensorboard.compat.proto.event_pb2 import Event

        with path.open("rb") as file:
            for before, record in enumerate(_records(file)):
                try:
                    event = Event.FromString(record)
                except DecodeError:
                    raise _BrokenError(_DAMAGED.format(before)) from None
                self._add(event, number)

    def _add(self, event: Event, file: int) -> None:
        self._drop_superseded(event)
        step, wall_time = event.step, event.wall_time
        for value in event.summary.value:
            scalar = self._scalar(value)
            if scalar is not None:
                points = self._points.get(value.tag)
                if points is None:
                    points = self._points[value.tag] = _Points()
                points.add(file, step, wall_time, scalar)

    def _drop_superseded(self, event: Event) -> None:
        """TensorBoard's rule; the other one is in ``_Points``."""
        kind = event.WhichOneof("what")
        if kind == "file_version":
            from tensorboard.backend.event_processing.event_util import ParseFileVersion

            self._version = ParseFileVersion(event.file_version)
            self.begin = min(event.wall_time, self.begin or math.inf)
        if self._version >= 2:
            if kind == "session_log" and event.session_log.status == event.session_log.START:
                self._drop_from(event.step, self._points)
        elif event.step < self._highest_step and kind == "summary":
            self._drop_from(event.step, {value.tag for value in event.summary.value})
        else:
            self._highest_step = event.step

    def _drop_from(self, step: int, tags: Iterable[str]) -> None:
        for tag in tags:
            if tag in self._points:
                self._points[tag].drop_from(step)

    def _scalar(self, value: Summary.Value) -> float | None:
        """The number of a value, or None if it is no scalar."""
        # Only the first value of a tag says what it is, and only that of the run's first counts.
        if value.HasField("metadata"):
            self._plugins.setdefault(value.tag, value.metadata.plugin_data.plugin_name)
        kind = value.WhichOneof("value")
        if kind == "simple_value":
            return float(value.simple_value)
        if kind == "tensor" and self._plugins.get(value.tag) == "scalars":
            return _number(value.tensor)
        return None


def _number(tensor: Any) -> float | None:
    """The only number of a tensor, or None if it is not one number."""
    from tensorboard.util.tensor_util import make_ndarray

    # A tensor of equal elements is stored as one, and would be made as large as its shape says.
    if any(each.size != 1 for each in tensor.tensor_shape.dim):
        return None
    try:
        return float(make_ndarray(tensor).item())
    except (TypeError, ValueError):
        return None


def _frozen(points: _Points) -> Scalars:
    arrays = [
        np.array(numbers, dtype=np.float64)
        for numbers in (points.steps, points.wall_times, points.values)
    ]
    for numbers in arrays:
        numbers.flags.writeable = False
    return Scalars(*arrays)


def _records(file: IO[bytes]) -> Iterator[bytes]:
    """The records of a file: as much of it as there was when it was opened.

    Raises:
        _BrokenError: a record is not whole, or does not match its checksum.
        OSError: the disk failed.
    """
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    left, records = os.fstat(file.fileno()).st_size, 0
    good_headers = set()  # most records of a file have one of a few lengths
    while left > 0:
        header = file.read(_HEADER)
        if len(header) < _HEADER:
            raise _BrokenError(_CUT_OFF.format(records))
        length = int.from_bytes(header[:8], "little")
        if header not in good_headers:
            if masked_crc32c(header[:8]) != int.from_bytes(header[8:], "little"):
                raise _BrokenError(_DAMAGED.format(records))
            good_headers.add(header)
        left -= _HEADER + length + _FOOTER
        if left < 0:
            raise _BrokenError(_CUT_OFF.format(records))
        record = file.read(length)
        if masked_crc32c(record) != int.from_bytes(file.read(_FOOTER), "little"):
            raise _BrokenError(_DAMAGED.format(records))
        yield record
        records += 1
