"""Tables of names: what a spec may call a model, a data set, an optimizer, ..., and where it lives.

Each kind of component has a folder, and the folder's ``__init__`` holds its :class:`Catalogue`,
called ``TABLE``. One more component is one more file and one more line in it. A target is written
``"module:attribute"`` and is imported only when it is used, so that planning never imports torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


def _nothing() -> Mapping[str, str]:
    return {}


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
        bounds: limits of options by their name, as keyword arguments of ``pydantic.Field``.
        words: of options by their name, a word that stands for a number which the runner finds out.
        spelling: maps a name as a user may write it to the name in the table.
    """

    kind: str
    entries: Mapping[str, str]
    supplied: frozenset[str] = frozenset()
    installed: Callable[[], Mapping[str, str]] = _nothing
    bounds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    spelling: Callable[[str], str] = str

    def all(self) -> dict[str, str]:
        """Every name with its target, our own first."""
        return {**self.entries, **self.installed()}

    def find(self, name: str) -> str | None:
        """The target called ``name``, or None."""
        if name in self.entries:
            return self.entries[name]
        return self.installed().get(self.spelling(name))


def load_target(target: str) -> Any:
    """Import ``"module:attribute"`` and return the attribute."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def compact(name: str) -> str:
    """A class name as it may be written: in any case, with or without underscores."""
    return name.lower().replace("_", "")
