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
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path, PurePosixPath
from types import CodeType, ModuleType
from typing import Any
from urllib.parse import quote, unquote

from deltagclip_cli.core import UsageError, nearest
from deltagclip_cli.source.imports import home_of, outside_root
from deltagclip_cli.source.snapshot import original_folder

_PREFIX = "deltagclip_own_"
_MOST_FRAMES = 3  # of a traceback that are shown


def load_own(root: Path, file: str, attribute: str) -> Any:
    """Import ``file`` below ``root`` under a private name and return one of its attributes.

    A file outside the folder of the spec has a whole path; if ``root`` is a copy, it has one of it
    too, as snapshot.py keeps it. What the import itself raises is passed on as it is, with public
    names in its message.

    Raises:
        UsageError: there is no such file, or it leaves the attribute undefined, or exits.
    """
    folder, path = _located(Path(os.path.abspath(root)), file)
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file.")
    place = PurePosixPath(path.relative_to(folder.root).as_posix()).with_suffix("")
    try:
        name = folder.private_name(place.parent if place.name == "__init__" else place)
        module = importlib.import_module(name)
    except ImportError as error:
        error.msg = re.sub(rf"{_PREFIX}\w+\.", "", str(error.msg))
        raise
    except SystemExit as error:
        raise UsageError(
            f"{shown_file(path, root)} ends the process when it is imported: SystemExit: {error}.\n"
            '  Write what only a script should do below: if __name__ == "__main__":'
        ) from error
    if module.__spec__ is None or module.__spec__.origin != str(path):
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
    """Return where in one's own files an error came from, as ``net.py:12: in forward: x = …``.

    It is a line for each of the last frames of the traceback that are in files which were imported
    by :func:`load_own`, the one that failed last; a line that is no Python is shown likewise.
    Nothing, if there is none.

    Args:
        root: files of this folder are shown by their places in it, others by whole paths.
    """
    root = Path(os.path.abspath(root))
    own = [
        (frame, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if _loader(frame.f_globals) is not None
    ]
    shown = [
        f"{shown_file(Path(each.filename), root)}:{each.lineno}: in {each.name}: {each.line}"
        for each in traceback.StackSummary.extract(iter(own))
    ]
    if isinstance(error, SyntaxError) and _folder_of(Path(error.filename or "")) is not None:
        place = f"{shown_file(Path(str(error.filename)), root)}:{error.lineno}"
        shown.append(f"{place}: {(error.text or '').strip()}")
    earlier = error.__cause__ or error.__context__
    if not shown and earlier is not None:
        return user_frame(earlier, root)
    return "\n".join(shown[-_MOST_FRAMES:])


def _loader(names: Mapping[str, object]) -> _OwnLoader | None:
    """Return what has imported the module with these global names, if it has a private name."""
    loader = getattr(names.get("__spec__"), "loader", None)
    return loader if isinstance(loader, _OwnLoader) else None


def _folder_of(file: Path) -> _Folder | None:
    return next((each for each in _folders.values() if file.is_relative_to(each.root)), None)


def shown_file(file: Path, root: Path) -> Path:
    """Return where a file is, of which a trial may run a copy: from ``root`` on, if it is there."""
    folder = _folder_of(file)
    if folder is None:
        return file
    place = file.relative_to(folder.root)
    return place if root in (folder.root, folder.original) else folder.original / place


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


@dataclass(frozen=True)
class _Folder:
    """A folder whose files have private names: where they are imported from, and kept from."""

    root: Path
    original: Path

    def private_name(self, module: PurePosixPath) -> str:
        """Return the private name of a module, and make it one that Python can import."""
        name = f"{_PREFIX}{hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]}"
        if not _folders:
            sys.meta_path.insert(0, _OwnFinder())
        _folders.setdefault(name, self)
        parts = (quote(part, safe="", errors="surrogateescape") for part in module.parts)
        return ".".join([name, *(part.replace(".", "%2E") for part in parts)])


_folders: dict[str, _Folder] = {}  # by the first part of the names


def _located(root: Path, file: str) -> tuple[_Folder, Path]:
    """Return the folder that a file is imported from, and its whole path."""
    path, copied = root / file, root / f"@{file}"
    if path != Path(file):
        return _Folder(root, original_folder(root)), path
    if copied.is_file():
        outside = outside_root(copied)
        return _Folder(outside, "/" / outside.relative_to(root / "@")), copied
    outside = outside_root(path)
    return _Folder(outside, outside), path


class _OwnFinder:
    """Finds modules by their private names."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        own, *parts = name.split(".")
        folder = _folders.get(own)
        if folder is None:
            return None
        base = folder.root.joinpath(*(unquote(part, errors="surrogateescape") for part in parts))
        files = [base / "__init__.py", base.with_name(f"{base.name}.py")]
        for file in files if parts else files[:1]:
            if file.is_file():
                return spec_from_file_location(name, file, loader=_OwnLoader(name, file, folder))
        if not base.is_dir():
            return None
        package = ModuleSpec(name, None, is_package=True)
        package.submodule_search_locations = [str(base)]
        return package


class _OwnLoader(SourceFileLoader):
    """Runs a module as it is now, without a cache, in which ``import`` looks in its folder."""

    def __init__(self, name: str, file: Path, folder: _Folder) -> None:
        super().__init__(name, str(file))
        self.folder = folder
        self.file = PurePosixPath(file.relative_to(folder.root).as_posix())

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)

    def exec_module(self, module: ModuleType) -> None:
        # Data that lie beside the file are not copied with it.
        module.__file__ = str(self.folder.original / self.file)
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import}
        super().exec_module(module)


def _import(
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """Import as ``__import__`` does, local modules first, for a module that has a private name."""
    loader = _loader(globals or {})
    if level == 0 and loader is not None:
        top = name.partition(".")[0]
        home = home_of(top, loader.file, loader.folder.root)
        if home is not None:
            beside = loader.folder.private_name(home)
            module = builtins.__import__(f"{beside}.{name}", globals, locals, fromlist or (), 0)
            return module if fromlist else sys.modules[f"{beside}.{top}"]
    return builtins.__import__(name, globals, locals, fromlist or (), level)
