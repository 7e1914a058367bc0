"""Source files of modules: found, parsed and their names listed, without importing anything.

What a module binds to a name is known only when it runs: there may be another definition in each
branch of an ``if`` or a ``try``. So a name has candidates, the likeliest first.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path, PurePosixPath

from deltagclip_cli.source.imports import home_of, outside_root

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
        name: dotted, from the top-level package on, or from ``root`` on.
        file: the file; the folder of a package that has none.
        root: the folder of the spec, of a file of one's own; None if the module is installed.
    """

    name: str
    file: Path
    root: Path | None = None

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

    def may_bind(self, name: str) -> bool:
        """Return whether a name occurs at all, or may be imported by a star, before parsing."""
        if self.file.is_dir():
            return False
        text = self.file.read_bytes()
        return name.encode() in text or b"import *" in text

    @property
    def top(self) -> str:
        """The name of the package around it."""
        return self.name.partition(".")[0]

    @property
    def is_package(self) -> bool:
        """True if other modules may be below it."""
        return self.file.name == "__init__.py" or self.file.is_dir()

    def whole_name(self, imported: Imported) -> str:
        """Return the dotted name of a module that is imported here."""
        if not imported.level:
            return imported.module
        package = self.name.split(".") if self.is_package else self.name.split(".")[:-1]
        kept = package[: len(package) - imported.level + 1]
        return ".".join([*kept, *filter(None, [imported.module])])

    def origin(self, imported: Imported) -> Module:
        """Return a module that is imported here.

        Raises:
            LookupError: there is no such package or file.
        """
        name = self.whole_name(imported)
        home = self._home(imported)
        if self.root is None or home is None:
            return find_module(name)
        return _own(home.joinpath(*name.split(".")), self.root)

    def is_foreign(self, imported: Imported) -> bool:
        """Return whether what is imported belongs to another package, or is nobody's own."""
        if self.root is None:
            return self.whole_name(imported).partition(".")[0] != self.top
        return self._home(imported) is None

    def _home(self, imported: Imported) -> PurePosixPath | None:
        """Return the folder below ``root`` where a module of one's own is looked for."""
        if self.root is None or imported.level:
            return PurePosixPath()
        top = imported.module.partition(".")[0]
        return home_of(top, PurePosixPath(self.file.relative_to(self.root)), self.root)

    def below(self, name: str) -> Module:
        """Return a module of this package.

        Raises:
            LookupError: there is no such file, or this is no package.
        """
        if not self.is_package:
            raise LookupError(f"{self.name} is no package")
        whole = f"{self.name}.{name}".lstrip(".")
        if self.root is None:
            return find_module(whole)
        return _own(PurePosixPath(*whole.split(".")), self.root)


@lru_cache(MOST_FILES)
def _parsed(file: Path, changed: int, size: int) -> ast.Module:
    try:
        return ast.parse(file.read_bytes(), str(file))
    except SyntaxError as error:
        error.filename = str(file)  # which it leaves out where there are null bytes
        raise


def own_module(file: PurePosixPath, folder: Path) -> Module:
    """Return the module of a file of one's own, below the folder of the spec or outside of it."""
    path = folder / file
    root = folder if path.is_relative_to(folder) and ".." not in file.parts else outside_root(path)
    place = path.relative_to(root).with_suffix("")
    place = place.parent if place.name == "__init__" else place
    return Module(".".join(place.parts), path, root)


def _own(place: PurePosixPath, root: Path) -> Module:
    """Return the module at a place below a folder, without a suffix."""
    file = _place_of(root / place)
    if file is None:
        raise LookupError(f"there is no file of {'.'.join(place.parts)}")
    return Module(".".join(place.parts), file, root)


def find_module(name: str) -> Module:
    """Return an installed module by its dotted name.

    Raises:
        LookupError: there is no such package or file.
    """
    for files in _noting:
        files.setdefault(name, None)
    found = _installed(name, tuple(sys.path))
    for files in _noting:
        files[name] = found.file
    return found


_noting: list[dict[str, Path | None]] = []


@contextmanager
def files_noted() -> Iterator[dict[str, Path | None]]:
    """Note which installed modules are looked for: their files, or None if there is none."""
    files: dict[str, Path | None] = {}
    _noting.append(files)
    try:
        yield files
    finally:
        _noting.pop()


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
    places, single = _top_level(top, path)
    for place in places:
        file = _place_of(place.joinpath(*rest))
        if file:
            return Module(name, file)
    if single is None or rest:
        raise LookupError(f"there is no source file of {name}")
    return Module(name, single)


@cache
def _top_level(top: str, path: tuple[str, ...]) -> tuple[Sequence[Path], Path | None]:
    """Return the folders of a package, or the file of a module that is none."""
    spec = importlib.util.find_spec(top) if top else None
    if spec is None:
        raise LookupError(f"the package {top} is not installed")
    is_source = (spec.origin or "").endswith(".py")
    return [*map(Path, spec.submodule_search_locations or ())], (
        Path(spec.origin) if is_source and spec.origin else None
    )


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
