"""Names of parts of one's own: ``FILE.py:NAME`` beside the spec, ``package.module:NAME``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from deltagclip_cli.core import UsageError
from deltagclip_cli.source.signatures import Signature, read_signature


@dataclass(frozen=True)
class FileReference:
    """A name in a file, which is looked for in the folder of the spec."""

    file: str
    attribute: str

    def __str__(self) -> str:
        return f"{self.file}:{self.attribute}"


@dataclass(frozen=True)
class PackageReference:
    """A name in a module of an installed package."""

    module: str
    attribute: str

    def __str__(self) -> str:
        return f"{self.module}:{self.attribute}"


def parse_reference(name: str) -> FileReference | PackageReference | None:
    """Read a reference; None for a name that is none, such as ``adam``."""
    place, colon, attribute = name.rpartition(":")
    if not colon:
        return None
    if place.endswith(".py"):
        return FileReference(place, attribute)
    return PackageReference(place, attribute)


def check_reference(
    reference: FileReference | PackageReference, folder: Path, kind: str
) -> Signature:
    """Return what a reference can be given, as its source says.

    Raises:
        UsageError: there is no such file, package or name, or it cannot be one of the kind.
    """
    if isinstance(reference, PackageReference):
        top = reference.module.partition(".")[0]
        if top in sys.stdlib_module_names:
            raise UsageError(f"{top} is of the standard library, which has no {kind}.")
    elif not (folder / reference.file).is_file():
        raise UsageError(f"{folder / reference.file}: there is no such file.")
    try:
        return read_signature(str(reference), folder)
    except LookupError as error:
        raise UsageError(f"{error.args[0]}.") from None
