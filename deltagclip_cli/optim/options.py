"""The options of δ-GClip: which values are allowed, and what older checkpoints lack."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from deltagclip_cli.optim.update import accumulation_dtype

NormScope = Literal["global", "group", "parameter"]

# What param_groups of a checkpoint written by an older version may lack.
_NEWER: dict[str, Any] = {
    "weight_decay": 0,
    "norm_scope": "global",
    "maximize": False,
    "foreach": None,
    "fused": None,
    "capturable": False,
    "differentiable": False,
}


def check_options(options: dict[str, Any]) -> None:
    """Refuse what δ-GClip cannot work with, by name and value."""
    lr = options["lr"]
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError(f"A tensor lr should have one element but has shape {tuple(lr.shape)}")
    for name in ("lr", "gamma", "delta", "weight_decay"):
        value = options[name]
        if isinstance(value, Tensor):
            value = value.detach().item()
        above_zero = name == "gamma"
        if not (value > 0 if above_zero else value >= 0) or not math.isfinite(value):
            limit = "> 0" if above_zero else ">= 0"
            raise ValueError(f"{name} should be {limit} and finite but is: {value}")
    scopes = get_args(NormScope)
    if options["norm_scope"] not in scopes:
        raise ValueError(f"norm_scope should be one of {scopes} but is: {options['norm_scope']!r}")
    exclusive = [name for name in ("foreach", "fused", "differentiable") if options[name]]
    if len(exclusive) > 1:
        raise RuntimeError(f"{' and '.join(exclusive)} cannot be True together")


def check_same_scope(scope: str, scope_of_group: str | None) -> None:
    """Refuse a parameter group that asks for another scope than the optimizer has."""
    if scope_of_group not in (None, scope):
        raise ValueError(
            f"norm_scope belongs to the whole optimizer, where it is {scope!r}, "
            f"but a parameter group has: {scope_of_group!r}"
        )


def fill_in(group: dict[str, Any]) -> None:
    """Complete a parameter group that an older version has written."""
    for name, value in _NEWER.items():
        group.setdefault(name, value)


def place_lr(group: dict[str, Any]) -> None:
    """Keep the rate of a capturable group where a captured graph can read it."""
    if group["capturable"] and group["params"]:
        first = group["params"][0]
        dtype = accumulation_dtype(first.dtype.to_real())
        group["lr"] = torch.as_tensor(group["lr"], dtype=dtype, device=first.device)
