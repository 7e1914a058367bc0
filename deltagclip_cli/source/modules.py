"""Source files of modules: found, parsed and their names listed, without importing anything.

What a module binds to a name is known only when it runs: there may be another definition in each
branch of an ``if`` or a ``try``. So a name has candidates, the likeliest first.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path

MOST_FILES = 512  # whose trees are kept


@dataclass(frozen=True)
class Imported:
    """That which an import binds: a name of a module, or the module, if ``name`` is None."""

    module: str
    level: int = 0
    name: str | None = None


Binding = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.expr | Imported
Bindings = Mapping[str, Sequence[Binding]]


@dataclass(frozen=True)
class Module:
    """A source file under the name of its module.

    Args:
        name: dotted, from the top-level package on, or from the folder of a file of one's own.
        file: the file; the folder of a package that has none.
        folders: where what it imports is looked for before what is installed.
    """

    name: str
    file: Path
    folders: tuple[Path, ...] = ()

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree, parsed anew only if the file has changed."""
        if self.file.is_dir():
            return ast.Module([], [])
        status = self.file.stat()
        return _parsed(self.file, status.st_mtime_ns, status.st_size)

    @cached_property
    def names(self) -> Bindings:
        """All that is bound at the top level, by name."""
        return bindings(self.tree.body)

    @cached_property
    def stars(self) -> Sequence[Imported]:
        """The modules of which everything is imported, the last first."""
        imports = [each for each in ast.walk(self.tree) if isinstance(each, ast.ImportFrom)]
        stars = [each for each in imports if each.names[0].name == "*"]
        return [Imported(each.module or "", each.level) for each in reversed(stars)]

    @cached_property
    def exported(self) -> frozenset[str] | None:
        """The names in ``__all__``; None if there is none, or if it is computed."""
        found: set[str] = set()
        for node in self.tree.body:
            match node:
                case ast.Assign(targets=[ast.Name("__all__")], value=value):
                    found = set()
                case ast.AugAssign(target=ast.Name("__all__"), value=value):
                    pass
                case _:
                    continue
            try:
                found |= set(ast.literal_eval(value))
            except ValueError:
                return None
        return frozenset(found) or None

    @property
    def top(self) -> str:
        """The name of the package around it."""
        return self.name.partition(".")[0]

    @property
    def is_package(self) -> bool:
        """True if other modules may be below it."""
        return self.file.name == "__init__.py" or self.file.is_dir()

    def absolute(self, imported: Imported) -> str:
        """Return the whole name of a module that is imported here."""
        if not imported.level:
            return imported.module
        package = self.name.split(".") if self.is_package else self.name.split(".")[:-1]
        kept = package[: len(package) - imported.level + 1]
        return ".".join([*kept, *filter(None, [imported.module])])

    def find(self, name: str) -> Module:
        """Return a module by its whole name, as this one would import it.

        Raises:
            LookupError: there is no such package or file.
        """
        return find_module(name, self.folders)


@lru_cache(MOST_FILES)
def _parsed(file: Path, changed: int, size: int) -> ast.Module:
    return ast.parse(file.read_bytes(), str(file))


def own_module(file: Path, folders: Iterable[Path] = ()) -> Module:
    """Return the module of a file of one's own, which finds others beside it and in ``folders``."""
    return Module(file.stem, file, tuple(dict.fromkeys((file.parent, *folders))))


def find_module(name: str, folders: tuple[Path, ...] = ()) -> Module:
    """Return a module by its whole name.

    A file or a package in one of ``folders`` comes before what is installed, and what is installed
    before a mere folder, as Python has it.

    Raises:
        LookupError: there is no such package or file.
    """
    top, *rest = name.split(".")
    regular = [each for each in folders if _file_of(each / top)]
    for folder in regular:
        return _below(name, folder / top, rest, folders)
    try:
        return _installed(name, tuple(sys.path))
    except LookupError:
        for folder in folders:
            if (folder / top).is_dir():
                return _below(name, folder / top, rest, folders)
        raise


def _below(name: str, base: Path, rest: list[str], folders: tuple[Path, ...] = ()) -> Module:
    file = _place_of(base.joinpath(*rest))
    if file is None:
        raise LookupError(f"there is no source file of {name}")
    return Module(name, file, folders)


def _file_of(base: Path) -> Path | None:
    """Return the file of a package or module, given the path without an ending."""
    files = (base / "__init__.py", base.with_name(f"{base.name}.py"))
    return next((file for file in files if file.is_file()), None)


def _place_of(base: Path) -> Path | None:
    """Return the same, or the folder of a package without a file."""
    return _file_of(base) or (base if base.is_dir() else None)


@cache
def _installed(name: str, path: tuple[str, ...]) -> Module:
    """Return a module that is found on Python's path, which is what ``path`` must be."""
    top, *rest = name.split(".")
    spec = importlib.util.find_spec(top) if top else None
    if spec is None:
        raise LookupError(f"the package {top} is not installed")
    for place in spec.submodule_search_locations or ():
        if _place_of(Path(place).joinpath(*rest)):
            return _below(name, Path(place), rest)
    if spec.origin and spec.origin.endswith(".py") and not rest:
        return Module(name, Path(spec.origin))
    raise LookupError(f"there is no source file of {name}")


def source_path(module: str) -> Path:
    """Return the file of an installed module, found without importing it or what is around it.

    Raises:
        LookupError: there is no such package or file.
    """
    file = find_module(module).file
    if file.is_dir():
        raise LookupError(f"there is no source file of {module}")
    return file


def bindings(body: Iterable[ast.stmt]) -> dict[str, list[Binding]]:
    """Return what statements bind to names, the likeliest first; star imports are left out."""
    found: dict[str, list[Binding]] = {}
    for statement in body:
        branches = list(_branches(statement))
        if not branches:
            for name, binding in _bound(statement):
                found[name] = [binding]
            continue
        inside: dict[str, list[Binding]] = {}
        for branch in branches:
            for name, candidates in bindings(branch).items():
                inside.setdefault(name, []).extend(candidates)
        is_for_types = isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(
            statement.test
        )
        for name, candidates in inside.items():
            before = found.get(name, [])
            found[name] = [*before, *candidates] if is_for_types else [*candidates, *before]
    return found


def _branches(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """Yield the lists of statements of which a compound statement runs some."""
    match statement:
        case ast.If() | ast.For() | ast.While():
            yield statement.body
            yield statement.orelse
        case ast.Try():
            yield statement.body + statement.orelse + statement.finalbody
            for handler in statement.handlers:
                yield handler.body
        case ast.With():
            yield statement.body
        case ast.Match():
            for case in statement.cases:
                yield case.body


def _bound(statement: ast.stmt) -> Iterator[tuple[str, Binding]]:
    """Yield the names that a simple statement binds, and to what."""
    match statement:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            yield statement.name, statement
        case ast.Import():
            for alias in statement.names:
                top = alias.name.partition(".")[0]
                yield alias.asname or top, Imported(alias.name if alias.asname else top)
        case ast.ImportFrom():
            for alias in statement.names:
                if alias.name != "*":
                    imported = Imported(statement.module or "", statement.level, alias.name)
                    yield alias.asname or alias.name, imported
        case ast.Assign():
            for target in statement.targets:
                yield from _assigned(target, statement.value)
        case ast.AnnAssign(value=ast.expr() as value):
            yield from _assigned(statement.target, value)


def _assigned(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, Binding]]:
    match target, value:
        case ast.Name(name), _:
            yield name, value
        case ast.Tuple() | ast.List(), ast.Tuple() | ast.List():
            for one, other in zip(target.elts, value.elts, strict=False):
                yield from _assigned(one, other)
