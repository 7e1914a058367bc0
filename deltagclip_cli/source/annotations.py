"""Annotations and defaults of arguments, as types for pydantic and as values."""

from __future__ import annotations

import ast
import types
from typing import Annotated, Any, Literal, Optional, Union

from deltagclip_cli.source.definitions import Definition, evaluate
from deltagclip_cli.source.modules import Imported, Module

REQUIRED = object()
UNKNOWN = object()

_PLAIN = {"int": int, "float": float, "bool": bool, "str": str, "None": None}
_MOST_ALIASES = 8  # of a type, one behind another


def default_of(node: ast.expr | None) -> Any:
    """Return the value of a default: `REQUIRED` for none, `UNKNOWN` if it is computed."""
    if node is None:
        return REQUIRED
    try:
        return ast.literal_eval(node)
    except ValueError:
        return UNKNOWN


def type_of(node: ast.expr | None, module: Module, depth: int = _MOST_ALIASES) -> Any:
    """Return the type for pydantic of an annotation; Any for what it does not know."""
    match node:
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=str(text)):
            try:
                return type_of(ast.parse(text, mode="eval").body, module, depth)
            except SyntaxError:
                return Any
        case ast.Name(id=name) if name in _PLAIN:
            return _PLAIN[name]
        case ast.Name() | ast.Attribute():
            return _behind_alias(node, module, depth)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            outer, inner = "union", [left, right]
        case ast.Subscript(value=ast.Name(id=outer) | ast.Attribute(attr=outer), slice=index):
            inner = index.elts if isinstance(index, ast.Tuple) else [index]
        case _:
            return Any
    members = [type_of(each, module, depth) for each in inner] if outer.lower() != "literal" else []
    match outer.lower():
        case "annotated" | "final" | "initvar":
            return members[0]
        case "optional":
            return Optional[members[0]]  # noqa: UP045 - built at run time
        case "union":
            # "float | Tensor" is a number in YAML: a type that YAML cannot write leaves the union.
            members = [member for member in members if member is not Any]
            return Union[tuple(members)] if members else Any  # noqa: UP007 - built at run time
        case "literal":
            values = [default_of(each) for each in inner]
            return Any if UNKNOWN in values else Literal[tuple(values)]
        case "list" | "sequence" | "iterable":
            return types.GenericAlias(list, (members[0],))
        case "tuple":
            from pydantic import Strict  # here, for the optimizers are usable without pydantic

            items = [... if ast.unparse(each) == "..." else type_of(each, module) for each in inner]
            # YAML has lists only; the items inside stay strict.
            return Annotated[types.GenericAlias(tuple, tuple(items)), Strict(False)]
    return Any


def _behind_alias(node: ast.expr, module: Module, depth: int) -> Any:
    """Return the type that ``Betas = tuple[float, float]`` gives a name to, in this package."""
    root = node
    while isinstance(root, ast.Attribute):
        root = root.value
    bound = module.names.get(root.id, ())[:1] if isinstance(root, ast.Name) and depth else ()
    if any(isinstance(each, Imported) and module.is_foreign(each) for each in bound):
        return Any
    for each in evaluate(module, node) if bound else ():
        if isinstance(each, Definition) and isinstance(each.node, ast.expr):
            return type_of(each.node, each.module, depth - 1)
    return Any
