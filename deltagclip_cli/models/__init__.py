"""Models: each is built by a function of the shape of one input and the number of classes.

A builder of ours is called as ``builder(shape, classes, **options)``. What torchvision has is
called by its own convention, see :mod:`deltagclip_cli.models.torchvision_models`. Whoever wants a
model calls :func:`build` and need not know which of the two it is.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deltagclip_cli.errors import UsageError
from deltagclip_cli.models.torchvision_names import torchvision_names
from deltagclip_cli.registry import Table, load

if TYPE_CHECKING:
    from torch import nn

TABLE = Table(
    "model",
    {
        "mlp": "deltagclip_cli.models.mlp:mlp",
        "resnet18": "deltagclip_cli.models.resnet:resnet18",
        "vae": "deltagclip_cli.models.vae:vae",
        "vit_small": "deltagclip_cli.models.vit:vit_small",
        "vit_tiny": "deltagclip_cli.models.vit:vit_tiny",
        "wide_mlp": "deltagclip_cli.models.wide_mlp:wide_mlp",
    },
    # The last four are torchvision's; see torchvision_models for what they are set to.
    supplied=frozenset(
        {"shape", "classes", "num_classes", "weights", "progress", "aux_logits", "init_weights"}
    ),
    installed=torchvision_names,
    bounds={"width": {"ge": 1}, "depth": {"ge": 1}, "latent": {"ge": 1}},
)


def build(
    target: str, shape: tuple[int, ...], classes: int, options: Mapping[str, Any]
) -> nn.Module:
    """Build the model behind a target of :data:`TABLE`, on the CPU, in the default dtype.

    Args:
        target: ``"module:attribute"``, as ``TABLE.find(name)`` gives it.
        shape: of one input, ``(C, H, W)`` or ``(D,)``.
        classes: number of outputs of a classifier.
        options: of the model, by name.

    Raises:
        UsageError: the model has no such option, or does not take such inputs.
    """
    if target.startswith("torchvision."):
        external = importlib.import_module("deltagclip_cli.models.torchvision_models")
        external_model: nn.Module = external.build(target, shape, classes, options)
        return external_model
    builder = load(target)
    known = [
        name
        for name, parameter in inspect.signature(builder).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UsageError(
            f"model {builder.__name__}: unknown option {', '.join(map(repr, unknown))}.\n"
            f"  options: {', '.join(known) or 'none'}"
        )
    model: nn.Module = builder(shape, classes, **options)
    return model
