"""What the parts that a spec names can be given, read from their source without importing them.

Importing torch costs seconds and a spec must be checked in less, so names and options of others are
read by parsing the source that is installed, whatever its version.
"""

from __future__ import annotations

import ast
import importlib.util
import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

from deltagclip_cli.core import compact

REQUIRED = object()
UNKNOWN = object()


@cache
def classes_in(module: str, *left_out: str) -> Mapping[str, str]:
    """Return the classes of a module with their targets, by :func:`compact` names.

    They are those that it defines, and those that it imports from the modules below it.

    Raises:
        LookupError: there is no such package or file.
    """
    found: dict[str, str] = {}
    for node in parse_source(module).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = module
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{module}."):
            found |= {alias.name: str(node.module) for alias in node.names}
    return {
        compact(name): f"{home}:{name}"
        for name, home in found.items()
        if name[0].isupper() and name not in left_out
    }


def source_path(module: str) -> Path:
    """Return the file of a module, found without importing it or the packages around it.

    Raises:
        LookupError: there is no such package or file.
    """
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        raise LookupError(f"the package {top} is not installed")
    base = Path(spec.submodule_search_locations[0]).joinpath(*rest)
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    raise LookupError(f"there is no source file of {module}")


@cache
def parse_source(module: str) -> ast.Module:
    """Return the syntax tree of a module that is not imported.

    Raises:
        LookupError: there is no such package or file.
    """
    return ast.parse(source_path(module).read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Option:
    """One argument: its type for pydantic, and its default, `REQUIRED` or `UNKNOWN`."""

    annotation: Any
    default: Any


@dataclass(frozen=True)
class Signature:
    """The first line of a docstring and the arguments; ``open`` if any keyword is accepted."""

    summary: str
    options: Mapping[str, Option]
    open: bool


@cache
def read_signature(target: str) -> Signature:
    """Return the signature of ``"module:attribute"``; a class is read through its ``__init__``.

    Raises:
        LookupError: the module has no source file or does not define the attribute.
    """
    module, _, attribute = target.partition(":")
    definitions = {
        node.name: node
        for node in parse_source(module).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    if attribute not in definitions:
        raise LookupError(f"{module} does not define {attribute}")
    node = definitions[attribute]
    summary = (ast.get_docstring(node) or "").partition("\n")[0].rstrip(".").replace("``", "")
    function = _constructor(node, definitions)
    if function is None:
        return Signature(summary, {}, open=True)
    taken = function.args
    positional = [*taken.posonlyargs, *taken.args]
    without = [None] * (len(positional) - len(taken.defaults))
    defaults = [*without, *taken.defaults, *taken.kw_defaults]
    options = {
        argument.arg: Option(_type(argument.annotation), _literal(default))
        for argument, default in zip([*positional, *taken.kwonlyargs], defaults, strict=True)
        if argument.arg != "self"
    }
    return Signature(summary, options, open=taken.kwarg is not None)


def _constructor(
    node: ast.FunctionDef | ast.ClassDef, definitions: Mapping[str, ast.FunctionDef | ast.ClassDef]
) -> ast.FunctionDef | None:
    if isinstance(node, ast.FunctionDef):
        return node
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return item
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in definitions:
            return _constructor(definitions[base.id], definitions)
    return None


def _literal(node: ast.expr | None) -> Any:
    if node is None:
        return REQUIRED
    try:
        return ast.literal_eval(node)
    except ValueError:
        return UNKNOWN


_PLAIN = {"int": int, "float": float, "bool": bool, "str": str, "None": None}


def _type(node: ast.expr | None) -> Any:
    """Return the type for pydantic of an annotation; Any for what it does not know."""
    match node:
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=str(text)):
            return _type(ast.parse(text, mode="eval").body)
        case ast.Name(id=name) if name in _PLAIN:
            return _PLAIN[name]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            outer, inner = "union", [left, right]
        case ast.Subscript(value=ast.Name(id=outer) | ast.Attribute(attr=outer), slice=index):
            inner = index.elts if isinstance(index, ast.Tuple) else [index]
        case _:
            return Any
    match outer.lower():
        case "optional":
            return Optional[_type(inner[0])]  # noqa: UP045 - built at run time
        case "union":
            # "float | Tensor" is a number in YAML: a type that YAML cannot write leaves the union.
            members = [member for member in map(_type, inner) if member is not Any]
            return Union[tuple(members)] if members else Any  # noqa: UP007 - built at run time
        case "literal":
            return Literal[tuple(ast.literal_eval(item) for item in inner)]
        case "list" | "sequence" | "iterable":
            return types.GenericAlias(list, (_type(inner[0]),))
        case "tuple":
            from pydantic import Strict  # here, for the optimizers are usable without pydantic

            items = [... if ast.unparse(item) == "..." else _type(item) for item in inner]
            # YAML has lists only; the items inside stay strict.
            return Annotated[types.GenericAlias(tuple, tuple(items)), Strict(False)]
    return Any
