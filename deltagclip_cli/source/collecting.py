"""The code behind parts of one's own: what belongs to it, and which it is.

Codes are the same if their syntax trees are, and the versions of their packages.
"""

from __future__ import annotations

import hashlib
import json
import os
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from posixpath import normpath

from deltagclip_cli.core import UsageError, file_status, listed, read_file
from deltagclip_cli.source.imports import modules_at, outside_root, reached, reached_by_name
from deltagclip_cli.source.packages import edited_root, installed
from deltagclip_cli.source.trees import differences, digest, parse

INSTALLED = "@installed"
"""The folder in a copy with the files of packages that are known by them."""

MOST_BYTES = 64 * 2**20
"""Of a file of code."""

_MOST_READINGS = 5  # of files that somebody is editing


@dataclass(frozen=True)
class Code:
    """The files and packages that parts of one's own consist of.

    Args:
        references: the parts, in the grammar of names.
        files: contents by paths relative to the folder of the spec; that of a file elsewhere is
            ``@`` with its whole path, that of an editable package is below ``@installed``.
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
        """Hashes of the syntax trees of the files, under the Python that runs."""
        return {name: digest(content) for name, content in sorted(self.files.items())}


def collect(references: Iterable[str], folder: Path) -> Code:
    """Read what belongs to parts of one's own: their files, what these import, and packages.

    Args:
        references: ``FILE.py:NAME`` and ``package.module:NAME``.
        folder: that of the spec, or the files of a copy.

    Raises:
        UsageError: a file is not there, cannot be read, or is not Python (its line is shown as
            Python does), or a package is not installed.
    """
    references = sorted(references)
    for _ in range(_MOST_READINGS):
        reading = _Reading(Path(os.path.abspath(folder)))
        for reference in references:
            reading.add(reference)
        if reading.is_current():
            break
    return Code(tuple(references), reading.files, reading.packages, reading.folder)


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
        if is_file(reference):
            self._add_file(place)
        elif (root := self._kept_root(place)) is not None:
            self._add_module(place, root)
        else:
            package = installed(place)
            if package.version is None:
                self._add_module(place, package.root)
            else:
                self.packages[package.name] = package.version

    def is_current(self) -> bool:
        """Return whether no file has changed since it was read."""
        try:
            return all(_stamp(path) == stamp for path, stamp in self._stamps.items())
        except OSError:
            return False

    def _add_file(self, place: str) -> None:
        path, root, above = self.folder / place, self.folder, self.folder
        if path == Path(place):
            copied = self.folder / f"@{place}"
            path = copied if copied.is_file() else path
            root = outside_root(path)
            above = self.folder / "@" if path == copied else Path("/")
        if not path.is_file():
            raise UsageError(f"{path}: there is no such file.")
        prefix = "" if root == self.folder else f"@/{root.relative_to(above).as_posix()}/"
        self._add(root, [PurePosixPath(path.relative_to(root).as_posix())], prefix)

    def _kept_root(self, module: str) -> Path | None:
        """Return where a copy has the files of a package, if this is one that has them."""
        root, top = self.folder / INSTALLED, module.partition(".")[0]
        return root if any(modules_at(PurePosixPath(top), root)) else None

    def _add_module(self, module: str, root: Path) -> None:
        self._add(root, [*modules_at(PurePosixPath(*module.split(".")), root)], f"{INSTALLED}/")

    def _add(self, root: Path, files: Sequence[PurePosixPath], prefix: str) -> None:
        pending = [*files, *(each for f in files for each in modules_at(f.with_suffix(""), root))]
        while pending:
            file = pending.pop()
            # The folder around an installed package is none itself, whatever lies there.
            is_installed = prefix.startswith(INSTALLED)
            is_around = is_installed and str(file) == "__init__.py"
            if f"{prefix}{file}" in self.files or is_around:
                continue
            content = self.files[f"{prefix}{file}"] = self._read(root / file)
            try:
                tree = parse(content, str(root / file))
            except SyntaxError as error:
                if is_installed:
                    continue
                shown = "".join(traceback.format_exception_only(error)).rstrip()
                raise UsageError(f"{root / file} cannot be read as Python:\n{shown}") from None
            found = reached(tree, file, root)
            pending.extend(found.files)
            if not is_installed:
                pending.extend(reached_by_name(tree, file, root))
            for module in found.others:
                edited = self._kept_root(module) or edited_root(module.partition(".")[0])
                if edited is not None and edited != root:
                    self._add_module(module, edited)

    def _read(self, path: Path) -> bytes:
        try:
            self._stamps[path] = _stamp(path)
            return read_file(path, MOST_BYTES)
        except OSError as error:
            raise UsageError(f"{path}: it cannot be read: {error.strerror}.") from None


def changed(old: Code, new: Code) -> list[str]:
    """Return what differs between two codes, as ``helper.py: scale`` and ``timm 1.0 -> 1.1``."""
    return [*_changed_files(old, new), *_changed_packages(old, new)]


def _changed_files(old: Code, new: Code) -> Iterator[str]:
    for name in sorted({*old.files, *new.files}):
        shown = name.removeprefix(f"{INSTALLED}/").removeprefix("@")
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


def as_installed(kept: Code) -> Code:
    """Return a code with the packages, and with the files of packages, that there are now."""
    files = dict(kept.files)
    for name in kept.files:
        file = PurePosixPath(name)
        if file.parts[0] == INSTALLED:
            try:
                root = installed(file.parts[1].removesuffix(".py")).root
                files[name] = read_file(root / file.relative_to(INSTALLED), MOST_BYTES)
            except (OSError, UsageError):
                del files[name]
    versions = {}
    for reference in kept.references:
        with suppress(UsageError):
            package = installed(reference.rpartition(":")[0])
            if not is_file(reference) and package.version is not None:
                versions[package.name] = package.version
    return replace(kept, files=files, packages=versions)


def is_file(reference: str) -> bool:
    """Return whether a part is in a file, not in a package."""
    return reference.rpartition(":")[0].endswith(".py")


def _stamp(path: Path) -> tuple[int, ...]:
    status = file_status(path)
    return status.st_mtime_ns, status.st_size, status.st_ino
