"""Products of classes and functions: of which classes that is which they are seen to make."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deltagclip_cli.source.definitions import (
    DATASET,
    MODULE,
    OPTIMIZER,
    SCHEDULE,
    Definition,
    Family,
    bound_in,
    evaluate,
)

if TYPE_CHECKING:
    from deltagclip_cli.source.modules import Bindings

__all__ = ["DATASET", "MODULE", "OPTIMIZER", "SCHEDULE", "is_made_by"]

# Functions that are well known, and whose source does not tell.
_WELL_KNOWN = {"timm.models._factory.create_model": MODULE}


def is_made_by(definition: Definition, made: str, seen: frozenset[ast.AST] = frozenset()) -> bool:
    """Return whether a class or a function is seen to make an object of some class.

    A function is, if it is annotated so, or else if every value that it returns is the result of a
    call that is.

    Args:
        made: the whole name of the class.
        seen: the definitions on the way to this one.
    """
    node = definition.node
    if node in seen:
        return False
    seen |= {node}
    match node:
        case ast.ClassDef():
            return any(each.name == made for each in Family(definition).classes)
        case ast.FunctionDef():
            if _WELL_KNOWN.get(definition.name) == made:
                return True
            if node.returns is not None:
                return _is_annotated(definition, node.returns, made)
            return _is_returned(definition, node, made, seen)
        case ast.Call(func=function, args=[inner, *_]) if (
            ast.unparse(function).rpartition(".")[2] == "partial"
        ):
            found = _classes_and_functions(definition, inner)
            return bool(found) and all(is_made_by(each, made, seen) for each in found)
    return False


def _classes_and_functions(
    definition: Definition, expression: ast.expr, local: Bindings | None = None
) -> list[Definition]:
    found = evaluate(definition.module, expression, local=local or {})
    return [each for each in found if isinstance(each, Definition)]


def _is_annotated(definition: Definition, annotation: ast.expr, made: str) -> bool:
    match annotation:
        case ast.Constant(value=str(text)):
            try:
                return _is_annotated(definition, ast.parse(text, mode="eval").body, made)
            except SyntaxError:
                return False
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return all(_is_annotated(definition, each, made) for each in (left, right))
        case ast.Subscript(value=ast.Name("Union"), slice=ast.Tuple(elts=items)):
            return all(_is_annotated(definition, each, made) for each in items)
    found = _classes_and_functions(definition, annotation)
    return bool(found) and all(
        is_made_by(each, made)
        if isinstance(each.node, ast.ClassDef)
        else isinstance(each.node, ast.expr)
        and not isinstance(each.node, ast.Name | ast.Attribute)
        and each.node is not annotation
        and _is_annotated(each, each.node, made)
        for each in found
    )


def _is_returned(
    definition: Definition, function: ast.FunctionDef, made: str, seen: frozenset[ast.AST]
) -> bool:
    local = bound_in(function)
    values = [each.value for each in _inside(function) if isinstance(each, ast.Return)]
    return bool(values) and all(
        value is not None and _is_value(definition, value, local, made, seen) for value in values
    )


def _is_value(
    definition: Definition, value: ast.expr, local: Bindings, made: str, seen: frozenset[ast.AST]
) -> bool:
    match value:
        case ast.Call(func=function):
            called = _classes_and_functions(definition, function, local)
            return bool(called) and all(is_made_by(each, made, seen) for each in called)
        case ast.Name(name):
            calls = local.get(name, ())
            return bool(calls) and all(
                isinstance(each, ast.Call) and _is_value(definition, each, local, made, seen)
                for each in calls
            )
        case ast.IfExp(body=body, orelse=other):
            return all(_is_value(definition, x, local, made, seen) for x in (body, other))
    return False


def _inside(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """Yield the nodes of a function, without those of functions in it."""
    pending: list[ast.AST] = [*function.body]
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            pending.extend(ast.iter_child_nodes(node))
