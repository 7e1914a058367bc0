"""Parts of one's own, imported from their folder under private names, and called.

Local imports of such a file come from its folder, under private names too, so that two folders may
have files of one name, a file called ``torch.py`` breaks nobody else's imports, and the copy of a
file is never mixed up with the file that somebody is editing. All others are ordinary imports.
"""

from __future__ import annotations

import builtins
import functools
import hashlib
import importlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path, PurePosixPath
from types import CodeType, ModuleType
from typing import Any
from urllib.parse import quote, unquote

from deltagclip_cli.core import UsageError, nearest
from deltagclip_cli.source.imports import home_of, outside_root

_PREFIX = "deltagclip_own_"
_MOST_FRAMES = 3  # of a traceback that are shown
_roots: dict[str, Path] = {}  # by the private name that each has


def load_own(root: Path, file: str, attribute: str) -> Any:
    """Import ``file`` below ``root`` under a private name and return one of its attributes.

    A file outside the folder of the spec has a whole path; if ``root`` is a copy, it has one of it
    too, as snapshot.py keeps it. What the import itself raises is passed on as it is, with public
    names in its message.

    Raises:
        UsageError: there is no such file, or it leaves the attribute undefined.
    """
    root = Path(os.path.abspath(root))
    path = root / file
    if path == Path(file):
        copied = root / f"@{file}"
        path = copied if copied.is_file() else path
        root = outside_root(path)
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file.")
    place = PurePosixPath(path.relative_to(root).as_posix()).with_suffix("")
    try:
        name = _private_name(root, place.parent if place.name == "__init__" else place)
        module = importlib.import_module(name)
    except ImportError as error:
        error.msg = re.sub(rf"{_PREFIX}\w+\.", "", str(error.msg))
        raise
    if module.__file__ != str(path):
        raise UsageError(f"{path}: a package of the same name lies beside it; rename one of them.")
    if not hasattr(module, attribute):
        hint = nearest(attribute, [name for name in vars(module) if not name.startswith("_")])
        raise UsageError(f"{path} has no {attribute!r} once it is imported{hint}")
    return getattr(module, attribute)


def call(
    function: Callable[..., Any],
    *positional: Any,
    supplied: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Any:
    """Call a part with its options, and with those of the supplied arguments that it names.

    Args:
        positional: what it gets first, whatever it calls it.
        supplied: arguments that it gets if its signature names them and no option does. Values of
            options that are written ``"$name"`` stand for the supplied argument of that name, at
            any depth; ``"$$"`` at the beginning is one dollar sign.
        options: its options; those below ``extra`` as well, unless it has an argument ``extra``.

    Raises:
        UsageError: an option stands for an argument that is not supplied.
    """
    named = _arguments(function, len(positional))
    options = dict(options)
    if "extra" not in named and isinstance(options.get("extra"), Mapping):
        options = {**options.pop("extra"), **options}
    given = {name: value for name, value in supplied.items() if name in named}
    return function(*positional, **{**given, **_substituted(options, supplied)})


def user_frame(error: BaseException, root: Path) -> str:
    """Return where in the files below ``root`` an error came from, ``net.py:12: in forward: …``.

    It is a line for each of the last frames of the traceback that are in these files, the one that
    failed last; a line of a file that is no Python is shown likewise. Nothing, if there is none.
    """
    folder = os.path.join(os.path.abspath(root), "")
    lines = [
        f"{frame.filename.removeprefix(folder)}:{frame.lineno}: in {frame.name}: {frame.line}"
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(folder)
    ]
    if isinstance(error, SyntaxError) and (error.filename or "").startswith(folder):
        place = f"{str(error.filename).removeprefix(folder)}:{error.lineno}"
        lines.append(f"{place}: {(error.text or '').strip()}")
    earlier = error.__cause__ or error.__context__
    if not lines and earlier is not None:
        return user_frame(earlier, root)
    return "\n".join(lines[-_MOST_FRAMES:])


def _arguments(function: Callable[..., Any], positions: int) -> set[str]:
    """Return the names that a part gives its arguments, without its first ones."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # it is written in C
        return set()
    by_position = [each for each in parameters if each.kind <= each.POSITIONAL_OR_KEYWORD]
    bound = function.keywords if isinstance(function, functools.partial) else {}
    return {
        each.name
        for each in parameters
        if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
        and each not in by_position[:positions]
        and each.name not in bound
    }


def _substituted(value: Any, supplied: Mapping[str, Any]) -> Any:
    if isinstance(value, str) and value.startswith("$"):
        if value.startswith("$$"):
            return value[1:]
        if value[1:] not in supplied:
            names = ", ".join(f"${name}" for name in supplied) or "none"
            raise UsageError(
                f"{value} stands for nothing that is supplied here. There is: {names}.\n"
                f"  To write the text itself, double its dollar sign: ${value}"
            )
        return supplied[value[1:]]
    if isinstance(value, Mapping):
        return {key: _substituted(each, supplied) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_substituted(each, supplied) for each in value)
    return value


def _private_name(root: Path, module: PurePosixPath) -> str:
    """Return the private name of a module, and make it one that Python can import."""
    own = f"{_PREFIX}{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}"
    if own not in _roots:
        if not any(isinstance(finder, _OwnFinder) for finder in sys.meta_path):
            sys.meta_path.insert(0, _OwnFinder())
        _roots[own] = root
    parts = (quote(part, safe="", errors="surrogateescape") for part in module.parts)
    return ".".join([own, *(part.replace(".", "%2E") for part in parts)])


class _OwnFinder:
    """Finds modules by their private names."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        own, *parts = name.split(".")
        if own not in _roots:
            return None
        base = _roots[own].joinpath(*(unquote(part, errors="surrogateescape") for part in parts))
        files = [base / "__init__.py", base.with_name(f"{base.name}.py")]
        for file in files if parts else files[:1]:
            if file.is_file():
                return spec_from_file_location(name, file, loader=_OwnLoader(name, str(file)))
        if not base.is_dir():
            return None
        folder = ModuleSpec(name, None, is_package=True)
        folder.submodule_search_locations = [str(base)]
        return folder


class _OwnLoader(SourceFileLoader):
    """Runs a module as it is now, without a cache, in which ``import`` looks in its folder."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = _BUILTINS
        super().exec_module(module)


def _import(
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """Import as ``__import__`` does, local modules first, for a module that has a private name."""
    loader = getattr((globals or {}).get("__spec__"), "loader", None)
    if level == 0 and isinstance(loader, _OwnLoader):
        root = _roots[loader.name.partition(".")[0]]
        top = name.partition(".")[0]
        home = home_of(top, PurePosixPath(os.path.relpath(loader.path, root)), root)
        if home is not None:
            beside = _private_name(root, home)
            module = builtins.__import__(f"{beside}.{name}", globals, locals, fromlist or (), 0)
            return module if fromlist else sys.modules[f"{beside}.{top}"]
    return builtins.__import__(name, globals, locals, fromlist or (), level)


_BUILTINS = {**vars(builtins), "__import__": _import}
