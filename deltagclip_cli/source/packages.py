"""Installed packages: which version of which there is, and which of them somebody is editing."""

from __future__ import annotations

import importlib.util
import json
import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib.metadata import (
    Distribution,
    PackageNotFoundError,
    distribution,
    packages_distributions,
)
from pathlib import Path

from deltagclip_cli.core import UsageError, nearest

_SITES = {"site-packages", "dist-packages"}
_DIGITS = 12
_OURS = __name__.partition(".")[0]

# What pip calls packages that have optimizers or models. Of no other name is it sure that what pip
# would install by it is what was meant.
_KNOWN_TO_PIP = {
    "bitsandbytes": "bitsandbytes",
    "dadaptation": "dadaptation",
    "datasets": "datasets",
    "heavyball": "heavyball",
    "lion_pytorch": "lion-pytorch",
    "prodigyopt": "prodigyopt",
    "pytorch_optimizer": "pytorch-optimizer",
    "schedulefree": "schedulefree",
    "timm": "timm",
    "torch_optimizer": "torch-optimizer",
    "torchvision": "torchvision",
    "transformers": "transformers",
}


@dataclass(frozen=True)
class Installed:
    """A top-level package.

    Args:
        name: that of its distribution.
        version: that of its distribution, with the commit or the hash of one that comes from no
            index; None if only its files tell: it is editable, or no distribution has it.
        root: the folder in which it lies.
    """

    name: str
    version: str | None
    root: Path


def installed(module: str) -> Installed:
    """Return the package that a module belongs to.

    Raises:
        UsageError: it is not installed.
    """
    top = module.partition(".")[0]
    root = _root_of(top)
    if root is None:
        raise UsageError(f"the package {top} is not installed.")
    found = _distribution_of(top) if _is_site(root) else None
    version = None if found is None else _version_of(found)
    return Installed(top if found is None else found.metadata["Name"], version, root)


def how_to_install(module: str) -> str:
    """Return what to do about a module that is not there: install its package, or its right name.

    Without a full stop. If the package is installed, it names modules of a near name.
    """
    top = module.partition(".")[0]
    root = _root_of(top)
    if root is not None:
        beside = root.joinpath(*module.split(".")[:-1])
        names = [each.stem for each in beside.glob("[!_]*") if each.stem.isidentifier()]
        near = nearest(module.rpartition(".")[2], sorted(names))
        return near.removeprefix(" - ") or "correct the name"
    if top in _KNOWN_TO_PIP:
        return f"pip install {_KNOWN_TO_PIP[top]}"
    near = nearest(top, sorted({*_KNOWN_TO_PIP, *_top_levels()}))
    return f"install it, or correct the name{near}"


def _top_levels() -> set[str]:
    """Return the names of all packages that can be imported."""
    return {each.name for each in pkgutil.iter_modules() if not each.name.startswith("_")}


@cache
def edited_root(top: str) -> Path | None:
    """Return the folder of a package that lies among no installed ones, as editable ones do."""
    root = None if top == _OURS else _root_of(top)
    return None if root is None or _is_site(root) else root


def _is_site(folder: Path) -> bool:
    return bool(_SITES & {*folder.parts})


def _root_of(top: str) -> Path | None:
    try:
        found = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if found is None:
        return None
    places = list(found.submodule_search_locations or [])
    if places:
        return Path(places[0]).parent
    return Path(found.origin).parent if found.has_location and found.origin else None


def _distribution_of(top: str) -> Distribution | None:
    try:
        return distribution(top)
    except PackageNotFoundError:  # it has another name, which takes much longer to find out
        names = packages_distributions().get(top)
        return distribution(names[0]) if names else None


def _version_of(found: Distribution) -> str | None:
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    commit = origin.get("vcs_info", {}).get("commit_id")
    exact = commit or origin.get("archive_info", {}).get("hashes", {}).get("sha256")
    if exact:
        return f"{found.version}@{exact[:_DIGITS]}"
    return None if origin else found.version
