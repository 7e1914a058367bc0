"""Where the local imports of a file lead, as loading follows them and as its source says.

A file has one name, that of its place below the folder of the spec, however it is imported. An
absolute import looks in the folder of the file and in those above it, up to the folder of the
spec; a folder with an ``__init__.py`` is a package, beside whose modules nothing is looked for
unless it is nowhere else. Names of the standard library always mean the standard library, and a
file that imports its own name means an installed module.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


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
    folders = list(importer.parents)
    outside_packages = [each for each in folders if not each.name or not _is_package(root / each)]
    for folder in outside_packages:
        if _is_package(root / folder / name) or _is_another(folder / f"{name}.py", importer, root):
            return folder
    # A folder alone is a package as well, and one in a package may be meant as a script would mean
    # it, but both come after what is installed.
    if any(_holds(folder, name, importer, root) for folder in folders) and not is_installed(name):
        return next(each for each in folders if _holds(each, name, importer, root))
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


def is_installed(name: str) -> bool:
    """Return whether Python finds a top-level module of this name that is more than a folder."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return found is not None and found.loader is not None


def _is_package(folder: Path) -> bool:
    return (folder / "__init__.py").is_file()


def _is_another(file: PurePosixPath, importer: PurePosixPath, root: Path) -> bool:
    return file != importer and (root / file).is_file()


def _holds(folder: PurePosixPath, name: str, importer: PurePosixPath, root: Path) -> bool:
    return (root / folder / name).is_dir() or _is_another(folder / f"{name}.py", importer, root)
