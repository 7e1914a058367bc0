"""Tables of the names of components, and seeds of streams of random numbers by their names.

Each kind of component has a folder, and the folder's ``__init__`` holds its :class:`Catalogue`,
called ``TABLE``. One more component is one more file and one more line in it. A target is written
``"module:attribute"`` and is imported only when it is used.

A stream of random numbers has a name as well (``init``, ``order``, ``augment``, ...) and gets its
seed from the trial's seed and that name alone. Optimizers compared at one seed so start from the
same weights and see the same batches, and no stream depends on how much another has drawn.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Catalogue:
    """The components of one kind.

    Args:
        kind: what a component is called in messages (``"optimizer"``).
        entries: our own components, ``name -> "module:attribute"``.
        supplied: arguments of the targets that the runner supplies, so that a spec must not.
        installed: finds what installed libraries add, in the form of ``entries``. It must not
            import those libraries; it is called only when a name is not among ``entries`` or when
            everything is listed.
        unlisted: finds what there is too much of to be listed, as ``installed`` does, by what
            stands before the colon in its names.
        closed: of ``unlisted``, those of which other names are none that could be looked up, each
            with the command that installs what has them.
        bounds: limits of numbers, as keyword arguments of ``pydantic.Field``: those of one of
            ``entries`` by ``name.option``, those of the whole kind by ``option``.
        offered: arguments that the runner supplies to a part of one's own which names them; written
            ``"$name"``, they stand for the value of any option.
        if_required: those of ``offered`` that such a part gets only if it has no default for them.
        positional: how many arguments the runner passes first to what makes a component.
        arguments: how many a function is called with first; it is a component as it is, and a
            class makes one.
        words: of options by their name, a word that stands for a number which the runner finds out.
        spelling: maps a name as a user may write it to the name in the table.
    """

    kind: str
    entries: Mapping[str, str]
    supplied: frozenset[str] = frozenset()
    offered: frozenset[str] = frozenset()
    if_required: frozenset[str] = frozenset()
    positional: int = 0
    arguments: int = 0
    installed: Callable[[], Mapping[str, str]] = dict
    unlisted: Mapping[str, Callable[[], Mapping[str, str]]] = field(default_factory=dict)
    closed: Mapping[str, str] = field(default_factory=dict)
    bounds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    spelling: Callable[[str], str] = str

    def all(self) -> dict[str, str]:
        """Return every name with its target, our own first."""
        return {**self.entries, **self.installed()}

    def find(self, name: str) -> str | None:
        """Return the target called ``name``, or None."""
        if name in self.entries:
            return self.entries[name]
        unlisted = self.unlisted.get(name.partition(":")[0])
        return (unlisted or self.installed)().get(self.spelling(name))

    def limits(self, target: str, option: str) -> Mapping[str, float]:
        """Return the limits of an option of a target, its own before those of the kind."""
        names = (f"{name}.{option}" for name, each in self.entries.items() if each == target)
        return next((self.bounds[key] for key in (*names, option) if key in self.bounds), {})

    def limited(self) -> list[str]:
        """Return the names of all options that have limits."""
        return list(dict.fromkeys(key.rpartition(".")[2] for key in self.bounds))


def load_target(target: str) -> Any:
    """Import ``"module:attribute"`` and return the attribute."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def compact(name: str) -> str:
    """Return a class name as it may be written: in any case, with or without underscores."""
    return name.lower().replace("_", "")


def derive_seed(seed: int, *parts: str | int) -> int:
    """Return a seed in [0, 2**63) for the stream named by ``parts`` under the trial's ``seed``."""
    name = "/".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
