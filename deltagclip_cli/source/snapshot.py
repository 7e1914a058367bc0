"""Copies of the code behind parts of one's own, from which they are imported.

A store is a folder with a copy for each code that trials were made with::

    .code/3f2a…/code.json       what is there: the references, the packages, what stands for it
    .code/3f2a…/files/net.py    as it was; each file is written whole, and code.json last

Trees are compared under the Python that runs: one that stored a copy may have read it differently.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deltagclip_cli.core import (
    RunFolderError,
    UnwritableError,
    claimed,
    listed,
    read_file,
    subfolders,
    write_text,
    written_whole,
)
from deltagclip_cli.source.collecting import MOST_BYTES, Code, as_installed, changed, collect

_RECORD = "code.json"
_FILES = "files"
_DIGITS = 16
_PATIENCE_SECONDS = 10.0
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def find(code: Code, store: Path) -> str:
    """Return the name of a code in a store: of its copy, or of the one that it stands for.

    A code that has no copy yet has the first digits of its hash for a name.
    """
    return _stood_for(_copy_name(code, store), store)


def keep(code: Code, store: Path) -> Path:
    """Keep a copy of a code in a store, unless there is one; return the folder with its files.

    If it stands for another code, it is what :func:`copy_of` gives from now on. Any number of
    processes may do so at once, and may be killed in it.

    Raises:
        UnwritableError: the disk is full, or nothing can be written there.
    """
    name = _copy_name(code, store)
    copy = store / name
    record = _read_record(copy)
    try:
        if record is None or _spoilt(copy, record):
            _write(code, copy, [] if record is None else record["vouched"])
        old = _stood_for(name, store)
        if _newest(store, old) != name:
            _stand_for(old, name, store)
    except OSError as error:
        raise UnwritableError(
            f"{copy}: the code of your parts cannot be kept there: {error.strerror}.\n"
            "  Free space or permissions there, or name another folder with --runs DIR."
        ) from error
    return copy / _FILES


def copy_of(store: Path, name: str) -> Path:
    """Return the folder from which the files of a code are imported.

    It is its copy, or that of the code that was vouched for last.

    Raises:
        LookupError: there is none, or its ``code.json`` is damaged.
    """
    newest = _newest(store, name)
    _require_record(store, newest)
    return store / newest / _FILES


def original_folder(root: Path) -> Path:
    """Return the folder whose files a folder holds copies of; itself if it is none of a copy."""
    record = _read_record(root.parent) if root.name == _FILES else None
    return root if record is None else Path(record["folder"])


def time_of_copy(store: Path, name: str) -> str:
    """Return when a copy was kept, such that later is larger; nothing if it is not whole."""
    record = _read_record(store / name)
    return "" if record is None else str(record["time"])


def read_copy(store: Path, name: str) -> Code:
    """Return the code whose folder :func:`copy_of` gives.

    Raises:
        LookupError: there is none, or files of it are gone.
    """
    newest = _newest(store, name)
    return _read(store / newest, _require_record(store, newest))


def code_of(references: Collection[str], store: Path, name: str) -> Code:
    """Return the code of some of the parts of a copy: what they reach of it.

    Raises:
        LookupError: there is no copy, or files of it are gone.
        UsageError: it cannot be told apart, for a package or a file elsewhere is not there.
    """
    whole = read_copy(store, name)
    some = collect(references, copy_of(store, name))
    packages = {each: whole.packages[each] for each in some.packages if each in whole.packages}
    return replace(some, packages=packages)


def check_copy(store: Path, name: str) -> None:
    """Raise RunFolderError if a code cannot be run as it was kept.

    Files of the copy may have been edited, or the packages that it names be others by now.
    """
    newest = _newest(store, name)
    spoilt = _spoilt(store / newest, _require_record(store, newest))
    if spoilt:
        raise RunFolderError(
            f"{store / newest / _FILES / spoilt[0]}: this copy is not as it was kept.\n"
            f"  Delete {store / newest} and start the sweep again, which keeps it anew."
        )
    kept = read_copy(store, name)
    changes = changed(kept, as_installed(kept))
    if changes:
        raise RunFolderError(
            f"What is installed has changed since this trial was planned: {listed(changes)}.\n"
            "  Install what it was planned with, or start the sweep again."
        )


def vouch(store: Path, old: str, new: str) -> None:
    """Record that the copy ``new`` stands for the code ``old``: its trials need not run again.

    Raises:
        LookupError: one of them is not in the store.
    """
    _stand_for(_stood_for(old, store), _newest(store, new), store)


def _copy_name(code: Code, store: Path) -> str:
    """Return the name of the copy of the same code; that of one to be, if there is none."""
    own = code.hash[:_DIGITS]
    if _read_record(store / own) is not None:
        return own
    for name, record in _records(store):
        # One that this Python has named has another name because it is another code.
        if record["python"] != _PYTHON and record["files"].keys() == code.files.keys():
            with suppress(LookupError):
                if _read(store / name, record).hash == code.hash:
                    return name
    return own


def _stand_for(old: str, copy: str, store: Path) -> None:
    """Record that a copy is what is run of a code from now on."""
    _require_record(store, copy)
    with claimed(store / ".lock", f"{store}: another process is writing there.", _PATIENCE_SECONDS):
        record = _require_record(store, old)
        record["vouched"].append({"code": copy, "time": _now(), "user": _user()})
        _write_record(store / old, record)


def _stood_for(name: str, store: Path) -> str:
    """Return the code that one stands for, by what was vouched for last; itself if for none."""
    vouched = [
        (each["time"], each["code"], old)
        for old, record in _records(store)
        for each in record["vouched"]
    ]
    return {new: old for _, new, old in sorted(vouched)}.get(name, name)


def _newest(store: Path, name: str) -> str:
    vouched = _require_record(store, name)["vouched"]
    return str(vouched[-1]["code"]) if vouched else name


def _records(store: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what is recorded of all copies that are whole."""
    for name in subfolders(store) if store.is_dir() else ():
        record = _read_record(store / name)
        if record is not None:
            yield name, record


def _require_record(store: Path, name: str) -> dict[str, Any]:
    record = _read_record(store / name)
    if record is None:
        raise LookupError(f"{store / name}: there is no whole copy of the code of its parts")
    return record


def _read_record(copy: Path) -> dict[str, Any] | None:
    """Return what is recorded of a copy; None if there is none, or it is damaged."""
    try:
        record = json.loads(read_file(copy / _RECORD))
        vouched = [each["code"] + each["time"] for each in record["vouched"]]
        texts = [*record["files"].values(), *record["packages"].values(), *record["references"]]
        texts += [record["python"], record["time"], record["folder"], *vouched]
        return record if all(isinstance(each, str) for each in texts) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _read(copy: Path, record: Mapping[str, Any]) -> Code:
    try:
        files = {name: read_file(copy / _FILES / name, MOST_BYTES) for name in record["files"]}
    except OSError as error:
        raise LookupError(f"{error.filename}: {error.strerror}") from None
    return Code(tuple(record["references"]), files, record["packages"], Path(record["folder"]))


def _spoilt(copy: Path, record: Mapping[str, Any]) -> list[str]:
    """Return the files of a copy that are not as they were kept."""
    found = []
    for name, sha256 in record["files"].items():
        try:
            is_whole = _sha256(read_file(copy / _FILES / name, MOST_BYTES)) == sha256
        except OSError:
            is_whole = False
        if not is_whole:
            found.append(name)
    return found


def _write(code: Code, copy: Path, vouched: Sequence[Any]) -> None:
    """Write the files of a copy, each whole, and then its record, without which it is none."""
    for name, content in code.files.items():
        path = copy / _FILES / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as file:
            file.write(content)
    record = {
        "references": code.references,
        "packages": code.packages,
        "files": {name: _sha256(code.files[name]) for name in sorted(code.files)},
        "python": _PYTHON,
        "time": _now(),
        "folder": str(code.folder),
        "vouched": vouched,
    }
    copy.mkdir(parents=True, exist_ok=True)
    _write_record(copy, record)


def _write_record(copy: Path, record: Mapping[str, Any]) -> None:
    write_text(copy / _RECORD, json.dumps(record, indent=2) + "\n")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _user() -> str:
    import getpass  # here, for it is used once in a blue moon

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container, whose users may have numbers only
        return str(os.getuid())


def _now() -> str:
    return datetime.now(UTC).isoformat()
