"""Uses of ``**kwargs`` in a function: which names are looked for in them, and who gets them.

This is read from the syntax tree of the function alone; nothing is looked up outside of it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

# Functions that only look at the names of the keywords, or tell whether there are any.
_LOOKING = {"bool", "len", "isinstance", "set", "sorted", "list", "tuple", "any", "all", "repr"}
_READING = {"pop", "get", "setdefault"}


@dataclass
class KeywordUses:
    """Ways of the keywords of a function.

    Args:
        read: the names that are looked for in them, with their defaults.
        left: those of them that stay in them, with no default put there.
        unpacked: calls that get them as keywords, with the names that they are given besides.
        handed: calls that get the dictionary, with its place among the arguments, or its name.
        lost: whether they go where they cannot be followed.
    """

    read: dict[str, ast.expr | None] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    unpacked: list[tuple[ast.Call, Sequence[str]]] = field(default_factory=list)
    handed: list[tuple[ast.Call, int | str]] = field(default_factory=list)
    lost: bool = False


def keyword_uses(function: Function, keywords: str) -> KeywordUses:
    """Return where a dictionary of keywords goes that has a name in a function."""
    return _Scan(function, keywords).uses


def arguments_of(function: Function) -> Iterator[ast.arg]:
    """Yield all arguments of a function, those without a place of their own last."""
    arguments = function.args
    yield from (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    yield from (each for each in (arguments.vararg, arguments.kwarg) if each)


def statements_of(function: Function) -> list[ast.stmt]:
    """Return the body of a function, that of a lambda as a statement."""
    return [ast.Expr(function.body)] if isinstance(function, ast.Lambda) else function.body


class _Scan:
    def __init__(self, function: Function, keywords: str) -> None:
        self.uses = KeywordUses()
        self._names = {keywords}  # of dictionaries that have the keywords in them
        statements = statements_of(function)
        known = 0
        while known < len(self._names):
            known = len(self._names)
            for statement in statements:
                for node in ast.walk(statement):
                    self._names |= self._copies(node)
        for statement in statements:
            self._scan(statement)

    def _copies(self, node: ast.AST) -> set[str]:
        """Return the names that get the keywords, or to whose values they are added."""
        match node:
            case ast.Assign(targets=targets, value=value) if self._holds(value):
                names = [each.id for each in targets if isinstance(each, ast.Name)]
                return set(names) if len(names) == len(targets) else set()
            case (
                ast.AnnAssign(target=ast.Name(name), value=ast.expr() as value)
                | ast.AugAssign(target=ast.Name(name), op=ast.BitOr(), value=value)
                | ast.Call(func=ast.Attribute(value=ast.Name(name), attr="update"), args=[value])
            ):
                return {name} if self._holds(value) else set()
        return set()

    def _holds(self, node: ast.AST) -> bool:
        """Return whether an expression is a dictionary that has the keywords in it."""
        match node:
            case ast.Name(name):
                return name in self._names
            case ast.Dict(keys=keys, values=values):
                pairs = zip(keys, values, strict=True)
                return any(key is None and self._holds(value) for key, value in pairs)
            case ast.Call(func=ast.Name("dict"), args=args, keywords=keywords):
                unpacked = (each.value for each in keywords if each.arg is None)
                return any(map(self._holds, (*args, *unpacked)))
            case ast.Call(func=ast.Attribute(value=value, attr="copy"), args=[]):
                return self._holds(value)
            case ast.Call(func=ast.Name("copy" | "deepcopy"), args=[value]):
                return self._holds(value)
            case ast.Call(func=ast.Attribute(attr="copy" | "deepcopy"), args=[value]):
                return self._holds(value)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return self._holds(left) or self._holds(right)
            case ast.IfExp(body=body, orelse=other):
                return self._holds(body) or self._holds(other)
            case ast.BoolOp(values=values):
                return any(map(self._holds, values))
        return False

    def _scan(self, node: ast.AST) -> None:
        """Take note of all uses in a statement or an expression."""
        match node:
            case ast.Raise() | ast.Assert() | ast.JoinedStr() | ast.Delete():
                return
            case ast.Name(ctx=ast.Store()):
                return
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                hidden = self._names & {each.arg for each in arguments_of(node)}
                self._names -= hidden
                self._scan_inside(node)
                self._names |= hidden
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign() if self._copies(node):
                self._scan_value(node.value)
            case ast.Compare(left=left, ops=[ast.In() | ast.NotIn()], comparators=[right]) if (
                self._holds(right)
            ):
                self._note(left)
            case ast.UnaryOp(op=ast.Not(), operand=operand) if self._holds(operand):
                return
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test) if self._holds(
                test
            ):
                self._scan_inside(node, but=test)
            case ast.Subscript(value=value, slice=index, ctx=context) if self._holds(value):
                if isinstance(context, ast.Load):
                    self._note(index)
            case ast.Call():
                self._scan_call(node)
            case _ if self._holds(node):
                self.uses.lost = True
            case _:
                self._scan_inside(node)

    def _scan_inside(self, node: ast.AST, but: ast.AST | None = None) -> None:
        for child in ast.iter_child_nodes(node):
            if child is not but:
                self._scan(child)

    def _scan_value(self, value: ast.AST | None) -> None:
        """Take note of uses in what stands beside the keywords in a dictionary."""
        for child in ast.iter_child_nodes(value) if value else ():
            if self._holds(child):
                self._scan_value(child)
            else:
                self._scan(child)

    def _scan_call(self, call: ast.Call) -> None:
        match call.func:
            case ast.Attribute(value=value, attr=method) if self._holds(value):
                if method in _READING and call.args:
                    self._note(call.args[0], *call.args[1:2], is_left=method == "get")
                elif method not in ("keys", "update", "copy"):
                    self.uses.lost = True
                for each in (*call.args[1:], *call.keywords):
                    self._scan(each)
            case ast.Name("locals" | "vars") if not call.args:
                self.uses.lost = True
            case _ if self._holds(call):
                self.uses.lost = True
            case _ if self._copies(call):
                self._scan_value(call)
            case function:
                is_looking = isinstance(function, ast.Name) and function.id in _LOOKING
                self._scan(function)
                for place, argument in enumerate(call.args):
                    self._scan_argument(call, argument, None if is_looking else place)
                for keyword in call.keywords:
                    self._scan_argument(call, keyword.value, keyword.arg or "**")

    def _scan_argument(self, call: ast.Call, value: ast.expr, place: int | str | None) -> None:
        if not self._holds(value):
            self._scan(value)
            return
        self._scan_value(value)
        if place == "**":
            names = [each.arg for each in call.keywords if each.arg]
            if isinstance(value, ast.Dict):
                names += [ast.literal_eval(k) for k in value.keys if isinstance(k, ast.Constant)]
            self.uses.unpacked.append((call, names))
        elif place is not None:
            self.uses.handed.append((call, place))

    def _note(
        self, key: ast.expr, default: ast.expr | None = None, *, is_left: bool = False
    ) -> None:
        """Take note of a name that is looked for."""
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            if is_left and key.value not in self.uses.read:
                self.uses.left.add(key.value)
            self.uses.read.setdefault(key.value, default)
