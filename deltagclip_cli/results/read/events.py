"""The TensorBoard scalars that any program wrote into a folder.

Records are taken apart by TensorBoard's own code. Its readers of whole files are not used: they
take twice the time, pass over damage without a word, and know one rule of the two below.

What a restart writes a second time is sorted out in :mod:`~deltagclip_cli.results.read.log`, after
some words of the files' own: that a session starts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from deltagclip_cli.core import is_folder, open_file
from deltagclip_cli.results.read.log import Log, Points

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    from deltagclip_cli.results.read.run import Option

_HALF = 19  # DT_HALF, of 16 bits: TensorBoard reads it in a way that NumPy is about to refuse
_HEADER = 8 + 4  # the length of the record and its checksum
_FOOTER = 4  # the checksum of the record
_CUT_OFF = (
    "ends in the middle of a record, after {} whole ones; it is cut off, or still being written"
)
_DAMAGED = "damaged after record {}; what follows was not read"
_OPTIONS_TAG = "_hparams_/session_start_info"


def event_files(folder: Path) -> list[Path]:
    """Return the files in a folder that TensorBoard would read, by name; links to nothing, too."""
    with os.scandir(folder) as entries:
        names = [each.name for each in entries if "tfevents" in each.name and not is_folder(each)]
    return [folder / name for name in sorted(names)]


def read_events(folder: Path) -> Log:
    """Read all scalars of a run, which is all event files directly in a folder.

    Every point is read, none is sampled. Of a file that is cut off or damaged, everything before
    that is kept; what went wrong is among the problems, and nothing is raised.
    """
    try:
        paths = event_files(folder)
    except OSError as error:
        return Log({}, [f"{folder}: cannot be listed: {error.strerror or error}."])
    stream, problems = _Stream(), []
    for path in paths:
        try:
            stream.read(path)
        except _BrokenError as error:
            problems.append(f"{path}: {error}.")
        except OSError as error:
            problems.append(f"{path}: cannot be read: {error.strerror or error}.")
    whole = not problems
    # Of the last file, which is the one that went back, or was written beside others.
    problems += [f"{paths[-1]}: {each}." for each in (stream.lost(), stream.mixed()) if each]
    return Log(stream.scalars(), problems, stream.begin, stream.options, whole)


class _BrokenError(Exception):
    """A file ends in the middle of a record, or goes on with something else; says which."""


class _Stream(Points):
    """All events of a run, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.begin: float | None = None
        self.options: dict[str, Option] = {}
        self._plugins: dict[str, str] = {}

    def read(self, path: Path) -> None:
        """Add the events of the next file; _BrokenError comes after what is whole."""
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
        from tensorboard.compat.proto.event_pb2 import Event

        self.next_file()
        with open_file(path) as file:
            for before, record in enumerate(_records(file)):
                try:
                    event = Event.FromString(record)
                except DecodeError:
                    raise _BrokenError(_DAMAGED.format(before)) from None
                self._take(event)

    def _take(self, event: Event) -> None:
        kind = event.WhichOneof("what")
        if kind == "file_version":
            self.begin = min(event.wall_time, self.begin or math.inf)
        elif kind == "session_log" and event.session_log.status == event.session_log.START:
            self.restart(event.step)
        step, wall_time = event.step, event.wall_time
        for value in event.summary.value:
            scalar = self._scalar(value)
            if scalar is not None:
                self.add(value.tag, step, wall_time, scalar)

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


def _number(tensor: Any) -> float | None:
    """The only number of a tensor, or None if it is not one number."""
    from tensorboard.util.tensor_util import make_ndarray

    # A tensor of equal elements is stored as one, and would be made as large as its shape says.
    if any(each.size != 1 for each in tensor.tensor_shape.dim):
        return None
    try:
        if tensor.dtype == _HALF and len(tensor.half_val) == 1:
            return float(np.uint16(tensor.half_val[0]).view(np.float16))
        return float(make_ndarray(tensor).item())
    except (TypeError, ValueError, OverflowError):
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
