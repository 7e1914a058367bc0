"""Definitions behind names: followed through imports and aliases, and classes through their bases.

Nothing is imported: what is said here is what the source says. Reading ends at a few classes of
torch, whose files are long and of which all is known that matters.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from deltagclip_cli.source.keywords import Function, arguments_of, statements_of
from deltagclip_cli.source.modules import (
    Binding,
    Bindings,
    Imported,
    Module,
    bindings,
    find_module,
)

MODULE = "torch.nn.modules.module.Module"
OPTIMIZER = "torch.optim.optimizer.Optimizer"
SCHEDULE = "torch.optim.lr_scheduler.LRScheduler"
DATASET = "torch.utils.data.dataset.Dataset"

# What is assigned to self may be given any keyword.
_CONSTRUCTORS = {
    MODULE: "def __init__(self): ...",
    OPTIMIZER: "def __init__(self, params, defaults): self.defaults = defaults",
    SCHEDULE: "def __init__(self, optimizer, last_epoch: int = -1): ...",
    DATASET: "def __init__(self): ...",
}
_ELSEWHERE = {
    "torch.nn.Module": MODULE,
    "torch.nn.modules.Module": MODULE,
    "torch.optim.Optimizer": OPTIMIZER,
    "torch.utils.data.Dataset": DATASET,
    **{name: name for name in _CONSTRUCTORS},
}
_WITHOUT_ARGUMENTS = frozenset({"object", "Generic", "Protocol", "ABC", "NamedTuple"})
NOTHING_LOCAL: Bindings = {}


@dataclass(frozen=True)
class Definition:
    """A class, a function, or another value, by the node that makes it."""

    module: Module
    node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.expr

    @property
    def name(self) -> str:
        """The whole name: of the module, and in it."""
        return f"{self.module.name}.{getattr(self.node, 'name', '')}"


Found = Definition | Module


@cache
def _known(name: str) -> Definition:
    module, _, name_there = name.rpartition(".")
    (node,) = ast.parse(f"class {name_there}:\n    {_CONSTRUCTORS[name]}").body
    assert isinstance(node, ast.ClassDef)
    return Definition(find_module(module), node)


def look_up(module: Module, name: str, seen: frozenset[Any] = frozenset()) -> list[Found]:
    """Return what a name of a module may mean, the likeliest first."""
    known = _ELSEWHERE.get(f"{module.name}.{name}")
    if known:
        return [_known(known)]
    if module.name == "torch":  # its own file is long, and all that matters is in its packages
        return _below(module, name)
    return _bound(module, name, seen) or _below(module, name)


def _below(module: Module, name: str) -> list[Found]:
    try:
        return [module.below(name)]
    except LookupError:
        return []


def _bound(module: Module, name: str, seen: frozenset[Any]) -> list[Found]:
    step = (module.file, name)
    if step in seen:
        return []
    seen |= {step}
    found = [
        each for binding in module.names.get(name, ()) for each in _meant(module, binding, seen)
    ]
    if found or name.startswith("_"):
        return found
    for star in module.stars:
        try:
            origin = module.origin(star)
        except LookupError:
            continue
        if origin.may_bind(name) and (origin.exported is None or name in origin.exported):
            found += look_up(origin, name, seen)
        if found:
            break
    return found


def _meant(
    module: Module, binding: Binding, seen: frozenset[Any], local: Bindings = NOTHING_LOCAL
) -> list[Found]:
    if isinstance(binding, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [Definition(module, binding)]
    if isinstance(binding, ast.expr):
        return evaluate(module, binding, seen, local)
    known = _ELSEWHERE.get(f"{module.whole_name(binding)}.{binding.name}")
    if known:
        return [_known(known)]
    try:
        origin = module.origin(binding)
    except LookupError:
        return []
    return [origin] if binding.name is None else look_up(origin, binding.name, seen)


def evaluate(
    module: Module,
    expression: ast.expr,
    seen: frozenset[Any] = frozenset(),
    local: Bindings = NOTHING_LOCAL,
) -> list[Found]:
    """Return what an expression of a module may mean, the likeliest first.

    What is no name, such as a call, means itself.

    Args:
        local: what is bound in the function where it stands.
    """
    match expression:
        case ast.Name(name) if name in local:
            step = (module.file, id(local), name)
            around = [] if step in seen else local[name]
            return [
                each for binding in around for each in _meant(module, binding, seen | {step}, local)
            ]
        case ast.Name(name):
            return look_up(module, name, seen)
        case ast.Attribute(value=value, attr=attribute):
            found: list[Found] = []
            for each in evaluate(module, value, seen, local):
                if isinstance(each, Module):
                    found += look_up(each, attribute, seen)
                elif isinstance(each.node, ast.ClassDef):
                    found += members(each).get(attribute, [])[:1]
            return found
        case ast.IfExp(body=one, orelse=other):
            return evaluate(module, one, seen, local) + evaluate(module, other, seen, local)
        case ast.BoolOp(values=values):
            return [each for value in values for each in evaluate(module, value, seen, local)]
    return [Definition(module, expression)]


def bound_in(function: Function) -> Bindings:
    """Return what a function binds to names: to those of its arguments, nothing that is known."""
    arguments: dict[str, list[Binding]] = {each.arg: [] for each in arguments_of(function)}
    return {**arguments, **bindings(statements_of(function))}


def members(owner: Definition) -> Mapping[str, list[Definition]]:
    """Return the definitions in the body of a class, by name."""
    assert isinstance(owner.node, ast.ClassDef)
    return {
        name: [Definition(owner.module, each) for each in found if not isinstance(each, Imported)]
        for name, found in bindings(owner.node.body).items()
    }


@dataclass(frozen=True)
class Family:
    """A class and all that it is derived from, which is looked up when it is asked for."""

    definition: Definition

    @property
    def classes(self) -> Sequence[Definition]:
        """The class itself and its bases, in the order in which Python looks in them."""
        return self._found[0]

    @property
    def is_whole(self) -> bool:
        """True if all bases were found."""
        return self._found[1]

    def behind(self, other: Definition | None) -> Iterator[Definition]:
        """Yield the classes behind one of them; all of them for None."""
        if other is None:
            yield self.definition
        yield from self.classes[1 if other is None else self.classes.index(other) + 1 :]

    @cached_property
    def _found(self) -> tuple[Sequence[Definition], bool]:
        return _lines(self.definition, frozenset())


def _lines(definition: Definition, seen: frozenset[Any]) -> tuple[list[Definition], bool]:
    assert isinstance(definition.node, ast.ClassDef)
    step = (definition.module.file, definition.node.lineno, definition.node.name)
    if step in seen:
        return [definition], False
    is_whole = True
    above: list[list[Definition]] = []
    direct: list[Definition] = []
    for base in definition.node.bases:
        base = base.value if isinstance(base, ast.Subscript) else base
        name = ast.unparse(base)
        if name.rpartition(".")[2] in _WITHOUT_ARGUMENTS:
            continue
        classes = [
            each
            for each in evaluate(definition.module, base)
            if isinstance(each, Definition) and isinstance(each.node, ast.ClassDef)
        ]
        if not classes:
            is_whole = False
            continue
        line, is_line_whole = _lines(classes[0], seen | {step})
        is_whole = is_whole and is_line_whole
        above.append(line)
        direct.append(classes[0])
    return [definition, *_merged([*above, direct])], is_whole


def _merged(lines: list[list[Definition]]) -> list[Definition]:
    """Merge lines of classes so that each keeps its order (the C3 order of Python)."""
    merged: list[Definition] = []
    while any(lines):
        lines = [line for line in lines if line]
        heads = [line[0] for line in lines]
        free = [head for head in heads if not any(head in line[1:] for line in lines)]
        first = (free or heads)[0]
        merged.append(first)
        lines = [[each for each in line if each != first] for line in lines]
    return merged
