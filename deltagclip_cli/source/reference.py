"""References to parts by their name: what may be named, found out without importing anything.

A spec alone must never run anything but parts. A file beside the spec is its user's own, and all
that it defines may be named. Of what is installed only parts may: a class of the kind that is asked
for, or a function that is seen to make one. All else is refused, with what to do instead.
"""

from __future__ import annotations

import ast
import os
import posixpath
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path, PurePath, PurePosixPath

from deltagclip_cli.core import UsageError, listed, nearest, shortened
from deltagclip_cli.source.definitions import Definition, Family, Found, look_up, members
from deltagclip_cli.source.kept import kept
from deltagclip_cli.source.modules import Module, find_module, own_module
from deltagclip_cli.source.packages import how_to_install
from deltagclip_cli.source.products import DATASET, MODULE, OPTIMIZER, SCHEDULE, is_made_by
from deltagclip_cli.source.signatures import Signature, signature_of

_MOST_FILES = 200  # that are named, of a folder

# The classes of which a part of some kind must be, and what else a function may be called with.
_KINDS = {"model": MODULE, "optimizer": OPTIMIZER, "schedule": SCHEDULE, "data set": DATASET}
_CALLED_WITH = {"data set": {"folder", "download"}, "task": {"model", "inputs", "targets"}}
_MEASURES = ("loss", "metric")  # a class makes one, and a function is one
_SECOND = {"target", "targets", "label", "labels", "y", "y_true"}
_STEPS = {"step", "zero_grad", "state_dict", "load_state_dict"}
_PLAIN = ast.Constant | ast.JoinedStr | ast.List | ast.Dict | ast.Tuple | ast.Set
_IN_USE = {"torch", "torchvision", "numpy", "deltagclip_cli"}  # names that no file may take
_TORCH = re.compile(r"torch\b(?![-_.])(?!.*\bextra\b)")
_PLACES = re.compile(r"(site|dist)-packages|python\d(\.\d+)?|node_modules")
_SYSTEM = (
    *(f"/{each}/" for each in ["bin", "etc", "lib", "lib64", "sbin", "snap", "usr"]),
    f"{sys.base_prefix}{os.sep}",
)
_WRAP = "write a function in a file beside the spec that calls it, and name that: FILE.py:NAME"


class ReferenceRefusedError(UsageError):
    """A name that stands for no part, or for something that a spec must not run.

    Args:
        message: what is wrong, as a sentence.
        hint: what to do, without a full stop; it may have several lines.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}\n  {hint}")
        self.message, self.hint = message, hint


@dataclass(frozen=True)
class FileReference:
    """``FILE.py:NAME``, relative to the folder of the spec."""

    file: str
    attribute: str

    def __str__(self) -> str:
        return f"{self.file}:{self.attribute}"


@dataclass(frozen=True)
class PackageReference:
    """``package.module:NAME``, of something that is installed."""

    module: str
    attribute: str

    def __str__(self) -> str:
        return f"{self.module}:{self.attribute}"


Reference = FileReference | PackageReference


def parse_reference(name: str) -> Reference | None:
    """Return what ``FILE.py:NAME`` or ``package.module:NAME`` refer to; None for a short name.

    Nothing is looked up. A file without a name is one whose name is empty.
    """
    home, colon, attribute = name.rpartition(":")
    if not colon:
        home, attribute = name, ""
    if home.endswith(".py"):
        return FileReference(posixpath.normpath(home), attribute)
    return PackageReference(home, attribute) if colon else None


def check_reference(reference: Reference, folder: Path, kind: str) -> Signature:
    """Return the signature of what a reference means, if a part of a kind may be it.

    Args:
        folder: that of the spec, or a copy of its code.
        kind: what is asked for: ``"model"``, ``"data set"``, ``"task"``, ``"loss"``, ``"metric"``,
            ``"optimizer"`` or ``"schedule"``.

    Raises:
        ReferenceRefusedError: it means nothing, or something that is no part.
    """
    name = reference.attribute
    if not name.isidentifier() and (name or isinstance(reference, PackageReference)):
        raise ReferenceRefusedError(
            f"'{shortened(name)}' is not the name of a class or a function.",
            "behind the colon stands one name that the file or the module defines, without dots",
        )
    if isinstance(reference, FileReference):
        return _check_file(reference, folder, kind)
    return _check_package(reference, folder, kind, tuple(sys.path))


def _check_file(reference: FileReference, folder: Path, kind: str) -> Signature:
    file, name = reference.file, reference.attribute
    with _parsing(folder):
        place = _place(file, folder)
    stem = PurePosixPath(file).stem
    if stem in sys.stdlib_module_names or stem in _IN_USE:
        raise ReferenceRefusedError(
            f"{file} has the name of the module {stem} of "
            f"{'Python' if stem in sys.stdlib_module_names else 'a package in use'}, "
            f"which other files get by 'import {stem}'.",
            f"rename the file, such as to my_{stem}.py",
        )
    with _parsing(folder):
        module = own_module(place, folder)
        if not name:
            raise ReferenceRefusedError(f"'{file}' names a file alone.", _defined_in(module, file))
        for definition in _found(module, name):
            if isinstance(definition, Module):
                raise ReferenceRefusedError(
                    f"'{name}' in {file} is a module.", _defined_in(module, file)
                )
            if definition.module.root is None:
                raise ReferenceRefusedError(
                    f"'{name}' is not defined in {file}, but in {definition.module.name}.",
                    f"name it as {definition.module.name}:{name} if that is a part, or "
                    f"define a class or a function in {file} that makes use of it, and name that",
                )
            if isinstance(definition.node, _PLAIN):
                raise ReferenceRefusedError(
                    f"'{name}' in {file} is neither a class nor a function.",
                    _defined_in(module, file, name),
                )
            signature = signature_of(definition)
            is_kind = {each: base in signature.bases for each, base in _KINDS.items()}
            others = [each for each, is_one in is_kind.items() if is_one]
            if others and not is_kind.get(kind, True):
                raise ReferenceRefusedError(
                    f"'{name}' in {file} is no {kind}, but a class of the kind {others[0]}.",
                    _defined_in(module, file, name),
                )
            return signature
        if name not in module.names:
            raise ReferenceRefusedError(
                f"there is no '{name}' in {file}.", _defined_in(module, file, name)
            )
        raise ReferenceRefusedError(
            f"'{name}' is not defined in {file}, but imported or made by something else.",
            f"define a class or a function in {file} that makes use of it, and name that",
        )


def _place(file: str, folder: Path) -> PurePosixPath:
    """Return the place of a file below the folder, or its whole path."""
    if (folder / f"@{file}").is_file():  # a copy has files from elsewhere there
        return PurePosixPath(f"@{file}")
    path, real = folder / file, Path(os.path.realpath(folder / file))
    is_outside = not real.is_relative_to(os.path.realpath(folder))
    if not path.is_file():
        names = list(islice(_files_below(folder), _MOST_FILES))
        there = f"files there: {listed(names)}" if names else "there is no file of Python there"
        raise ReferenceRefusedError(
            f"there is no file {shortened(file)} in the folder of the spec, {folder.resolve()}.",
            f"{there}{nearest(file, names)}",
        )
    if is_outside and file != str(real):
        raise ReferenceRefusedError(
            f"{file} lies outside of the folder of the spec.",
            f"move it there, or write its real path: {real}:NAME",
        )
    if not is_outside and os.path.isabs(file):
        inside = real.relative_to(os.path.realpath(folder))
        raise ReferenceRefusedError(
            f"{file} lies in the folder of the spec.",
            f"write {inside.as_posix()}:NAME, which other machines understand too",
        )
    if _belongs_to_python(real if os.path.isabs(file) else PurePosixPath(file)):
        raise ReferenceRefusedError(
            f"{shortened(file)} belongs to Python or to an installed package.",
            "a part of a package is named as package.module:NAME",
        )
    return PurePosixPath(file)


def _belongs_to_python(file: PurePath) -> bool:
    """Return whether a file is in a place where code lies that no user of a spec has written."""
    return any(map(_PLACES.fullmatch, file.parts)) or str(file).startswith(_SYSTEM)


def _files_below(folder: Path) -> Iterator[str]:
    for path in (*sorted(folder.glob("*.py")), *sorted(folder.glob("[!.]*/*.py"))):
        yield path.relative_to(folder).as_posix()


def _defined_in(module: Module, file: str, name: str = "") -> str:
    """Return a hint that names the classes and functions of a file."""
    names = [
        each
        for each, bound in module.names.items()
        if isinstance(bound[0], ast.ClassDef | ast.FunctionDef) and not each.startswith("_")
    ]
    if not names:
        return f"{file} defines no class and no function"
    return f"it defines {listed(names)}{nearest(name, names) if name else f': {file}:{names[0]}'}"


def _found(module: Module, name: str) -> Sequence[Found]:
    found = look_up(module, name)
    # The value of a name may be one of several; what is no class or function counts if alone.
    made = [x for x in found if isinstance(x, Module) or not isinstance(x.node, ast.Constant)]
    return made or found


@contextmanager
def _parsing(folder: Path) -> Iterator[None]:
    """Turn what a file that cannot be read or parsed raises into a refusal with its line."""
    try:
        yield
    except SyntaxError as error:
        lines = traceback.format_exception_only(error)
        shown = "\n  ".join(line.rstrip()[2:] for line in lines[1:-1])
        file = Path(error.filename or "")
        place = file.relative_to(folder) if file.is_relative_to(folder) else file
        line = f", line {error.lineno}" if error.lineno else ""
        raise ReferenceRefusedError(
            f"{place}{line}: {error.msg}.", shown or "correct the file"
        ) from None
    except (OSError, ValueError) as error:
        raise ReferenceRefusedError(f"a file cannot be read: {error}.", "correct it") from None
    except (RecursionError, MemoryError):
        raise ReferenceRefusedError(
            "a file cannot be read, for it is nested too deeply.", "write it in a simpler way"
        ) from None


@cache
def _check_package(
    reference: PackageReference, folder: Path, kind: str, path: tuple[str, ...]
) -> Signature:
    """Check what is found on Python's path, which is what ``path`` must be."""
    home, name = reference.module, reference.attribute
    if not all(part.isidentifier() for part in home.split(".")):
        raise ReferenceRefusedError(
            f"'{shortened(home)}' is neither a file of Python nor the name of a module.",
            "a part of one's own is FILE.py:NAME or package.module:NAME",
        )
    top = home.partition(".")[0]
    if top in sys.stdlib_module_names or top == "__main__":
        raise ReferenceRefusedError(
            f"{top} is a module of Python itself, which holds no parts.",
            "parts come from files beside the spec and from installed packages",
        )
    if home == "torch":
        raise ReferenceRefusedError(f"{home}:{name} is no {kind} of torch.", _WRAP)
    with _parsing(folder):
        return kept(home, name, kind, partial(_read_package, reference, folder, kind))


def _read_package(reference: PackageReference, folder: Path, kind: str) -> Signature:
    home, name = reference.module, reference.attribute
    try:
        module = find_module(home)
    except LookupError as error:
        file = f"{home.replace('.', '/')}.py"
        hint = how_to_install(home)
        if (folder / file).is_file():
            hint = f"a part in a file is named as {file}:{name}"
        raise ReferenceRefusedError(f"{error}.", hint) from None
    found = _found(module, name)
    if not found:
        near = nearest(name, sorted(public_names(module))).removeprefix(" - ")
        hint = near or "name a class or a function that its source defines"
        raise ReferenceRefusedError(f"there is no '{name}' in {home}.", hint)
    for definition in found:
        _check_installed(definition, reference, kind)
    assert isinstance(found[0], Definition)
    return signature_of(found[0])


def public_names(module: Module, depth: int = 3) -> set[str]:
    """Return the names that may be asked for in a module, those that stars bring too."""
    names = {each for each in module.exported or module.names if not each.startswith("_")}
    for star in module.stars if depth else ():
        with suppress(LookupError):
            names |= public_names(module.origin(star), depth - 1)
    return names


def _check_installed(found: Found, reference: PackageReference, kind: str) -> None:
    """Raise a ReferenceRefusedError unless something installed is a part of a kind."""
    home, name = reference.module, reference.attribute
    if isinstance(found, Module):
        raise ReferenceRefusedError(
            f"{home}:{name} is a module.", f"name a part in it: {found.name}:NAME"
        )
    if found.module.top != home.partition(".")[0] and not _is_class_of_torch(found, kind):
        raise ReferenceRefusedError(
            f"'{name}' is not defined in {home}, but in {found.module.name}.",
            f"name it where it is defined: {found.module.name}:{name}",
        )
    is_class = isinstance(found.node, ast.ClassDef)
    is_private = any(part.startswith("_") for part in home.split("."))
    is_loss = found.module.name == "torch.nn.functional"
    if found.module.top == "torch" and not is_loss and (is_private or not is_class):
        raise ReferenceRefusedError(f"{home}:{name} is no {kind} of torch.", _WRAP)
    made = _KINDS.get(kind, MODULE if is_class and kind in _MEASURES else None)
    if isinstance(found.node, ast.FunctionDef) and _takes_what_is_supplied(found, kind):
        return
    if kind == "optimizer" and is_class and _methods(found) >= _STEPS:
        return  # as good as one, as schedulefree:ScheduleFreeWrapper is
    if made is None or not is_made_by(found, made):
        raise ReferenceRefusedError(
            f"{home}:{name} makes no {kind}, as far as its source tells.", _WRAP
        )


def _methods(found: Definition) -> set[str]:
    """Return the names of what a class and its bases define."""
    return {name for each in Family(found).classes for name in members(each)}


def _is_class_of_torch(found: Definition, kind: str) -> bool:
    """Return whether it is one that packages may hand on, as timm.optim does with AdamW."""
    made = _KINDS.get(kind)
    is_class = found.module.top == "torch" and isinstance(found.node, ast.ClassDef)
    return is_class and made is not None and is_made_by(found, made)


def _takes_what_is_supplied(found: Definition, kind: str) -> bool:
    """Return whether a function is plainly written for what a slot supplies."""
    assert isinstance(found.node, ast.FunctionDef)
    names = [each.arg for each in (*found.node.args.args, *found.node.args.kwonlyargs)]
    if kind in _MEASURES:
        return len(names) > 1 and names[1] in _SECOND and _requires_torch(found.module.top)
    wanted = _CALLED_WITH.get(kind)
    return wanted is not None and wanted <= {*names}


def _requires_torch(top: str) -> bool:
    """Return whether the distribution of a package cannot be installed without torch."""
    from importlib.metadata import PackageNotFoundError, requires  # here, for it takes time

    from deltagclip_cli.source.packages import installed

    if top == "torch":
        return True
    with suppress(PackageNotFoundError):
        return any(map(_TORCH.match, requires(installed(top).name) or ()))
    return False
