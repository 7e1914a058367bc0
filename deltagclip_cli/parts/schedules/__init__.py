"""Learning-rate schedules: our own, and every one of ``torch.optim.lr_scheduler``."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache

from deltagclip_cli.core import Catalogue, compact
from deltagclip_cli.core.catalogue import parse_source

_TORCH = "torch.optim.lr_scheduler"

# These take Python functions or other schedulers, which a spec cannot write.
_NOT_BY_NAME = {"LRScheduler", "LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler"}


@cache
def torch_schedules() -> Mapping[str, str]:
    """torch's schedules by their lower-case class names, found without importing torch."""
    return {
        node.name.lower(): f"{_TORCH}:{node.name}"
        for node in parse_source(_TORCH).body
        if isinstance(node, ast.ClassDef)
        and not node.name.startswith("_")
        and node.name not in _NOT_BY_NAME
    }


TABLE = Catalogue(
    "schedule",
    {
        "multistep": "deltagclip_cli.parts.schedules.multistep:multistep",
        "cosine": "deltagclip_cli.parts.schedules.cosine:cosine",
    },
    supplied=frozenset({"optimizer", "periods", "warmup", "last_epoch", "verbose"}),
    installed=torch_schedules,
    spelling=compact,
)
