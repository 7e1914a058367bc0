"""Signatures of the parts that a spec names, read from their source without importing them.

Importing torch costs seconds and a spec must be checked in less, so names and options of others are
read by parsing the source that is installed, whatever its version, and one's own files likewise.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path, PurePosixPath

from deltagclip_cli.core import compact
from deltagclip_cli.source.arguments import REQUIRED, UNKNOWN, Option, arguments_taken
from deltagclip_cli.source.definitions import Definition, Family, look_up
from deltagclip_cli.source.modules import find_module, own_module

__all__ = [
    "HOLDERS",
    "REQUIRED",
    "UNKNOWN",
    "Option",
    "Signature",
    "classes_in",
    "read_signature",
    "signature_of",
]


HOLDERS = ("optimizer", "base_optimizer", "wrapped_optimizer", "base")
"""What arguments are called by which an optimizer takes another one."""


@dataclass(frozen=True)
class Signature:
    """All that a class or a function can be given.

    Args:
        summary: the first line of its docstring.
        options: its arguments by name, and behind them those to which its ``**kwargs`` go.
        open: whether keywords go somewhere that cannot be read, so that others may be accepted.
        positional: the arguments that need not be given by name, in their order.
        is_class: false for a function.
        find: returns where that stands.
    """

    summary: str
    options: Mapping[str, Option]
    open: bool
    positional: Sequence[str]
    is_class: bool
    find: Callable[[], Definition] = field(compare=False, repr=False)

    @cached_property
    def definition(self) -> Definition:
        """The definition that has this signature."""
        return self.find()

    @property
    def bases(self) -> Sequence[str]:
        """The whole names of all that a class is derived from."""
        classes = Family(self.definition).classes if self.is_class else ()
        return [each.name for each in classes[1:]]

    @property
    def holder(self) -> str | None:
        """The argument by which it takes another optimizer: a required one, or of such a type."""
        for name in HOLDERS:
            option = self.options.get(name)
            written = (
                "" if option is None or option.written is None else ast.unparse(option.written)
            )
            if option is not None and (option.default is REQUIRED or "Optimizer" in written):
                return name
        return None


@cache
def classes_in(module: str, *left_out: str) -> Mapping[str, str]:
    """Return the classes of a module with their targets, by :func:`compact` names.

    They are those that it defines, and those that it imports from the modules below it.

    Raises:
        LookupError: there is no such package or file.
    """
    found: dict[str, str] = {}
    for node in find_module(module).tree.body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = module
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{module}."):
            found |= {alias.name: str(node.module) for alias in node.names}
    return {
        compact(name): f"{home}:{name}"
        for name, home in found.items()
        if name[0].isupper() and name not in left_out
    }


def read_signature(target: str, folder: Path | None = None) -> Signature:
    """Return the signature of ``"package.module:NAME"``, or of ``"FILE.py:NAME"`` below ``folder``.

    A class is read through its ``__init__``, or through that of the nearest base that has one.

    Raises:
        LookupError: the module has no source file or does not define the name.
        SyntaxError: a file cannot be parsed.
    """
    home, _, name = target.rpartition(":")
    if folder is not None and home.endswith(".py"):
        if not (folder / home).is_file():
            raise LookupError(f"there is no file {home}")
        module = own_module(PurePosixPath(home), folder)
    else:
        module = find_module(home)
    for each in look_up(module, name):
        if isinstance(each, Definition):
            return signature_of(each)
    raise LookupError(f"{home} does not define {name}")


def signature_of(definition: Definition) -> Signature:
    """Return the signature of a class or a function."""
    node = definition.node
    text = "" if isinstance(node, ast.expr) else ast.get_docstring(node) or ""
    taken = arguments_taken(definition)
    return Signature(
        text.partition("\n")[0].rstrip(".").replace("``", ""),
        taken.options,
        taken.open,
        taken.positional,
        isinstance(node, ast.ClassDef),
        lambda: definition,
    )
