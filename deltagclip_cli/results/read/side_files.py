"""Hyperparameters that tools write into files of their own beside the event files of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from deltagclip_cli.core import read_file
from deltagclip_cli.results.read.events import Option
from deltagclip_cli.spec.nodes import parse

_FILES = (
    ".hydra/overrides.yaml",  # what was said on Hydra's command line
    "hparams.yaml",  # Lightning
    "params.json",  # Ray Tune
    ".guild/attrs/flags",  # Guild AI
)
_MOST_BYTES = 1_000_000


def side_options(run: Path, root: Path) -> dict[str, Option]:
    """What the files say that lie in the folder of a run, or in one above it.

    Args:
        run: the folder of the run.
        root: the folder that was searched; what lies in it is of all runs below it.
    """
    folders = [run, *(folder for folder in run.parents if root in folder.parents)]
    options: dict[str, Option] = {}
    for folder in folders:
        for name in _FILES:
            options = dict(_told(folder / name)) | options
    return options


def _told(file: Path) -> Iterator[tuple[str, Option]]:
    """The hyperparameters in a file; none if it is not there, or is something else."""
    with suppress(OSError, ValueError, yaml.YAMLError):
        data = parse(read_file(file, _MOST_BYTES).decode("utf-8"))
        if isinstance(data, list):  # key=value, with + or ++ for one that is new
            words = (str(each).lstrip("+").partition("=") for each in data)
            yield from ((key, value) for key, equals, value in words if equals)
        elif isinstance(data, Mapping):
            yield from _flat(data)


def _flat(data: Mapping[Any, Any], above: str = "") -> Iterator[tuple[str, Option]]:
    for key, value in data.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, str | bool | float):
            yield name, value
        elif isinstance(value, int):
            yield name, float(value) if abs(value) < 2**53 else str(value)
