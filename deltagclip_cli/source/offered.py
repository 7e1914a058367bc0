"""Parts that an installed package offers, found in its source without importing it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltagclip_cli.core import UsageError
from deltagclip_cli.source.definitions import Family, members
from deltagclip_cli.source.modules import Module, find_module
from deltagclip_cli.source.packages import how_to_install
from deltagclip_cli.source.products import OPTIMIZER
from deltagclip_cli.source.reference import (
    PackageReference,
    ReferenceRefusedError,
    check_reference,
    public_names,
)
from deltagclip_cli.source.signatures import REQUIRED, UNKNOWN, Signature

_MOST_DEEP = 4  # a module's name, in parts
# A file of a module below a package is looked into if it has such a word.
_WORDS = {"optimizer": b"optim", "model": b"Module", "schedule": b"LRScheduler"}


@dataclass(frozen=True)
class Offer:
    """A part of a package.

    Args:
        name: as a spec names it, the shortest way.
        role: what sets it apart from those that train by themselves: ``"alias of …"``, ``"base
            class"``, ``"wraps an optimizer"``, ``"function"``; else nothing.
    """

    name: str
    signature: Signature
    role: str = ""

    def options(self, positional: int, supplied: Collection[str]) -> dict[str, Any]:
        """Return its ``options``, which of them are ``needed``, and the ``defaults`` of others.

        A default that its source works out is among neither.

        Args:
            positional: how many arguments the runner passes first.
            supplied: arguments that it passes by name.
        """
        holder = self.signature.holder
        given = {*supplied, *self.signature.positional[:positional]} - {holder}
        options = {k: each for k, each in self.signature.options.items() if k not in given}
        known = {k: each.default for k, each in options.items() if each.default is not UNKNOWN}
        defaults = {k: default for k, default in known.items() if default is not REQUIRED}
        return {
            "options": [*options],
            "needed": [name for name, default in known.items() if default is REQUIRED],
            "defaults": json.loads(json.dumps(defaults, default=repr)),
        }


def offered(package: str, kind: str) -> list[Offer]:
    """Return the parts of a kind that a package or a module offers, in the order of their names.

    They are those that it names itself; if there is none, those of the modules below it.

    Args:
        kind: as :func:`~deltagclip_cli.source.reference.check_reference` takes it.

    Raises:
        UsageError: it is not installed, or is no name of a package.
    """
    if not all(part.isidentifier() for part in package.split(".")):
        imported = package.replace("-", "_")
        raise UsageError(
            f"'{package}' is not what Python imports a package by.\n"
            f"  Write {imported if imported.isidentifier() else 'NAME or NAME.MODULE'}."
        )
    try:
        module = find_module(package)
    except LookupError as error:
        raise UsageError(f"{error}.\n  {how_to_install(package)}") from None
    found = list(_in_module(module, kind))
    if not found:
        word = _WORDS.get(kind, b"")
        below = _below(module, package.count(".") + 1)
        files = [each for each in below if each.file.is_file() and word in each.file.read_bytes()]
        inside = [offer for each in files for offer in _in_module(each, kind)]
        found = [each for each in inside if each.signature.definition.module.top == module.top]
    return _told_apart(found)


def _in_module(module: Module, kind: str) -> Iterator[Offer]:
    try:
        names = sorted(public_names(module))
    except (SyntaxError, ValueError, OSError):  # a file that this Python cannot read
        return
    for name in names:
        with suppress(ReferenceRefusedError):
            reference = PackageReference(module.name, name)
            signature = check_reference(reference, Path(), kind)
            yield Offer(str(reference), signature)


def _below(module: Module, depth: int) -> Iterator[Module]:
    """Yield the public modules below a package, those near to it first."""
    if not module.is_package or depth >= _MOST_DEEP:
        return
    folder = module.file if module.file.is_dir() else module.file.parent
    inside = [
        module.below(path.stem)
        for path in sorted(folder.iterdir())
        if path.stem.isidentifier()
        and not path.stem.startswith(("_", "test"))
        and (path.suffix == ".py" or (path / "__init__.py").is_file())
    ]
    yield from inside
    for each in inside:
        yield from _below(each, depth + 1)


def _told_apart(found: list[Offer]) -> list[Offer]:
    """Return each definition once by its own name, and with it other names for it."""
    first: dict[tuple[Path, int], Offer] = {}
    told = []
    for offer in sorted(found, key=_is_by_another_name):
        definition = offer.signature.definition
        place = (definition.module.file, definition.node.lineno)
        other = first.setdefault(place, offer)
        if other is offer:
            told.append(Offer(offer.name, offer.signature, _role(offer)))
        elif other.name.rpartition(":")[2] != offer.name.rpartition(":")[2]:
            told.append(Offer(offer.name, offer.signature, f"alias of {other.name}"))
    return sorted(told, key=lambda offer: offer.name.rpartition(":")[2].lower())


def _is_by_another_name(offer: Offer) -> bool:
    definition = offer.signature.definition
    return getattr(definition.node, "name", None) != offer.name.rpartition(":")[2]


def _role(offer: Offer) -> str:
    signature, name = offer.signature, offer.name.rpartition(":")[2]
    definition = signature.definition
    if definition.module.top != offer.name.partition(":")[0].partition(".")[0]:
        return f"alias of {definition.name.rpartition('.')[0]}:{name}"
    if OPTIMIZER in signature.bases or definition.name == OPTIMIZER:
        steps = any("step" in members(each) for each in Family(definition).classes)
        if not steps or name.startswith("Base") or name.endswith("Base"):
            return "base class"
    if signature.is_class and signature.holder:
        return "wraps an optimizer"
    return "" if signature.is_class else "function"
