"""The sense of source files, whatever their layout: the same under Python 3.11 as later ones.

Comments, docstrings, formatting and statements without an effect count for nothing. ``ast.dump``
would not do: later versions of Python give nodes more fields, and cut f-strings differently.
"""

from __future__ import annotations

import ast
import hashlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

_LEFT_OUT = {"ctx"}  # the place of an expression tells it
_BODIES = {"body", "orelse", "finalbody"}
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def parse(content: bytes, name: str = "<unknown>") -> ast.Module:
    """Return the syntax tree of a file, without the warnings that compiling it would give.

    Raises:
        SyntaxError: Python cannot read it, for whatever reason.
    """
    try:
        return _parsed(content)
    except SyntaxError as error:
        error.filename = name
        raise
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte, or too deep
        raise SyntaxError(str(error) or "too deeply nested", (name, None, None, None)) from None


@lru_cache(maxsize=64)  # each trial of a plan names its parts
def _parsed(content: bytes) -> ast.Module:
    with warnings.catch_warnings(action="ignore"):
        return ast.parse(content)


def digest(content: bytes) -> str:
    """Return the SHA-256 of a file's syntax tree; of its bytes if this Python cannot read it."""
    try:
        return _hashed([parse(content)])
    except SyntaxError:
        return hashlib.sha256(content).hexdigest()


def differences(old: bytes, new: bytes) -> list[str]:
    """Return the names of what differs between two versions of a file, as ``Class.method``."""
    try:
        before, after = (dict(_definitions(parse(each).body)) for each in (old, new))
    except SyntaxError:
        return []
    names = dict.fromkeys([*after, *before])
    found = [name for name in names if before.get(name) != after.get(name)]
    return found or ["the order of what it defines"]


def _definitions(body: Iterable[ast.stmt], prefix: str = "") -> dict[str, list[str]]:
    """Return what statements say, by the names that they define."""
    found: dict[str, list[str]] = {}
    for statement in filter(_has_effect, body):
        if isinstance(statement, ast.ClassDef):
            inside = _definitions(statement.body, f"{prefix}{statement.name}.")
            heading = [*statement.decorator_list, *statement.bases, *statement.keywords]
            inside.setdefault(f"{prefix}{statement.name}", []).insert(0, _hashed(heading))
        else:
            name = _name_of(statement)
            label = f"{prefix}{name}" if name else prefix.rstrip(".") or "what it does on import"
            inside = {label: [_hashed([statement])]}
        for name, said in inside.items():
            found.setdefault(name, []).extend(said)
    return found


def _name_of(statement: ast.stmt) -> str | None:
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return name
        case ast.Assign(targets=[ast.Name(name)]) | ast.AnnAssign(target=ast.Name(name)):
            return name
        case ast.Import() | ast.ImportFrom():
            return "its imports"
    return None


def _hashed(nodes: Sequence[ast.AST]) -> str:
    return hashlib.sha256("\n".join(_tokens(nodes)).encode()).hexdigest()


def _tokens(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """Yield a tree word by word; without recursion, for long sums are deep trees."""
    pending: list[ast.AST | str] = [*reversed(nodes)]
    while pending:
        node = pending.pop()
        if isinstance(node, str):
            yield node
        else:
            pending.extend(reversed(_words(node)))


def _words(node: ast.AST) -> list[ast.AST | str]:
    """Return a node as words and the nodes below it."""
    if isinstance(node, ast.Constant):
        return [_constant(node.value)]
    words: list[ast.AST | str] = [f"({type(node).__name__}"]
    for field in sorted({*node._fields} - _LEFT_OUT):
        value = getattr(node, field, None)
        if isinstance(node, ast.JoinedStr):
            value = list(_joined(node.values))
        elif field in _BODIES and isinstance(value, list):
            value = list(filter(_has_effect, value))
        if isinstance(value, list) and value:
            # None is a value of a list: the key of ** in a dictionary, the default of no default
            words += [f"{field}=[", *("-" if each is None else _word(each) for each in value), "]"]
        elif value is not None and value != []:
            words += [f"{field}=", _word(value)]
    return [*words, ")"]


def _word(value: object) -> ast.AST | str:
    return value if isinstance(value, ast.AST) else _constant(value)


def _constant(value: object) -> str:
    """Return a constant with its type; whole numbers in a base in which any may be long."""
    said = hex(value) if isinstance(value, int) else ascii(value)
    return f"{type(value).__name__} {said}"


def _joined(parts: Iterable[ast.expr]) -> Iterator[ast.expr]:
    """Yield the parts of an f-string with the texts between its fields in one piece each."""
    text = ""
    for part in parts:
        if isinstance(part, ast.Constant):
            text += str(part.value)
            continue
        if text:
            yield ast.Constant(text)
        text = ""
        yield part
    if text:
        yield ast.Constant(text)


def _has_effect(statement: ast.stmt) -> bool:
    """Return whether a statement is more than a docstring, another constant or ``pass``."""
    is_constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return not is_constant and not isinstance(statement, ast.Pass)
