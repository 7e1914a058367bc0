"""The TensorBoard scalars that any program wrote into a folder.

What a record holds is taken apart by TensorBoard's own code. Its readers of whole files are not
used: they open the file three times for each record and allocate what a damaged length says.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from deltagclip_cli.core import is_folder, open_file
from deltagclip_cli.results.read.points import Points, Scalars

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

_HEADER = 8 + 4  # the length of the record and its checksum
_FOOTER = 4  # the checksum of the record
_CUT_OFF = (
    "ends in the middle of a record, after {} whole ones; it is cut off, or still being written"
)
_DAMAGED = "damaged after record {}; what follows was not read"
_OPTIONS_TAG = "_hparams_/session_start_info"

Option = bool | float | str
"""The value of a hyperparameter."""


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
