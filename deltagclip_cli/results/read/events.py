"""The TensorBoard scalars that any program wrote into a folder.

Records are taken apart by TensorBoard's own code. Its readers of whole files are not used: they
take twice the time, pass over damage without a word, and know one rule of the two below.

A program that goes on from a checkpoint writes some steps a second time, in a new file or further
on in the same one. What it wrote from there on before is superseded:

1. The start of a session drops the points of *all* tags from its step on, as in TensorBoard.
2. For programs that start again without a word: a point drops those of *its own* tag with a higher
   step, and those with the same step if they are from an earlier file. This does not go for an
   earlier file that was still written when the later one began: that is no restart, but two
   writers, and the points of both are kept.

Points of one tag that have the same step and lie in one file are therefore all kept, as they were
written: that is how programs write that do not count. Order is that of the files' names and of the
records in them; clocks, which may differ between hosts, only tell whether two files overlap.
Points that were dropped and whose steps were not written again are told of, and so are two writers
of one tag.
"""

from __future__ import annotations

import math
import os
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from deltagclip_cli.core import is_folder, listed, open_file

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    from deltagclip_cli.results.read.run import Numbers, Option

_HEADER = 8 + 4  # the length of the record and its checksum
_FOOTER = 4  # the checksum of the record
_CUT_OFF = (
    "ends in the middle of a record, after {} whole ones; it is cut off, or still being written"
)
_DAMAGED = "damaged after record {}; what follows was not read"
_OPTIONS_TAG = "_hparams_/session_start_info"


@dataclass(frozen=True, eq=False)
class Scalars:
    """One tag's points in order of their steps, as read-only arrays (N,) of float64."""

    steps: Numbers  # as the program counted them; a step may be there more than once
    wall_times: Numbers  # seconds since 1970
    values: Numbers  # NaN and infinite where that was written; mostly of float32's precision


@dataclass(frozen=True, eq=False)
class Events:
    """The content of the event files of a folder."""

    # by tag, in order of first appearance; each has at least one point
    scalars: Mapping[str, Scalars]
    # a sentence for each file that is cut off, damaged or cannot be read, and on what restarts
    # dropped; it begins with the path of a file, or of the folder if that cannot be listed
    problems: Sequence[str] = ()
    # when the first of the files was begun, in seconds since 1970; None if none says so
    begin: float | None = None
    # hyperparameters that the program wrote for TensorBoard's HParams
    options: Mapping[str, Option] = field(default_factory=dict)
    whole: bool = True  # whether all files could be read to their ends


def event_files(folder: Path) -> list[Path]:
    """Return the files in a folder that TensorBoard would read, by name; links to nothing, too."""
    with os.scandir(folder) as entries:
        names = [each.name for each in entries if "tfevents" in each.name and not is_folder(each)]
    return [folder / name for name in sorted(names)]


def read_events(folder: Path) -> Events:
    """Read all scalars of a run, which is all event files directly in a folder.

    Every point is read, none is sampled. Of a file that is cut off or damaged, everything before
    that is kept; what went wrong is among the problems, and nothing is raised.
    """
    try:
        paths = event_files(folder)
    except OSError as error:
        return Events({}, [f"{folder}: cannot be listed: {error.strerror or error}."])
    stream, problems = _Stream(), []
    for number, path in enumerate(paths):
        try:
            stream.read(path, number)
        except _BrokenError as error:
            problems.append(f"{path}: {error}.")
        except OSError as error:
            problems.append(f"{path}: cannot be read: {error.strerror or error}.")
    whole = not problems
    # Of the last file, which is the one that went back, or was written beside others.
    problems += [f"{paths[-1]}: {each}." for each in (stream.lost(), stream.mixed()) if each]
    return Events(stream.scalars(), problems, stream.begin, stream.options, whole)


class _BrokenError(Exception):
    """A file ends in the middle of a record, or goes on with something else; says which."""


class _Part:
    """The points of one tag in one file that are not superseded; their steps never decrease."""

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


class _Stream:
    """All events of a run, one after the other, and what remains of their points."""

    def __init__(self) -> None:
        self.begin: float | None = None
        self.options: dict[str, Option] = {}
        self._plugins: dict[str, str] = {}
        self._parts: dict[str, list[_Part]] = {}  # by tag, those of each file
        self._file = -1
        self._current: dict[str, _Part] = {}  # those of the file that is being read
        self._ends: dict[int, float] = {}  # of each file with points, the time of the last
        self._beside: set[int] = set()  # files that were still written when this one began
        self._mixed: dict[str, None] = {}

    def read(self, path: Path, number: int) -> None:
        """Add the events of a file, the ``number``-th; _BrokenError comes after what is whole."""
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
        from tensorboard.compat.proto.event_pb2 import Event

        self._file, self._current = number, {}
        with open_file(path) as file:
            for before, record in enumerate(_records(file)):
                try:
                    event = Event.FromString(record)
                except DecodeError:
                    raise _BrokenError(_DAMAGED.format(before)) from None
                self._add(event)

    def scalars(self) -> dict[str, Scalars]:
        """Return what has not been superseded."""
        remaining = {
            tag: [part for part in parts if part.steps] for tag, parts in self._parts.items()
        }
        return {tag: _joined(parts) for tag, parts in remaining.items() if parts}

    def lost(self) -> str:
        """Tell in words what was dropped and not written again; nothing if nothing was."""
        lost: dict[str, set[int]] = {}
        for tag, parts in self._parts.items():
            again = {step for part in parts for step in part.steps}
            if steps := {step for part in parts for step in part.dropped} - again:
                lost[tag] = steps
        if not lost:
            return ""
        steps = set[int]().union(*lost.values())
        return (
            "a restart went back and did not write all steps again; of"
            f" {listed(list(lost))}, steps from {min(steps)} to {max(steps)} are left out"
        )

    def mixed(self) -> str:
        """Tell in words which tags two writers wrote at the same time; nothing if none."""
        if not self._mixed:
            return ""
        tags = listed(list(self._mixed))
        return f"two writers wrote {tags} at the same time; the points of both are kept"

    def _add(self, event: Event) -> None:
        kind = event.WhichOneof("what")
        if kind == "file_version":
            self.begin = min(event.wall_time, self.begin or math.inf)
        elif kind == "session_log" and event.session_log.status == event.session_log.START:
            for parts in self._parts.values():
                for part in parts:
                    part.drop_from(event.step)
        step, wall_time = event.step, event.wall_time
        for value in event.summary.value:
            scalar = self._scalar(value)
            if scalar is not None:
                self._add_point(value.tag, step, wall_time, scalar)

    def _add_point(self, tag: str, step: int, wall_time: float, value: float) -> None:
        """Add a point, and drop what it supersedes."""
        part = self._current.get(tag)
        if part is None:
            part = self._begin(tag, wall_time)
        if wall_time > self._ends[self._file]:
            self._ends[self._file] = wall_time
        for each in part.earlier:
            if each.steps and step <= each.steps[-1]:
                if each.file in self._beside:
                    self._mixed[tag] = None
                else:
                    each.drop_from(step)
        part.add(step, wall_time, value)

    def _begin(self, tag: str, wall_time: float) -> _Part:
        """Make room for the points of a tag in a file, of which this is the first."""
        if not self._current:  # no tag has any yet
            self._beside = {n for n, end in self._ends.items() if wall_time < end}
            self._ends[self._file] = wall_time
        parts = self._parts.setdefault(tag, [])
        part = self._current[tag] = _Part(self._file, tuple(parts))
        parts.append(part)
        return part

    def _scalar(self, value: Summary.Value) -> float | None:
        """Return the number of a value, or None if it is no scalar."""
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


def _joined(parts: Sequence[_Part]) -> Scalars:
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
    """The records of a file as it was when it was opened; of one not whole, raise _BrokenError."""
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
        if left < 0:  # before so much memory is asked for as a damaged length says
            raise _BrokenError(_CUT_OFF.format(records))
        record = file.read(length)
        if masked_crc32c(record) != int.from_bytes(file.read(_FOOTER), "little"):
            raise _BrokenError(_DAMAGED.format(records))
        yield record
        records += 1
