"""Hyperparameters in files that tools write beside the log of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from deltagclip_cli.core import read_file
from deltagclip_cli.spec.document import parse

if TYPE_CHECKING:
    from deltagclip_cli.results.read.run import Option

_OPTION_FILES = (
    ".hydra/overrides.yaml",  # what was said on Hydra's command line
    "hparams.yaml",  # Lightning
    "params.json",  # Ray Tune
    ".guild/attrs/flags",  # Guild AI
    *("config.yaml", "config.json", "args.yaml", "args.json"),  # everybody's own
)
_MOST_BYTES = 1_000_000


def side_options(run: Path, root: Path) -> dict[str, Option]:
    """Return the hyperparameters that tools put into a run's folder, or above it below ``root``."""
    folders = [run, *(folder for folder in run.parents if root in folder.parents)]
    options: dict[str, Option] = {}
    for folder in folders:
        for name in _OPTION_FILES:
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
            yield from flat(data)


def flat(data: Mapping[Any, Any], above: str = "") -> Iterator[tuple[str, Option]]:
    """Yield hyperparameters that may be nested, by their dotted names."""
    for key, value in data.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from flat(value, f"{name}.")
        elif isinstance(value, str | bool | float):
            yield name, value
        elif isinstance(value, int):
            yield name, float(value) if abs(value) < 2**53 else str(value)
