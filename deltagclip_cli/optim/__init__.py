"""Optimizers: δ-GClip, GClip, and by name every optimizer that torch has.

    >>> from deltagclip_cli.optim import DeltaGClip

Neither this module nor :data:`TABLE` imports torch: that happens when a class is used.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltagclip_cli.registry import Table, load

if TYPE_CHECKING:
    from deltagclip_cli.optim.delta_gclip import DeltaGClip, GClip

__all__ = ["TABLE", "DeltaGClip", "GClip"]

_CLASSES = {
    "DeltaGClip": "deltagclip_cli.optim.delta_gclip:DeltaGClip",
    "GClip": "deltagclip_cli.optim.delta_gclip:GClip",
}


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load(_CLASSES[name])


@cache
def _torch_optimizers() -> Mapping[str, str]:
    """Torch's own optimizers, read from its source: importing torch takes more than a second."""
    torch = importlib.util.find_spec("torch")
    if torch is None or torch.origin is None:
        return {}
    source = Path(torch.origin).parent / "optim" / "__init__.py"
    imports = [
        (node.module, alias.name)
        for node in ast.parse(source.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    ]
    return {
        _spelling(name): f"{module}:{name}"
        for module, name in imports
        if module.startswith("torch.optim.") and name[0].isupper() and name != "Optimizer"
    }


def _spelling(name: str) -> str:
    """``AdamW``, ``adamw`` and ``adam_w`` are one name."""
    return name.lower().replace("_", "")


TABLE = Table(
    "optimizer",
    entries={"delta_gclip": _CLASSES["DeltaGClip"], "gclip": _CLASSES["GClip"]},
    supplied=frozenset({"params"}),
    installed=_torch_optimizers,
    bounds={
        "lr": {"gt": 0},
        "gamma": {"gt": 0},
        "delta": {"ge": 0},
        "weight_decay": {"ge": 0},
        "momentum": {"ge": 0},
        "eps": {"ge": 0},
    },
    spelling=_spelling,
)
