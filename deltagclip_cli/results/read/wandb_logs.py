"""The files of Weights & Biases: ``wandb/offline-run-…/run-….wandb``, online or offline.

Its library says what a record is, and has no reader any more. The file is a log of LevelDB: blocks
of 32 KiB, in which a record is one piece or several, each with a checksum.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import open_file, stopped
from deltagclip_cli.results.read.log import Log, Points
from deltagclip_cli.results.read.run import Outcome
from deltagclip_cli.results.read.side_files import flat

if TYPE_CHECKING:
    from deltagclip_cli.results.read.run import Option

_BEGIN = b":W&B\xe1\xbe\x00"
_BLOCK = 32 * 1024
_HEADER = struct.Struct("<IHB")  # of a piece: its checksum, its length, and which of a record it is
_FULL, _FIRST, _MIDDLE, _LAST = range(1, 5)
_STEPS = ("trainer/global_step", "train/global_step", "global_step")
"""What Lightning, Hugging Face and others log as their own count, before W&B's of its calls."""


def read_wandb_log(path: Path) -> Log:
    """Read the file of a run; of one that is cut off or damaged, everything before that."""
    try:
        records = import_module("wandb.proto.wandb_internal_pb2").Record
    except ImportError as error:
        return Log({}, [_without_library(path, error)], whole=False)
    run = _LoggedRun()
    try:
        with open_file(path) as file:
            for number, content in enumerate(whole_records(file.read())):
                run.take(records, content, number)
    except _BrokenError as error:
        return run.log(path, [f"{path}: {error}."])
    except OSError as error:
        return Log({}, [f"{path}: cannot be read: {error.strerror or error}."], whole=False)
    return run.log(path)


def _without_library(path: Path, error: ImportError) -> str:
    how = "pip install 'deltagclip_cli[wandb]'"
    if isinstance(error, ModuleNotFoundError):
        return f"{path.parent.parent}: runs of W&B are read with its library; {how}"
    return f"{path.parent.parent}: W&B's library cannot be used: {stopped(error)} {how}"


class _BrokenError(ValueError):
    """A file ends in the middle of a record, or goes on with something else; says which."""


def whole_records(content: bytes) -> Iterator[bytes]:
    """Yield the records of a file; an error behind the last one that is whole."""
    if content[: len(_BEGIN)] != _BEGIN:
        raise _BrokenError("no file of W&B of the only version that is known")
    place, pieces, count = len(_BEGIN), b"", 0
    while place < len(content):
        if (left := _BLOCK - place % _BLOCK) < _HEADER.size:  # the rest of a block is empty
            place += left
            continue
        if place + _HEADER.size > len(content):
            raise _BrokenError(_cut_off(count))
        checksum, length, kind = _HEADER.unpack_from(content, place)
        piece = content[place + _HEADER.size : place + _HEADER.size + length]
        if len(piece) < length:
            raise _BrokenError(_cut_off(count))
        if zlib.crc32(bytes([kind]) + piece) != checksum or not _FULL <= kind <= _LAST:
            raise _BrokenError(f"damaged after record {count}; what follows was not read")
        place += _HEADER.size + length
        pieces = piece if kind in (_FULL, _FIRST) else pieces + piece
        if kind in (_FULL, _LAST):
            yield pieces
            count += 1


def _cut_off(count: int) -> str:
    words = (
        "ends in the middle of a record, after {} whole ones; it is cut off, or still being written"
    )
    return words.format(count)


class _LoggedRun:
    """The sum of the records of a run."""

    def __init__(self) -> None:
        self._points = Points()
        self._points.next_file()
        self._name = ""
        self._begin: float | None = None
        self._config: dict[str, Any] = {}
        self._summary: dict[str, Any] = {}
        self._counters: dict[str, str] = {}  # by metric, what it was defined to be drawn over
        self._last = (0.0, math.nan)  # step and time
        self._exit: int | None = None

    def take(self, records: Any, content: bytes, number: int) -> None:
        """Take a record, the ``number``-th; _BrokenError of one that is none."""
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

        try:
            record = records.FromString(content)
            kind = record.WhichOneof("record_type")
            if kind == "history":
                self._take_history(dict(_items(record.history.item)), record.history.step.num)
            elif kind == "run":
                self._name = record.run.display_name or self._name
                self._begin = self._begin or record.run.start_time.ToMicroseconds() / 1e6 or None
                self._config |= dict(_items(record.run.config.update))
            elif kind == "config":
                self._config |= dict(_items(record.config.update))
            elif kind == "summary":
                self._summary |= dict(_items(record.summary.update))
            elif kind == "metric" and record.metric.step_metric:
                name = record.metric.name or record.metric.glob_name
                self._counters[name] = record.metric.step_metric
            elif kind == "exit":
                self._exit = record.exit.exit_code
        except (DecodeError, ValueError):
            words = f"damaged after record {number}; what follows was not read"
            raise _BrokenError(words) from None

    def _take_history(self, row: dict[str, Any], calls: int) -> None:
        at = _number(row.get("_timestamp"))
        at = math.nan if at is None else at
        usual = next((name for name in _STEPS if name in row), "_step")
        count = _number(row.get(usual, calls))
        counters = {usual, *self._counters.values()}
        for name, value in row.items():
            number = _number(value)
            own = _number(row.get(self._counter(name)))
            step = count if own is None else own
            if number is not None and step is not None and name not in counters and name[0] != "_":
                self._points.add(name, step, at, number)
                self._last = (max(step, self._last[0]), at)

    def _counter(self, name: str) -> str:
        if name in self._counters:
            return self._counters[name]
        globs = (each for each in self._counters if each.endswith("*"))
        return next((self._counters[g] for g in globs if name.startswith(g[:-1])), "")

    def log(self, path: Path, damage: Sequence[str] = ()) -> Log:
        """Return all of it; what only the summary has is a point at the last step."""
        lost = self._points.lost()
        scalars, (step, at) = self._points.scalars(), self._last
        for name, value in self._summary.items():
            number = _number(value)
            if number is not None and name not in scalars and name[0] != "_":
                self._points.add(name, step, at, number)
        self._config.pop("_wandb", None)
        options: dict[str, Option] = dict(flat(self._config))
        return Log(
            self._points.scalars(),
            [*damage, *([f"{path}: {lost}."] if lost else [])],
            self._begin,
            options,
            whole=not damage,
            name=self._name or None,
            outcome=_outcome(self._exit),
            reason=_reason(self._exit),
        )


def _outcome(exit_code: int | None) -> Outcome:
    if exit_code is None:
        return Outcome.UNFINISHED
    return Outcome.FAILED if exit_code else Outcome.FINISHED


def _reason(exit_code: int | None) -> str:
    if exit_code is None:
        return "W&B's file has no end: it was killed, or is still running"
    return f"exit code {exit_code}" if exit_code else ""


def _items(items: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yield names and values; those in dictionaries by dotted names, as W&B shows them."""
    for item in items:
        name = ".".join(item.nested_key) or item.key
        value = json.loads(item.value_json)
        yield name, value
        if isinstance(value, dict):
            yield from flat(value, f"{name}.")


def _number(value: object) -> float | None:
    """Return the number that a value is; None if it is something else."""
    if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    with suppress(OverflowError):
        return float(value)
    return math.inf if value > 0 else -math.inf
