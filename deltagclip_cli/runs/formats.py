"""The formats of what a trial writes, by which whatever else lies there is told from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from deltagclip_cli.core import open_file, read_file

STRICT = ConfigDict(strict=True, allow_inf_nan=False, extra="allow")
"""How JSON is read that this program wrote: of the right types, and without what is no number."""

_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Number = Annotated[int, Field(ge=-(2**63), lt=2**63)] | float
_RECORD = TypeAdapter(dict[str, _Number | None], config=STRICT)
_MOST_BYTES_OF_A_LINE = 2**20  # of metrics.jsonl; a longer one is no record


class _Part(BaseModel):
    model_config = STRICT


class _Reached(_Part):
    value: float
    epoch: _Count


class _Divergence(_Part):
    where: str
    step: _Count
    epoch: _Count


class _Seconds(_Part):
    epochs: Annotated[float, Field(ge=0, lt=1e12)]


class _Result(_Part):
    """The shape of ``result.json``, to which later versions may add."""

    status: Literal["finished", "diverged"]
    identity: str
    epochs: _Count
    steps: _Count
    last: dict[str, float | None]
    best: dict[str, _Reached]
    regimes: dict[str, _Count] | None
    diverged: _Divergence | None
    seconds: _Seconds


def read_result(file: Path) -> tuple[dict[str, Any] | None, str]:
    """What a ``result.json`` holds, or else what is wrong with it; neither if it is missing."""
    try:
        return _Result.model_validate_json(read_file(file)).model_dump(), ""
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, f"{file.name} cannot be read: {error.strerror}"
    except ValidationError as error:
        return None, f"{file.name} is damaged: {_first_fault(error)}"


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, fault["loc"]))
    return f"{where}: {fault['msg']}" if where else str(fault["msg"])


def read_records(file: Path) -> Iterator[dict[str, Any]]:
    """The records of a ``metrics.jsonl``, up to the first line that is none; none without a file.

    Each has an ``epoch``, a ``step``, a ``time`` and metrics, which are numbers or None.

    Raises:
        OSError: the file cannot be read.
    """
    with suppress(FileNotFoundError):
        for line in lines_of(file):
            try:
                record = _RECORD.validate_json(line)
            except ValidationError:
                return
            if not all(type(record.get(axis)) is int for axis in ("epoch", "step")):
                return
            if record.get("time") is None:
                return
            yield record


def lines_of(file: Path) -> Iterator[bytes]:
    """The lines of a file of records without their ends, up to the first that has none in sight.

    Raises:
        OSError: the file cannot be read.
    """
    with open_file(file) as opened:
        rest = b""
        for block in iter(partial(opened.read, _MOST_BYTES_OF_A_LINE), b""):
            *lines, rest = (rest + block).split(b"\n")
            yield from lines
            if len(rest) > _MOST_BYTES_OF_A_LINE:
                return
