"""``deltagclip new``: a spec and a file of parts of one's own, to begin with."""

from __future__ import annotations

import shlex
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.core import UsageError, printable

_FILES = {
    "experiments.yaml": ("experiments.yaml", "what is compared, with which settings"),
    "parts.py": ("parts.py.txt", "a model, data, a loss, a metric, an optimizer"),
}
_NEXT = {
    "deltagclip train waves": "one trial: the first optimizer and seed",
    "deltagclip sweep waves": "every optimizer with every seed",
    "deltagclip compare waves --baseline adam": "which is better, how sure that is",
    "deltagclip report waves --open": "a page to send, figures for a paper",
}


def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The folder to make; . for the one you are in.")
    ],
    debug: options.Debug = False,
) -> None:
    """Write experiments.yaml and parts.py to begin with.

    They train in seconds. The model, data, loss, metric and optimizer in them are ordinary PyTorch.
    Replace any of it. Nothing that is there already is overwritten.
    """
    folder = Path(name)
    there = [folder / each for each in _FILES if (folder / each).exists()]
    if there:
        raise UsageError(
            f"{printable(' and '.join(map(str, there)))} {'are' if len(there) > 1 else 'is'} there "
            "already; nothing was written.\n  Name another folder, or move what is there."
        )
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for each, (source, _) in _FILES.items():
            text = files(__package__ or "").joinpath("starter", source).read_text("utf-8")
            with (folder / each).open("x", encoding="utf-8") as file:
                written.append(folder / each)
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise UsageError(
            f"{printable(name)}: nothing can be written there: {error.strerror}.\n"
            "  Free space or permissions there, or name another folder."
        ) from None
    width = max(len(str(path)) for path in written)
    for path in written:
        print(f"{printable(str(path)):{width}}  {_FILES[path.name][1]}")
    print("\nNext:")
    if folder.resolve() != Path.cwd():
        print(f"  cd {shlex.quote(name)}")
    for command, about in _NEXT.items():
        print(f"  {command:{max(map(len, _NEXT))}}  # {about}")
