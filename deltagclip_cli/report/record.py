"""The record on a page for whoever verifies it: what was asked, of what, each file's checksum.

The numbers themselves are the page's content, which lies beside it on the page as plain data.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from deltagclip_cli import __file__ as PACKAGE
from deltagclip_cli import __version__
from deltagclip_cli.core import Seen, printable
from deltagclip_cli.results.compare.request import Request
from deltagclip_cli.results.read.foreign import GROWING
from deltagclip_cli.runs.environment import processor

if TYPE_CHECKING:
    from deltagclip_cli.results.read.run import Reading
    from deltagclip_cli.results.read.tree import Place

PROGRAM = "deltagclip"
"""The condition that names the version of this program."""
CODE = "code of deltagclip"
"""The condition that tells two states of one version apart."""

_SEAL = re.compile(r'(<meta name="deltagclip-seal" content=")[0-9a-f]*(">)')
_ENDINGS = (".py", ".html", ".css", ".js", ".yaml")


@dataclass(frozen=True)
class Searched:
    """A folder that was searched for runs."""

    given: str  # as it was named, from the working folder of then
    from_page: str  # from the folder of the page, which may have been moved together with it


@dataclass(frozen=True)
class Record:
    """A request as it was when a page was made, and all that was read for the answer."""

    conditions: Mapping[str, str]  # that numbers are computed under, such as versions
    request: Request
    group: str | None  # how other people's runs are named
    runs: Searched  # the runs folder
    places: Sequence[Searched]  # that were searched
    read_at: float  # in seconds since 1970, where that matters; else 0
    files: Mapping[str, Mapping[str, tuple[int, str]]]  # by folder and name: bytes and SHA-256
    beside: Mapping[str, str]  # of the files of the report beside the page, the SHA-256


def record_of(
    place: Place,
    request: Request,
    reading: Reading,
    seen: Mapping[Path, Seen],
    page: Path,
    beside: Path,
) -> Record:
    """Return what the page at ``page`` is to carry.

    Args:
        seen: each file that was read.
        beside: a folder with the other files of the report.
    """
    grows = any(run.reason.startswith(GROWING) for run in reading.runs)

    def searched(folder: Path) -> Searched:
        way = os.path.relpath(folder.resolve(), page.parent.resolve())
        return Searched(printable(str(folder)), printable(way))

    digests = {
        path.relative_to(beside).as_posix(): digest_of(path.read_bytes())
        for path in sorted(beside.rglob("*"))
        if path.is_file()
    }
    return Record(
        conditions=conditions(),
        request=request,
        group=place.pattern,
        runs=searched(place.runs),
        places=[searched(folder) for folder in place.folders()],
        read_at=(place.read_at if grows else None) or 0.0,
        files=by_folder(seen, [(folder, str(folder)) for folder in place.folders()]),
        beside=digests,
    )


def by_folder(
    seen: Mapping[Path, Seen], places: Sequence[tuple[Path, str]]
) -> dict[str, dict[str, tuple[int, str]]]:
    """Return files by their folders, with what they held.

    Args:
        seen: each file that was read.
        places: the folders that were searched, and how they are named.
    """
    known = [(os.path.abspath(folder), name) for folder, name in places]
    names: dict[Path, str] = {}
    files: dict[str, dict[str, tuple[int, str]]] = defaultdict(dict)
    for path, each in seen.items():
        if path.parent not in names:
            folder = os.path.abspath(path.parent)
            within = [pair for pair in known if PurePath(folder).is_relative_to(pair[0])]
            start, name = [*within, *known][0]
            names[path.parent] = os.path.normpath(f"{name}/{os.path.relpath(folder, start)}")
        files[printable(names[path.parent])][printable(path.name)] = (each.size, each.sha256)
    return dict(files)


def digest_of(content: bytes) -> str:
    """Return the SHA-256 of some bytes."""
    return hashlib.sha256(content).hexdigest()


@cache
def conditions() -> dict[str, str]:
    """Return all that the last digits of a number may hang on, the code of this program included.

    A processor decides in which order numpy adds up.
    """
    found = {PROGRAM: __version__, CODE: _code(), "python": platform.python_version()}
    for package in ("numpy", "scipy"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return {**found, "processor": printable(processor())}


def _code() -> str:
    folder, digest = Path(PACKAGE).parent, hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in _ENDINGS:
            digest.update(f"{path.relative_to(folder).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def sealed(text: str) -> str:
    """Return a page with its seal: a checksum of all of it but the seal."""
    return _SEAL.sub(rf"\g<1>{digest_of(_unsealed(text).encode())}\g<2>", text, count=1)


def is_sealed(text: str) -> bool:
    """Tell whether nothing of a page was changed since it was sealed."""
    return sealed(text) == text


def _unsealed(text: str) -> str:
    return _SEAL.sub(r"\g<1>\g<2>", text, count=1)
