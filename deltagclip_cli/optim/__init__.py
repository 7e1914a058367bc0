"""Optimizers: δ-GClip, GClip, and by name the optimizers that torch has.

    >>> from deltagclip_cli.optim import DeltaGClip

Neither this module nor :data:`TABLE` imports torch: that happens when a class is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import Catalogue, compact, load_target

if TYPE_CHECKING:
    from deltagclip_cli.optim.delta_gclip import DeltaGClip, GClip

__all__ = ["TABLE", "DeltaGClip", "GClip"]

_CLASSES = {
    "DeltaGClip": "deltagclip_cli.optim.delta_gclip:DeltaGClip",
    "GClip": "deltagclip_cli.optim.delta_gclip:GClip",
}
# The first is the base of all others; the second takes sparse gradients only, and no model here
# has any.
_NOT_BY_NAME = ("Optimizer", "SparseAdam")


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load_target(_CLASSES[name])


def _of_torch() -> Mapping[str, str]:
    from deltagclip_cli.source.signatures import classes_in  # of which the classes need nothing

    return classes_in("torch.optim", *_NOT_BY_NAME)


TABLE = Catalogue(
    "optimizer",
    entries={
        "delta_gclip": _CLASSES["DeltaGClip"],
        "gclip": _CLASSES["GClip"],
        "muon_adamw": "deltagclip_cli.optim.muon_adamw:MuonAdamW",
    },
    supplied=frozenset({"params"}),
    offered=frozenset({"model", "epochs", "steps"}),
    positional=1,
    installed=_of_torch,
    bounds={
        "delta_gclip.gamma": {"gt": 0},
        "delta_gclip.delta": {"ge": 0, "le": 1},
        "gclip.gamma": {"gt": 0},
        "lr": {"gt": 0},
        "weight_decay": {"ge": 0},
        "momentum": {"ge": 0},
        "eps": {"ge": 0},
    },
    words={"lr": "auto"},
    spelling=compact,
)
