"""Signatures of installed parts, kept from one command to the next.

To read those of all optimizers of a large package takes seconds. A kept one counts as long as each
file that was looked into or looked for is as it was. It is no matter if it is damaged, written by
another version, or cannot be written: then the source is read.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from deltagclip_cli import __version__
from deltagclip_cli.source.arguments import REQUIRED, UNKNOWN, Option, type_of, type_written
from deltagclip_cli.source.definitions import Definition, look_up
from deltagclip_cli.source.modules import Module, files_noted, find_module
from deltagclip_cli.source.packages import edited_root
from deltagclip_cli.source.signatures import Signature

_FOLDER = Path("~/.cache/deltagclip/signatures")
_NOWHERE = Module("", Path(os.devnull))  # where types mean what they say
_Stamp = list[Any] | None


def kept(module: str, name: str, kind: str, read: Callable[[], Signature]) -> Signature:
    """Return the signature of a part of an installed package, read only if none is kept.

    Args:
        kind: what it is wanted as; whether it may be is kept as well.
        read: reads it, or refuses it.
    """
    if edited_root(module.partition(".")[0]) is not None:
        return read()
    file = _place(module, name, kind)
    with suppress(Exception):  # whatever may be in a file
        return _loaded(json.loads(file.read_bytes()), module, name)
    with files_noted() as files:
        signature = read()
        with suppress(ValueError):
            content = _content(signature)  # of types that are followed through more files
            with suppress(OSError, RuntimeError):
                _keep({**content, "files": {each: _stamp(each) for each in [*files]}}, file)
    return signature


def _place(module: str, name: str, kind: str) -> Path:
    words = json.dumps([module, name, kind, sys.prefix, sys.version_info[:2]])
    return _FOLDER.expanduser() / f"{hashlib.sha256(words.encode()).hexdigest()[:32]}.json"


@cache
def _reader() -> list[Any]:
    """Return which program this is: its version, its files that read sources, and Python's."""
    files = Path(__file__).parent.glob("*.py")
    return [__version__, max(file.stat().st_mtime_ns for file in files), sys.version]


@cache
def _stamp(module: str) -> _Stamp:
    """Return what tells that a module is as it was; None if there is none."""
    try:
        file = find_module(module).file
        status = file.stat()
    except (LookupError, OSError):
        return None
    if file.is_dir():  # of which only what is below is read
        return [str(file)]
    return [str(file), status.st_size, status.st_mtime_ns]


def _content(signature: Signature) -> dict[str, Any]:
    """Return what is kept of a signature.

    Raises:
        ValueError: a default cannot be written.
    """
    return {
        "reader": _reader(),
        "summary": signature.summary,
        "open": signature.open,
        "positional": [*signature.positional],
        "is_class": signature.is_class,
        "options": {name: _written(option) for name, option in signature.options.items()},
    }


def _keep(content: Mapping[str, Any], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(f".{os.getpid()}")
    beside.write_text(json.dumps(content))
    os.replace(beside, file)


def _loaded(content: Any, module: str, name: str) -> Signature:
    """Return what a file holds; it fails if that is out of date, or something else."""
    if content["reader"] != _reader() or not content["files"]:
        raise LookupError(module)
    if any(_stamp(each) != stamp for each, stamp in content["files"].items()):
        raise LookupError(module)

    def find() -> Definition:
        found = look_up(find_module(module), name)
        return next(each for each in found if isinstance(each, Definition))

    return Signature(
        _of_type(str, content["summary"]),
        {key: _read(*option) for key, option in content["options"].items()},
        _of_type(bool, content["open"]),
        [_of_type(str, each) for each in content["positional"]],
        _of_type(bool, content["is_class"]),
        find,
    )


def _of_type(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(value)
    return value


def _written(option: Option) -> tuple[str | bool | None, str | None]:
    """Return a default and a type as text.

    Raises:
        ValueError: the default cannot be written.
    """
    default: str | bool | None = repr(option.default)
    if option.default is REQUIRED or option.default is UNKNOWN:
        default = option.default is REQUIRED
    elif ast.literal_eval(repr(option.default)) != option.default:
        raise ValueError(option.default)
    if option.written is None or option.module is None:
        return default, None
    kind = type_of(option.written, option.module)
    return default, type_written(kind) or ast.unparse(option.written)


def _read(default: str | bool, kind: str | None) -> Option:
    if isinstance(default, bool):
        value: Any = REQUIRED if default else UNKNOWN
    else:
        value = ast.literal_eval(default)
    return Option(value, None, None) if kind is None else Option(value, _parsed(kind), _NOWHERE)


@cache
def _parsed(kind: str) -> ast.expr:
    return ast.parse(kind, mode="eval").body
