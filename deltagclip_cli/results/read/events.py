"""The TensorBoard scalars that any program wrote into a folder.

What a record holds is taken apart by TensorBoard's own code. Its readers of whole files are not
used: they open the file three times for each record and allocate what a damaged length says.

A program that goes on from a checkpoint writes some steps a second time, in a new
file or further on in the same one. What it wrote before from there on is superseded. Two rules say
what that is; a point that either of them drops is dropped.

1. TensorBoard's, as in its ``EventAccumulator``: the start of a session drops the points of *all*
   tags from its step on, if the file names a version of at least 2. In files that do not, a step
   below the highest one so far drops the points of the event's own tags from that step on.
2. For programs that start again without a word: a point drops those of *its own* tag with a higher
   step, and those with the same step if they are from an earlier file. This does not go for an
   earlier file that was still written when the later one began: that is no restart, but two
   writers, and the points of both are kept.

Points of one tag that have the same step and lie in one file are therefore all kept, in the order
in which they were written: that is how programs write that do not count. Order is that of the
files' names and of the records in them; clocks, which may differ between hosts, only tell whether
two files overlap. Points that were dropped and whose steps were not written again are told of, and
so are two writers of one tag.
"""

from __future__ import annotations

import math
import os
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from deltagclip_cli.core import is_folder, open_file, plural
from deltagclip_cli.results.read.run import Numbers, Option

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

_MOST_TAGS = 3


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


class Points:
    """The points of all tags of a run, in the order in which its files have them."""

    def __init__(self) -> None:
        self._points: dict[str, list[_Part]] = {}  # by tag, those of each file
        self._file = -1
        self._current: dict[str, _Part] = {}  # those of the file that is being read
        self._ends: dict[int, float] = {}  # of each file with points, the time of the last
        self._beside: set[int] = set()  # files that were still written when this one began
        self._mixed: dict[str, None] = {}

    def begin_file(self, number: int) -> None:
        """The next points are from the file of that number."""
        self._file = number
        self._current = {}

    def add(self, tag: str, step: int, wall_time: float, value: float) -> None:
        """Add a point, and drop what it supersedes."""
        part = self._current.get(tag)
        if part is None:
            part = self._begin(tag, wall_time)
        if wall_time > self._ends[self._file]:
            self._ends[self._file] = wall_time
        if part.earlier:
            self._drop_earlier(part, tag, step)
        part.add(step, wall_time, value)

    def drop_from(self, step: int, tags: Iterable[str] | None = None) -> None:
        """Drop the points of some tags, or of all, from a step on."""
        for tag in self._points if tags is None else tags:
            for part in self._points.get(tag, ()):
                part.drop_from(step)

    def scalars(self) -> dict[str, Scalars]:
        """What has not been superseded so far."""
        remaining = {
            tag: [part for part in parts if part.steps] for tag, parts in self._points.items()
        }
        return {tag: _frozen(parts) for tag, parts in remaining.items() if parts}

    def lost(self) -> str:
        """What was dropped and not written again, in words; empty if nothing was."""
        lost: dict[str, set[int]] = {}
        for tag, parts in self._points.items():
            if any(part.dropped for part in parts):
                again = set[int]().union(*(part.steps for part in parts))
                if steps := set[int]().union(*(part.dropped for part in parts)) - again:
                    lost[tag] = steps
        if not lost:
            return ""
        numbers = set[int]().union(*lost.values())
        first, last = min(numbers), max(numbers)
        where = f"step {first}" if first == last else f"steps between {first} and {last}"
        return (
            "a restart went back and did not write all steps again;"
            f" of {_named(lost)}, {where} from before it are left out"
        )

    def mixed(self) -> str:
        """Which tags two writers wrote at the same time, in words; empty if there are none."""
        if not self._mixed:
            return ""
        return (
            f"two writers wrote {_named(self._mixed)} at the same time; the points of both are kept"
        )

    def _begin(self, tag: str, wall_time: float) -> _Part:
        """Make room for the points of a tag in a file, of which this is the first."""
        if not self._current:  # no tag has any yet
            self._beside = {n for n, end in self._ends.items() if wall_time < end}
            self._ends[self._file] = wall_time
        parts = self._points.setdefault(tag, [])
        part = self._current[tag] = _Part(self._file, tuple(parts))
        parts.append(part)
        return part

    def _drop_earlier(self, new: _Part, tag: str, step: int) -> None:
        """Drop what a point supersedes in earlier files."""
        for part in new.earlier:
            if part.steps and step <= part.steps[-1]:
                if part.file in self._beside:
                    self._mixed[tag] = None
                else:
                    part.drop_from(step)


class _Part:
    """The points of one tag in one file that are not superseded; their steps never decrease.

    Args:
        file: its number.
        earlier: the points of the tag in earlier files.
    """

    def __init__(self, file: int, earlier: Sequence[_Part]) -> None:
        self.file = file
        self.earlier = earlier
        self.steps = array("q")
        self.wall_times = array("d")
        self.values = array("d")
        self.dropped = array("q")

    def add(self, step: int, wall_time: float, value: float) -> None:
        """Append a point, and drop those of higher steps."""
        if self.steps and step < self.steps[-1]:
            self.drop_from(step)
        self.steps.append(step)
        self.wall_times.append(wall_time)
        self.values.append(value)

    def drop_from(self, step: int) -> None:
        """Drop the points of this step and of higher ones."""
        kept = bisect_left(self.steps, step)
        self.dropped += self.steps[kept:]
        for numbers in (self.steps, self.wall_times, self.values):
            del numbers[kept:]


def _named(tags: Iterable[str]) -> str:
    """The first of some tags, and how many more there are."""
    first, more = list(tags)[:_MOST_TAGS], len(list(tags)) - _MOST_TAGS
    return ", ".join(first) + (f" and {plural(more, 'more tag')}" if more > 0 else "")


def _frozen(parts: Sequence[_Part]) -> Scalars:
    """The points of all files in order of their steps; of equal ones, in order of the files."""
    steps, *others = (
        np.concatenate([np.array(getattr(part, name), dtype=np.float64) for part in parts])
        for name in ("steps", "wall_times", "values")
    )
    if len(parts) > 1:
        order = np.argsort(steps, kind="stable")
        steps, *others = (numbers[order] for numbers in (steps, *others))
    for numbers in (steps, *others):
        numbers.flags.writeable = False
    return Scalars(steps, *others)


_HEADER = 8 + 4  # the length of the record and its checksum
_FOOTER = 4  # the checksum of the record
_CUT_OFF = (
    "ends in the middle of a record, after {} whole ones; it is cut off, or still being written"
)
_DAMAGED = "damaged after record {}; what follows was not read"
_OPTIONS_TAG = "_hparams_/session_start_info"


@dataclass(frozen=True, eq=False)
class Events:
    """What the event files of a folder hold.

    Args:
        scalars: by tag, in order of first appearance; each has at least one point.
        problems: a sentence for each file that is cut off, damaged or cannot be read, and on what
            restarts dropped; it begins with the path of a file, or of the folder if that cannot be
            listed.
        begin: when the first of the files was begun, in seconds since 1970; None if none says so.
        options: hyperparameters that the program wrote for TensorBoard's HParams.
        whole: whether all files could be read to their ends.
        lasting: whether reading the same files again would say the same; not after an error of the
            disk or of permissions.
    """

    scalars: Mapping[str, Scalars]
    problems: Sequence[str] = ()
    begin: float | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    whole: bool = True
    lasting: bool = True


def event_files(folder: Path) -> list[Path]:
    """The files directly in a folder that TensorBoard would read, in order of their names.

    Links that lead nowhere are among them, since their data are missing, and so is what will be
    found to be no file; folders are not.

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
    points, whole = stream.points, not problems
    # Of the last file, which is the one that went back, or was written beside others.
    problems += [f"{paths[-1]}: {each}." for each in (points.lost(), points.mixed()) if each]
    return Events(points.scalars(), problems, stream.begin, stream.options, whole, lasting)


def _is_event_file(entry: os.DirEntry[str]) -> bool:
    return "tfevents" in entry.name and not is_folder(entry)


class _BrokenError(Exception):
    """A file ends in the middle of a record, or goes on with something else; says which."""


class _Stream:
    """All events of a run, one after the other."""

    def __init__(self) -> None:
        self.begin: float | None = None
        self.options: dict[str, Option] = {}
        self.points = Points()
        self._plugins: dict[str, str] = {}
        self._version = 0.0
        self._highest_step = -1

    def read(self, path: Path, number: int) -> None:
        """Add the events of a file, the ``number``-th.

        Raises:
            OSError: it cannot be read.
            _BrokenError: it is not whole; everything before that was added.
        """
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
        from tensorboard.compat.proto.event_pb2 import Event

        self.points.begin_file(number)
        with open_file(path) as file:
            for before, record in enumerate(_records(file)):
                try:
                    event = Event.FromString(record)
                except DecodeError:
                    raise _BrokenError(_DAMAGED.format(before)) from None
                self._add(event)

    def _add(self, event: Event) -> None:
        self._drop_superseded(event)
        step, wall_time = event.step, event.wall_time
        for value in event.summary.value:
            scalar = self._scalar(value)
            if scalar is not None:
                self.points.add(value.tag, step, wall_time, scalar)

    def _drop_superseded(self, event: Event) -> None:
        """TensorBoard's rule; the other one is in the points."""
        kind = event.WhichOneof("what")
        if kind == "file_version":
            from tensorboard.backend.event_processing.event_util import ParseFileVersion

            self._version = ParseFileVersion(event.file_version)
            self.begin = min(event.wall_time, self.begin or math.inf)
        if self._version >= 2:
            if kind == "session_log" and event.session_log.status == event.session_log.START:
                self.points.drop_from(event.step)
        elif event.step < self._highest_step and kind == "summary":
            self.points.drop_from(event.step, {value.tag for value in event.summary.value})
        else:
            self._highest_step = event.step

    def _scalar(self, value: Summary.Value) -> float | None:
        """The number of a value, or None if it is no scalar."""
        # Only the first value of a tag says what it is, and only that of the run's first counts.
        if value.HasField("metadata"):
            self._plugins.setdefault(value.tag, value.metadata.plugin_data.plugin_name)
            if value.tag == _OPTIONS_TAG:
                self.options |= _options(value.metadata.plugin_data.content)
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


def _options(content: bytes) -> dict[str, Option]:
    """The hyperparameters that a session of the HParams plugin says; none if it makes no sense."""
    from google.protobuf.message import DecodeError
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    try:
        data = HParamsPluginData.FromString(content)
    except DecodeError:
        return {}
    found: dict[str, Option] = {}
    for name, value in data.session_start_info.hparams.items():
        kind = value.WhichOneof("kind")
        if kind in ("number_value", "string_value", "bool_value"):
            found[name] = getattr(value, kind)
    return found


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
