"""The code behind parts of one's own: what belongs to it, which it is, and copies of it.

A store is a folder with a copy for each code that trials were made with::

    .code/3f2a…/code.json       what is there: the references, the packages, what stands for it
    .code/3f2a…/files/net.py    as it was; each file is written whole, and code.json last

Codes are the same if their syntax trees are, and the versions of their packages. Trees are compared
under the Python that runs: one that stored a copy may have read it differently.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any

from deltagclip_cli.core import (
    RunFolderError,
    UnwritableError,
    UsageError,
    claimed,
    file_status,
    listed,
    read_file,
    subfolders,
    write_text,
    written_whole,
)
from deltagclip_cli.source.imports import modules_at, outside_root, reached, reached_by_name
from deltagclip_cli.source.packages import edited_root, installed
from deltagclip_cli.source.trees import differences, digest, parse

_RECORD = "code.json"
_FILES = "files"
_DIGITS = 16
_MOST_READINGS = 5  # of files that somebody is editing
_PATIENCE_SECONDS = 10.0
_MOST_BYTES = 64 * 2**20  # of a file
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Code:
    """What parts of one's own consist of.

    Args:
        references: the parts, in the grammar of names.
        files: contents by paths relative to the folder of the spec; those of a file elsewhere
            begin with ``@`` and its whole path, those of an editable package with ``@`` and its
            name.
        packages: versions of the other installed packages that references name, by distribution.
        folder: that of the spec.
    """

    references: tuple[str, ...]
    files: Mapping[str, bytes]
    packages: Mapping[str, str] = field(default_factory=dict)
    folder: Path = field(default=Path(), compare=False)

    @cached_property
    def hash(self) -> str:
        """The SHA-256 of the syntax trees of the files and of the versions of the packages."""
        said = [self.digests, dict(sorted(self.packages.items()))]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    @cached_property
    def digests(self) -> Mapping[str, str]:
        """What each file says, whatever its layout, under the Python that runs."""
        return {name: digest(content) for name, content in sorted(self.files.items())}


def collect(references: Iterable[str], folder: Path) -> Code:
    """Read what belongs to parts of one's own: their files, what these import, and packages.

    Args:
        references: ``FILE.py:NAME`` and ``package.module:NAME``.
        folder: that of the spec.

    Raises:
        UsageError: a file is not there, cannot be read, or is not Python (its line is shown as
            Python does), or a package is not installed.
    """
    for _ in range(_MOST_READINGS):
        reading = _Reading(Path(os.path.abspath(folder)))
        for reference in references:
            reading.add(reference)
        if reading.is_current():
            break
    return Code(tuple(sorted(references)), reading.files, reading.packages, reading.folder)


class _Reading:
    """Reads each file once, so that what is kept is what was looked through."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, bytes] = {}
        self.packages: dict[str, str] = {}
        self._stamps: dict[Path, tuple[int, ...]] = {}

    def add(self, reference: str) -> None:
        """Read what a part is in, a file or a package, and all local files that it reaches."""
        place = normpath(reference.rpartition(":")[0])
        if not _is_file(reference):
            package = installed(place)
            if package.version is None:
                self._add_module(place, package.root)
            else:
                self.packages[package.name] = package.version
            return
        path = self.folder / place
        if not path.is_file():
            raise UsageError(f"{path}: there is no such file.")
        root = outside_root(path) if path == Path(place) else self.folder
        prefix = "" if root == self.folder else f"@{root.as_posix()}/"
        self._add(root, [PurePosixPath(path.relative_to(root).as_posix())], prefix)

    def is_current(self) -> bool:
        """Return whether no file has changed since it was read."""
        try:
            return all(_stamp(path) == stamp for path, stamp in self._stamps.items())
        except OSError:
            return False

    def _add_module(self, module: str, root: Path) -> None:
        self._add(root, [*modules_at(PurePosixPath(*module.split(".")), root)], "@")

    def _add(self, root: Path, files: Sequence[PurePosixPath], prefix: str) -> None:
        pending = [*files, *(each for f in files for each in modules_at(f.with_suffix(""), root))]
        while pending:
            file = pending.pop()
            # The folder around an installed package is none itself, whatever lies there.
            is_around = prefix == "@" and str(file) == "__init__.py"
            if f"{prefix}{file}" in self.files or is_around:
                continue
            content = self.files[f"{prefix}{file}"] = self._read(root / file)
            try:
                tree = parse(content, str(root / file))
            except SyntaxError as error:
                if prefix == "@":
                    continue
                shown = "".join(traceback.format_exception_only(error)).rstrip()
                raise UsageError(f"{root / file} cannot be read as Python:\n{shown}") from None
            found = reached(tree, file, root)
            pending.extend(found.files)
            if prefix != "@":
                pending.extend(reached_by_name(tree, file, root))
            for module in found.others:
                edited = edited_root(module.partition(".")[0])
                if edited is not None and edited != root:
                    self._add_module(module, edited)

    def _read(self, path: Path) -> bytes:
        try:
            self._stamps[path] = _stamp(path)
            return read_file(path, _MOST_BYTES)
        except OSError as error:
            raise UsageError(f"{path}: it cannot be read: {error.strerror}.") from None


def _is_file(reference: str) -> bool:
    return reference.rpartition(":")[0].endswith(".py")


def _stamp(path: Path) -> tuple[int, ...]:
    status = file_status(path)
    return status.st_mtime_ns, status.st_size, status.st_ino


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
        if copy_of(store, old) != copy / _FILES:
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


def read_copy(store: Path, name: str) -> Code:
    """Return the code whose folder :func:`copy_of` gives.

    Raises:
        LookupError: there is none, or files of it are gone.
    """
    newest = _newest(store, name)
    record = _require_record(store, newest)
    try:
        files = {
            each: read_file(store / newest / _FILES / each, _MOST_BYTES) for each in record["files"]
        }
    except OSError as error:
        raise LookupError(f"{error.filename}: {error.strerror}") from None
    return Code(tuple(record["references"]), files, record["packages"], Path(record["folder"]))


def code_without(store: Path, name: str, references: Collection[str]) -> Code:
    """Return the code of a copy without some of its parts, and what only they reach.

    Raises:
        LookupError: there is no copy, or files of it are gone.
        UsageError: it cannot be told apart, for a package or a file elsewhere is not there.
    """
    whole = read_copy(store, name)
    rest = collect(
        [each for each in whole.references if each not in references], copy_of(store, name)
    )
    packages = {each: whole.packages[each] for each in rest.packages if each in whole.packages}
    return replace(rest, packages=packages)


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
    changes = changed(kept, _as_installed(kept))
    if changes:
        raise RunFolderError(
            f"What is installed has changed since this trial was planned: {listed(changes)}.\n"
            "  Install what it was planned with, or start the sweep again."
        )


def _as_installed(kept: Code) -> Code:
    """Return a code with the packages, and with the files of packages, that there are now."""
    files = dict(kept.files)
    for name in files:
        if name.startswith("@") and not name.startswith("@/"):
            file = PurePosixPath(name.removeprefix("@"))
            try:
                root = installed(file.parts[0].removesuffix(".py")).root
                files[name] = read_file(root / file, _MOST_BYTES)
            except (OSError, UsageError):
                files[name] = b""
    versions = {}
    for reference in kept.references:
        with suppress(UsageError):
            package = installed(reference.rpartition(":")[0])
            if not _is_file(reference) and package.version is not None:
                versions[package.name] = package.version
    return replace(kept, files=files, packages=versions)


def vouch(store: Path, old: str, new: str) -> None:
    """Record that the copy ``new`` stands for the code ``old``: its trials need not run again.

    Raises:
        LookupError: one of them is not in the store.
    """
    _stand_for(_stood_for(old, store), _newest(store, new), store)


def changed(old: Code, new: Code) -> list[str]:
    """Return what differs between two codes, as ``helper.py: scale`` and ``timm 1.0 -> 1.1``."""
    return [*_changed_files(old, new), *_changed_packages(old, new)]


def _changed_files(old: Code, new: Code) -> Iterator[str]:
    for name in sorted({*old.files, *new.files}):
        shown = name.removeprefix("@")
        if name not in new.files:
            yield f"{shown} (gone)"
        elif name not in old.files:
            yield f"{shown} (new)"
        elif old.digests[name] != new.digests[name]:
            names = differences(old.files[name], new.files[name])
            yield f"{shown}: {listed(names)}" if names else shown


def _changed_packages(old: Code, new: Code) -> Iterator[str]:
    for name in sorted({*old.packages, *new.packages}):
        before, after = old.packages.get(name), new.packages.get(name)
        if before != after:
            yield f"{name} {before or '(new)'} -> {after or '(gone)'}"


def _copy_name(code: Code, store: Path) -> str:
    """Return the name of the copy of the same code; that of one to be, if there is none."""
    own = code.hash[:_DIGITS]
    if _read_record(store / own) is not None:
        return own
    for name, record in _records(store):
        # One that this Python has named has another name because it is another code.
        if record["python"] != _PYTHON and _is_same(code, store / name, record):
            return name
    return own


def _is_same(code: Code, copy: Path, record: Mapping[str, Any]) -> bool:
    if record["packages"] != code.packages or record["files"].keys() != code.files.keys():
        return False
    for name, content in code.files.items():
        if record["files"][name] == _sha256(content):
            continue
        try:
            if digest(read_file(copy / _FILES / name, _MOST_BYTES)) != code.digests[name]:
                return False
        except OSError:
            return False
    return True


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
        texts += [record["python"], record["folder"], *vouched]
        return record if all(isinstance(each, str) for each in texts) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _spoilt(copy: Path, record: Mapping[str, Any]) -> list[str]:
    """Return the files of a copy that are not as they were kept."""
    found = []
    for name, sha256 in record["files"].items():
        try:
            is_whole = _sha256(read_file(copy / _FILES / name, _MOST_BYTES)) == sha256
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
