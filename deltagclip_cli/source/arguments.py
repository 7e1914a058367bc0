"""Arguments of classes and functions, with their defaults, and their types for pydantic.

Those are included to which their ``**kwargs`` go.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, Literal, Optional, Union, get_args, get_origin

from deltagclip_cli.source.definitions import Definition, Family, bound_in, evaluate, members
from deltagclip_cli.source.keywords import Function, keyword_uses
from deltagclip_cli.source.modules import Imported, Module

REQUIRED = object()
UNKNOWN = object()

_PLAIN = {"int": int, "float": float, "bool": bool, "str": str, "None": None}
_BARE = {"list": list, "tuple": list, "dict": dict}  # without what is in them, in another type
_MOST_ALIASES = 8  # of a type, one behind another


@dataclass(frozen=True)
class Option:
    """One argument: its default, `REQUIRED` or `UNKNOWN`, and its type as it is written."""

    default: Any
    written: ast.expr | None = None
    module: Module | None = None

    @cached_property
    def annotation(self) -> Any:
        """Its type for pydantic; null belongs to it, if that is the default."""
        kind = Any if self.module is None else type_of(self.written, self.module)
        return Optional[kind] if self.default is None and kind is not Any else kind  # noqa: UP045


@dataclass(frozen=True)
class Arguments:
    """All that a call takes.

    Args:
        options: by name; those that go through ``**kwargs`` come last and have no known default.
        open: whether others may be accepted, since keywords go where they cannot be followed.
        positional: the names of those that need not be given by name, in their order.
    """

    options: Mapping[str, Option] = field(default_factory=dict)
    open: bool = False
    positional: Sequence[str] = ()

    def without(self, count: int, names: Sequence[str] = ()) -> Arguments:
        """Return what is left when ``count`` are given by place, and others by name."""
        given = {*self.positional[:count], *names}
        left = {name: option for name, option in self.options.items() if name not in given}
        return replace(self, options=left, positional=self.positional[count:])


_ANY = Arguments(open=True)


def arguments_taken(definition: Definition, seen: frozenset[ast.AST] = frozenset()) -> Arguments:
    """Return what a class or a function takes; anything, where that cannot be read.

    Args:
        seen: the definitions on the way to this one.
    """
    node, module = definition.node, definition.module
    match node:
        case ast.ClassDef():
            return _constructed(Family(definition), seen | {node}) if node not in seen else _NONE
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
            return _Callee(definition).taken(seen)
        case ast.Call() if node not in seen and _is_partial(node):
            made = _first_taken(evaluate(module, node.args[0]), seen | {node})
            fixed = {each.arg: default_of(each.value) for each in node.keywords if each.arg}
            left = made.without(len(node.args) - 1)
            changed = {
                name: replace(option, default=fixed.get(name, option.default))
                for name, option in left.options.items()
            }
            return replace(left, options=changed)
    return _ANY


_NONE = Arguments()


def _first_taken(found: Sequence[Any], seen: frozenset[ast.AST]) -> Arguments:
    definitions = [each for each in found if isinstance(each, Definition)]
    return arguments_taken(definitions[0], seen) if definitions else _ANY


def _is_partial(node: ast.Call) -> bool:
    return bool(node.args) and ast.unparse(node.func).rpartition(".")[2] == "partial"


def _constructed(
    line: Family, seen: frozenset[ast.AST], behind: Definition | None = None
) -> Arguments:
    """Return what the first constructor takes, of classes behind another one."""
    for owner in line.behind(behind):
        inside = members(owner)
        for name in ("__init__", "__new__"):
            for each in inside.get(name, ())[:1]:
                return _Callee(each, line, owner).taken(seen)
        if _makes_fields(owner):
            return _fields(line, owner)
    return Arguments(open=not line.is_whole)


@dataclass(frozen=True)
class _Callee:
    """A function, and if it is a method, for which class it is called and which one has it."""

    definition: Definition
    line: Family | None = None
    owner: Definition | None = None

    @property
    def function(self) -> Function | None:
        node = self.definition.node
        return node if isinstance(node, Function) else None

    @property
    def receiver(self) -> str:
        """The name of the argument that is the object or the class; empty if there is none."""
        node = self.definition.node
        if self.line is None or not isinstance(node, Function):
            return ""
        if "staticmethod" in map(ast.unparse, getattr(node, "decorator_list", ())):
            return ""
        return next((each.arg for each in (*node.args.posonlyargs, *node.args.args)), "")

    def places(self) -> list[ast.arg]:
        """Return the arguments that may be given by place, without the receiver."""
        assert self.function is not None
        places = [*self.function.args.posonlyargs, *self.function.args.args]
        return places[1:] if self.receiver else places

    def taken(self, seen: frozenset[ast.AST]) -> Arguments:
        """Return what it takes."""
        function, module, receiver = self.function, self.definition.module, self.receiver
        if function is None:
            return _ANY
        if function in seen:
            return _NONE
        arguments = function.args
        places = [*arguments.posonlyargs, *arguments.args]
        defaults = [None] * (len(places) - len(arguments.defaults)) + [*arguments.defaults]
        pairs = zip(
            [*places, *arguments.kwonlyargs], [*defaults, *arguments.kw_defaults], strict=True
        )
        options = {
            each.arg: Option(value, each.annotation, module)
            for each, default in pairs
            for value in [default_of(default)]
            if each.arg != receiver
        }
        positional = [each.arg for each in places if each.arg != receiver]
        if arguments.kwarg is None:
            return Arguments(options, False, positional)
        through = self.followed(arguments.kwarg.arg, seen | {function})
        if arguments.vararg is not None and not positional:
            positional = [*through.positional]
        more = {k: option for k, option in through.options.items() if k not in options}
        return Arguments({**options, **more}, through.open, positional)

    def followed(self, keywords: str, seen: frozenset[ast.AST]) -> Arguments:
        """Return what is taken of a dictionary of keywords that has a name in the function."""
        assert self.function is not None
        uses = keyword_uses(self.function, keywords)
        goes_on = bool(uses.lost or uses.unpacked or uses.handed)
        options = {
            # whoever else gets the keywords need not know one that nobody wrote
            name: Option(UNKNOWN if default is None or is_left else default_of(default))
            for name, default in uses.read.items()
            for is_left in [goes_on and name in uses.left]
        }
        is_open = uses.lost
        positional: Sequence[str] = ()
        for call, names in uses.unpacked:
            given, taken = self._unpacked(call, seen)
            left = taken.without(given, names)
            for name, option in left.options.items():
                options.setdefault(name, replace(option, default=UNKNOWN))
            positional = positional or left.positional
            is_open |= left.open
        for call, place in uses.handed:
            handed = self._handed(call, place, seen)
            options = {**handed.options, **options}
            is_open |= handed.open
        return Arguments(options, is_open, positional)

    def _unpacked(self, call: ast.Call, seen: frozenset[ast.AST]) -> tuple[int, Arguments]:
        """Return how many arguments a call gives by place, and what is called takes."""
        function, given = call.func, call.args
        if _is_partial(call):
            function, given = given[0], given[1:]
        count = next((n for n, x in enumerate(given) if isinstance(x, ast.Starred)), len(given))
        match function:
            case ast.Attribute(value=ast.Call(func=ast.Name("super")), attr="__init__"):
                return count, _constructed(self.line, seen, self.owner) if self.line else _ANY
            case ast.Attribute(value=ast.Call(func=ast.Name("super")), attr="__new__"):
                count -= 1
        callee, is_unbound = self._callee(function)
        if callee is not None:
            return max(0, count - is_unbound), callee.taken(seen)
        return count, _first_taken(self._meant(function), seen)

    def _handed(self, call: ast.Call, place: int | str, seen: frozenset[ast.AST]) -> Arguments:
        """Return what is taken of a dictionary by a function that gets it as an argument."""
        callee, is_unbound = self._callee(call.func)
        if callee is None:
            functions = [each for each in self._meant(call.func) if isinstance(each.node, Function)]
            callee = _Callee(functions[0]) if functions else None
        if callee is None or callee.function is None or callee.function in seen:
            return _ANY
        if isinstance(place, int):
            places = callee.places()
            place -= is_unbound
            if not 0 <= place < len(places):
                return _ANY
            place = places[place].arg
        return callee.followed(place, seen | {callee.function})

    def _callee(self, function: ast.expr) -> tuple[_Callee | None, bool]:
        """Return the method that an expression means, and whether it gets its receiver by hand."""
        match function:
            case ast.Attribute(value=ast.Call(func=ast.Name("super")), attr=name) if self.line:
                return self.line_member(self.line, name, self.owner), False
            case ast.Attribute(value=ast.Name(receiver), attr=name) if (
                receiver == self.receiver and self.line
            ):
                return self.line_member(self.line, name), False
            case ast.Attribute(value=value, attr=name):
                for each in self._meant(value):
                    if isinstance(each.node, ast.ClassDef):
                        found = self.line_member(Family(each), name)
                        return found, found is not None and name == "__init__"
        return None, False

    @staticmethod
    def line_member(line: Family, name: str, behind: Definition | None = None) -> _Callee | None:
        """Return a method of one of the classes behind another one."""
        for owner in line.behind(behind):
            for each in members(owner).get(name, ()):
                return _Callee(each, line, owner)
        return None

    def _meant(self, expression: ast.expr) -> list[Definition]:
        assert self.function is not None
        found = evaluate(self.definition.module, expression, local=bound_in(self.function))
        return [each for each in found if isinstance(each, Definition)]


_FIELDS = {
    *("dataclass", "define", "frozen", "attrs", "attr.s", "attrs.define", "attrs.frozen"),
    "strict",  # of huggingface_hub, as configurations of transformers have it
}


def _makes_fields(owner: Definition) -> bool:
    """Return whether the annotations of a class become the arguments of its constructor."""
    assert isinstance(owner.node, ast.ClassDef)
    decorators = {
        ast.unparse(each.func if isinstance(each, ast.Call) else each)
        for each in owner.node.decorator_list
    }
    is_tuple = any(
        ast.unparse(each) in ("NamedTuple", "typing.NamedTuple") for each in owner.node.bases
    )
    return is_tuple or bool(decorators & (_FIELDS | {"dataclasses.dataclass"}))


def _fields(line: Family, owner: Definition) -> Arguments:
    options: dict[str, Option] = {}
    by_name: set[str] = set()
    for each in reversed(line.classes[line.classes.index(owner) :]):
        if not _makes_fields(each):
            continue
        assert isinstance(each.node, ast.ClassDef)
        are_by_name = False
        for statement in each.node.body:
            if not isinstance(statement, ast.AnnAssign):
                continue
            kind = ast.unparse(statement.annotation)
            if kind.endswith("KW_ONLY"):
                are_by_name = True
            elif isinstance(statement.target, ast.Name) and "ClassVar" not in kind:
                name = statement.target.id
                default = _field_default(statement.value)
                if default is _NO_ARGUMENT:
                    options.pop(name, None)
                    continue
                options[name] = Option(default, statement.annotation, each.module)
                by_name |= {name} if are_by_name else set()
    return Arguments(options, not line.is_whole, [name for name in options if name not in by_name])


_NO_ARGUMENT = object()


def _field_default(value: ast.expr | None) -> Any:
    """Return the default of a field: of ``field(default=1)`` too, or of one made by a factory."""
    if not isinstance(value, ast.Call) or not ast.unparse(value.func).endswith("field"):
        return default_of(value)
    given = {each.arg: each.value for each in value.keywords}
    if "init" in given and default_of(given["init"]) is False:
        return _NO_ARGUMENT
    if "default" in given:
        return default_of(given["default"])
    return UNKNOWN if given.keys() & {"default_factory", "factory"} else REQUIRED


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
    inside = [
        _BARE.get(ast.unparse(each)) or type_of(each, module, depth)
        for each in (inner if outer.lower() != "literal" else ())
    ]
    match outer.lower():
        case "annotated" | "final" | "initvar":
            return inside[0]
        case "optional":
            return Optional[inside[0]]  # noqa: UP045 - built at run time
        case "union":
            # "float | Tensor" is a number in YAML: a type that YAML cannot write leaves the union.
            inside = [each for each in inside if each is not Any]
            return Union[tuple(inside)] if inside else Any  # noqa: UP007 - built at run time
        case "literal":
            values = [default_of(each) for each in inner]
            return Any if UNKNOWN in values else Literal[tuple(values)]
        case "list" | "sequence" | "iterable":
            return types.GenericAlias(list, (inside[0],))
        case "dict" | "mapping":
            return types.GenericAlias(dict, tuple(inside))
        case "tuple":
            from pydantic import Strict  # here, for the optimizers are usable without pydantic

            items = [... if ast.unparse(each) == "..." else type_of(each, module) for each in inner]
            # YAML has lists only; the items inside stay strict.
            return Annotated[types.GenericAlias(tuple, tuple(items)), Strict(False)]
    return Any


def type_written(kind: Any) -> str | None:
    """Return what :func:`type_of` reads as a type, whatever module that stands in; None for Any."""
    if kind is Any:
        return None
    if kind is None or kind is ...:
        return "..." if kind is ... else "None"
    if kind is type(None):
        return "Union[None]"
    if isinstance(kind, type) and not get_args(kind):
        return kind.__name__
    inside = get_args(kind)
    if get_origin(kind) is Annotated:  # a tuple
        return type_written(inside[0])
    if get_origin(kind) is Literal:
        return f"Literal[{', '.join(map(repr, inside))}]"
    is_union = get_origin(kind) in (Union, types.UnionType)
    others = [each for each in inside if not is_union or each is not type(None)]
    items = ", ".join(type_written(each) or "Any" for each in others)
    if not is_union:
        return f"{get_origin(kind).__name__}[{items}]"
    union = items if len(others) == 1 else f"Union[{items}]"
    return union if len(others) == len(inside) else f"Optional[{union}]"


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
