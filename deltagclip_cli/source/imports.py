"""The files to which local imports lead, as loading follows them and as their source says.

A file has one name, that of its place below the folder of the spec, however it is imported. An
absolute import looks in the folder of the file and in those above it, up to the folder of the
spec; a folder with an ``__init__.py`` is a package, beside whose modules nothing is looked for
unless it is nowhere else. Names of the standard library always mean the standard library, and a
file that imports its own name means an installed module.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from deltagclip_cli.core import UsageError

_BY_NAME = {"__import__", "import_module", "iter_modules", "walk_packages"}
_Import = ast.Import | ast.ImportFrom


@dataclass(frozen=True)
class LocalImports:
    """The modules that a file itself imports.

    Args:
        files: local files, relative to the folder in which they are looked for.
        others: names of modules that are not local, without Python's own, and names taken out of
            them, which may be modules too.
    """

    files: frozenset[PurePosixPath]
    others: frozenset[str]


def reached(tree: ast.Module, file: PurePosixPath, root: Path) -> LocalImports:
    """Return what a file imports, in its functions as well, but not for type checkers only.

    Args:
        tree: its syntax tree.
        file: its place below ``root``.

    Raises:
        UsageError: a local file has the name of a module of the standard library that is imported.
    """
    files: set[PurePosixPath] = set()
    others: set[str] = set()
    for node in _imports(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            package = _package_above(file, node.level)
            if package is not None:
                files |= _files_of(package / _path(node.module or ""), _names(node), root)
            continue
        for module in _absolute(node):
            top = module.partition(".")[0]
            home = home_of(top, file, root)
            if home is not None:
                files |= _files_of(home / _path(module), _names(node), root)
            elif top not in sys.stdlib_module_names:
                others |= {module, *(f"{module}.{name}" for name in _names(node))}
            elif _regular_home(top, file, root) is not None:
                raise UsageError(
                    f"{root / file}:{node.lineno}: `{ast.unparse(node)}` means Python's own module "
                    f"{top}, though a file here has that name.\n  Rename the file."
                )
    return LocalImports(frozenset(files), frozenset(others))


def reached_by_name(tree: ast.Module, file: PurePosixPath, root: Path) -> list[PurePosixPath]:
    """Return what a file may import by names that it works out: the files beside it.

    Those of the whole package, if it is in one. Nothing, if it imports nothing in such a way.
    """
    words = {getattr(node, "attr", getattr(node, "id", None)) for node in ast.walk(tree)}
    if not words & _BY_NAME:
        return []
    beside = (root / file).parent
    found = beside.rglob("*.py") if _is_package(beside) else beside.glob("*.py")
    return [PurePosixPath(each.relative_to(root).as_posix()) for each in found if each.is_file()]


def home_of(name: str, importer: PurePosixPath, root: Path) -> PurePosixPath | None:
    """Return the folder below ``root`` that holds the module ``name`` for the file ``importer``.

    Args:
        name: the first part of the name of a module that is imported absolutely.
        importer: the file that imports it, relative to ``root``.

    Returns:
        The folder, relative to ``root``, or None if the name is none of a local module.
    """
    if name in sys.stdlib_module_names:
        return None
    regular = _regular_home(name, importer, root)
    if regular is not None:
        return regular
    # A folder alone is a package as well, and one in a package may be meant as a script would mean
    # it, but both come after what is installed.
    for folder in importer.parents:
        if (root / folder / name).is_dir() or _is_another(folder / f"{name}.py", importer, root):
            return None if is_installed(name) else folder
    return None


def modules_at(module: PurePosixPath, root: Path) -> Iterator[PurePosixPath]:
    """Yield the files that importing a module runs: those of its packages, then its own.

    ``module`` is the place of the module below ``root``, without a suffix. A module without a file
    yields none of its own: it is a folder, or a name that the package around it defines.
    """
    for folder in reversed(module.parents):
        if _is_package(root / folder):
            yield folder / "__init__.py"
    if _is_package(root / module):
        yield module / "__init__.py"
    elif (root / f"{module}.py").is_file():
        yield PurePosixPath(f"{module}.py")


def outside_root(file: Path) -> Path:
    """Return the folder from which a file that lies outside that of the spec is imported.

    It is its own, or that around all packages that the file is in.
    """
    return next(folder for folder in file.parents if not _is_package(folder))


def is_installed(name: str) -> bool:
    """Return whether Python finds a top-level module of this name that is more than a folder."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return found is not None and found.loader is not None


def _imports(tree: ast.Module) -> Iterator[_Import]:
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, _Import):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
        elif not isinstance(node, ast.expr):
            pending.extend(ast.iter_child_nodes(node))


def _absolute(node: _Import) -> list[str]:
    return (
        [alias.name for alias in node.names]
        if isinstance(node, ast.Import)
        else [node.module or ""]
    )


def _names(node: _Import) -> list[str]:
    """Return the names that a statement takes out of a module."""
    return [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []


def _path(module: str) -> PurePosixPath:
    return PurePosixPath(*module.split("."))


def _package_above(file: PurePosixPath, level: int) -> PurePosixPath | None:
    """Return the package in which a relative import looks; None if it is above all packages."""
    return file.parents[level - 1] if level <= len(file.parents) else None


def _files_of(module: PurePosixPath, names: list[str], root: Path) -> set[PurePosixPath]:
    """Return the files of a module and of those of the names taken out of it that are modules."""
    if "*" in names and _is_package(root / module):
        names = [*names, *_exported(root / module / "__init__.py")]
    places = [module, *(module / name for name in names if name != "*")]
    return {file for place in places for file in modules_at(place, root)}


def _exported(file: Path) -> Iterator[str]:
    """Yield the texts in the ``__all__`` of a package, of which some may be modules."""
    for node in ast.parse(file.read_bytes()).body:
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(each, ast.Name) and each.id == "__all__" for each in targets):
                constants = [each for each in ast.walk(node) if isinstance(each, ast.Constant)]
                yield from (each.value for each in constants if isinstance(each.value, str))


def _regular_home(name: str, importer: PurePosixPath, root: Path) -> PurePosixPath | None:
    """Return the folder, of those that are no packages themselves, with a module or a package."""
    for folder in importer.parents:
        if folder.name and _is_package(root / folder):
            continue
        if _is_package(root / folder / name) or _is_another(folder / f"{name}.py", importer, root):
            return folder
    return None


def _is_package(folder: Path) -> bool:
    return (folder / "__init__.py").is_file()


def _is_another(file: PurePosixPath, importer: PurePosixPath, root: Path) -> bool:
    return file != importer and (root / file).is_file()
